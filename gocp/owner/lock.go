package owner

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// refreshEvery is the time between two signs of life.
const refreshEvery = 15 * time.Second

// Silent is how long nothing is heard of a holder before it no longer seems to be at work.
const Silent = 8 * refreshEvery

// Options of Take.
type Options struct {
	Life          // of this process, if a batch system started it
	TakeOver bool // from a holder who is not dead for certain, too
}

// Holder is who has a lock.
type Holder struct {
	Owner
	Silent time.Duration // since its last sign of life
	Dead   bool          // for certain
}

// AtWork tells whether the holder seems to live.
func (h Holder) AtWork() bool { return !h.Dead && h.Silent < Silent }

// String names h in a sentence.
func (h Holder) String() string {
	s := h.Owner.String()
	if h.Silent > Silent {
		s += fmt.Sprintf(", last heard of %v ago", h.Silent.Round(time.Second))
	}
	return s
}

// Held is Take's error where somebody else has the lock. It is a usage error.
type Held struct {
	Name string
	Holder
}

func (h *Held) Error() string { return fmt.Sprintf("%s has it", h.Holder) }

// Lock is a lock that this process has.
type Lock struct {
	dir, name  string
	generation int
	me         Owner

	quit chan struct{}
	wg   sync.WaitGroup
	lost chan struct{}
	once sync.Once
}

// generation is a file of a lock.
type generation struct {
	number int
	path   string
	Holder
}

// tries bounds how often a lock that others let go of meanwhile is tried.
const tries = 20

// Take takes the lock name of the folder dir, which must exist. Somebody else's is a *Held.
func Take(dir, name string, o Options) (*Lock, error) {
	l := &Lock{dir: dir, name: name, me: self(), quit: make(chan struct{}), lost: make(chan struct{})}
	l.me.Life = o.Life
	var token [8]byte
	if _, err := rand.Read(token[:]); err != nil {
		return nil, err
	}
	l.me.Token = hex.EncodeToString(token[:])
	content, err := strictjson.Marshal(l.me)
	if err != nil {
		return nil, err
	}
	own := filepath.Join(dir, "."+name+"-"+l.me.Token)
	if err := atomicfile.WriteBytes(own, append(content, '\n')); err != nil {
		return nil, err
	}
	err = l.take(own, o.TakeOver)
	if removed := os.Remove(own); err == nil {
		err = removed
	}
	if err != nil {
		return nil, err
	}
	l.wg.Go(l.refresh)
	return l, nil
}

// take links own to the next generation, and holds the lock when it is the highest.
func (l *Lock) take(own string, takeOver bool) error {
	passes := func(h Holder) bool { return h.Dead || h.earlier(l.me) || takeOver }
	var held error
	for try := range tries {
		if try > 0 { // two who withdrew from each other come back at different times
			time.Sleep(time.Duration(l.me.PID%13+5*try) * time.Millisecond)
		}
		all, err := generations(l.dir, l.name, l.me)
		if err != nil {
			return err
		}
		next := 1
		if n := len(all); n > 0 {
			next = all[n-1].number + 1
		}
		if i := slices.IndexFunc(all, func(g generation) bool { return !passes(g.Holder) }); i >= 0 {
			return &Held{l.name, all[i].Holder}
		}
		mine := filepath.Join(l.dir, fmt.Sprintf("%s.%d", l.name, next))
		err = os.Link(own, mine)
		if unlinkable(err) { // a file system without links, which no NFS is
			err = copyNew(own, mine)
		}
		// On NFS the answer may be lost of a link that was made: what counts is what is there.
		if b, read := os.ReadFile(mine); read != nil || !strings.Contains(string(b), l.me.Token) {
			if err != nil && !errors.Is(err, fs.ErrExist) && errors.Is(read, fs.ErrNotExist) {
				return atomicfile.Explain(mine, err)
			}
			continue
		}
		if all, err = generations(l.dir, l.name, l.me); err != nil {
			return errors.Join(err, os.Remove(mine))
		}
		held = nil
		for _, g := range all {
			if g.Token != l.me.Token && (g.number > next || !passes(g.Holder)) {
				held = &Held{l.name, g.Holder}
			}
		}
		if held != nil {
			if err := os.Remove(mine); err != nil {
				return err
			}
			continue
		}
		for _, g := range all {
			if g.Token != l.me.Token {
				_ = os.Remove(g.path) // who reads it next finds the one that is mine
			}
		}
		l.generation = next
		return nil
	}
	if held == nil {
		held = fmt.Errorf("owner: %s: the lock %s is taken and let go of without end", l.dir, l.name)
	}
	return held
}

func unlinkable(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EMLINK)
}

// copyNew makes a file that must not be there yet.
func copyNew(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// generations lists those of a lock that are there, the highest last.
func generations(dir, name string, me Owner) ([]generation, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []generation
	var now time.Time
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), name+".")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil {
			continue
		}
		g := generation{number: n, path: filepath.Join(dir, e.Name())}
		b, err := os.ReadFile(g.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // let go of since
		}
		if err != nil {
			return nil, err
		}
		if strictjson.Unmarshal(b, &g.Owner) != nil {
			g.Owner = Owner{Host: "an unknown machine"} // who wrote it cannot be told: it may live
		}
		if g.Token != me.Token {
			if now.IsZero() {
				now = serverNow(dir)
			}
			g.Dead = g.dead(me)
			if info, err := os.Stat(g.path); err == nil {
				g.Silent = max(now.Sub(info.ModTime()), 0)
			}
		}
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b generation) int { return a.number - b.number })
	return out, nil
}

// serverNow is the time as the file system of dir has it, this machine's where nothing can be written.
func serverNow(dir string) time.Time {
	f, err := os.CreateTemp(dir, ".now-")
	if err != nil {
		return time.Now()
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	info, err := f.Stat()
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

// Look says who has the lock name of dir; ok is false where nobody has, not even a dead one.
func Look(dir, name string) (h Holder, ok bool, err error) {
	all, err := generations(dir, name, self())
	if err != nil || len(all) == 0 {
		return h, false, err
	}
	return all[len(all)-1].Holder, true, nil
}

// refresh gives signs of life until the lock is let go of or lost.
func (l *Lock) refresh() {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-tick.C:
			l.sign()
			if l.Check() != nil {
				return
			}
		}
	}
}

// sign sets the time of this process's file to the file server's now.
func (l *Lock) sign() {
	now := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_NOW}}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, l.path(), now, 0)
}

func (l *Lock) path() string { return filepath.Join(l.dir, fmt.Sprintf("%s.%d", l.name, l.generation)) }

// Lost is closed when somebody else has taken the lock over.
func (l *Lock) Lost() <-chan struct{} { return l.lost }

// Check reports whether somebody else has taken the lock over.
func (l *Lock) Check() error {
	all, err := generations(l.dir, l.name, l.me)
	if err != nil {
		return err
	}
	for _, g := range all {
		if g.number > l.generation && g.Token != l.me.Token {
			l.once.Do(func() { close(l.lost) })
			return fmt.Errorf("%s took over the work of this process", g.Owner)
		}
	}
	return nil
}

// Release lets go of the lock.
func (l *Lock) Release() error {
	close(l.quit)
	l.wg.Wait()
	err := os.Remove(l.path())
	if errors.Is(err, fs.ErrNotExist) { // a new owner removed it
		err = nil
	}
	return err
}

// Refuse is the usage error for a folder, what, that somebody else works in.
func Refuse(what string, h Holder, flag string) error {
	if h.AtWork() {
		return usage.Errorf("%s: another gocp is at work in this folder (%s); wait until it ends", what, h)
	}
	return usage.Errorf("%s: another gocp was at work in this folder (%s), and whether it still is can't be told from here; if it is not, %s takes over", what, h, flag)
}
