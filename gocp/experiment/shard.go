package experiment

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gocp/gocp/gocp/owner"
	"github.com/gocp/gocp/gocp/usage"
)

// The stages of an audit's work. Poisons are crafted on benign models, victims are trained on poisons.
const (
	StageBenign  = "benign"
	StagePoisons = "poisons"
	StageVictims = "victims"
)

// Stages lists them in order.
func Stages() []string { return []string{StageBenign, StagePoisons, StageVictims} }

// A Shard is one of several processes that share the jobs of an audit: of every stage the jobs number
// Index, Index + Of, …. Its zero value has all of them.
type Shard struct {
	Index int
	Of    int
	Stage string // the only one that it works at; "": all
}

// Validate reports what is wrong with s, as a usage error.
func (s Shard) Validate() error {
	switch {
	case s.Of < 1 || s.Index < 0 || s.Index >= s.Of:
		return usage.Errorf("shard %d/%d: shards are counted from 0, and there is at least one", s.Index, s.Of)
	case s.Of > mostVictims:
		return usage.Errorf("shard %d/%d: there can be at most %d", s.Index, s.Of, mostVictims)
	case s.Stage != "" && !slices.Contains(Stages(), s.Stage):
		return usage.Errorf("unknown stage %q (known: %s)", s.Stage, strings.Join(Stages(), ", "))
	}
	return nil
}

// whole tells whether s is no shard but all of the work.
func (s Shard) whole() bool { return s.Of == 0 }

// has tells whether job number i of a stage is one of s.
func (s Shard) has(stage string, i int) bool {
	return s.whole() || (s.Stage == "" || s.Stage == stage) && i%s.Of == s.Index
}

// allStages is what names the shards of all stages.
const allStages = "all"

// name is that of the shard's files and of its lock.
func (s Shard) name() string {
	if s.whole() {
		return wholeLock
	}
	stage := s.Stage
	if stage == "" {
		stage = allStages
	}
	return fmt.Sprintf("%s-%d-of-%d", stage, s.Index, s.Of)
}

func (s Shard) String() string {
	if s.Stage == "" {
		return fmt.Sprintf("shard %d/%d", s.Index, s.Of)
	}
	return fmt.Sprintf("shard %d/%d of stage %s", s.Index, s.Of, s.Stage)
}

// shardNamed reads a name; ok is false for one that is none.
func shardNamed(name string) (s Shard, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 4 || parts[2] != "of" {
		return s, false
	}
	if s.Stage = parts[0]; s.Stage == allStages {
		s.Stage = ""
	}
	var errs [2]error
	s.Index, errs[0] = strconv.Atoi(parts[1])
	s.Of, errs[1] = strconv.Atoi(parts[3])
	return s, errors.Join(errs[:]...) == nil && s.Validate() == nil
}

// clashes tells whether two shards could have the same job and are not the same.
func (s Shard) clashes(o Shard) bool {
	return (s.Stage == "" || o.Stage == "" || s.Stage == o.Stage) && (s.Of != o.Of || s.Index == o.Index && s.Stage != o.Stage)
}

// Unfinished is the error of work that waits for jobs of others, or that others have not done.
type Unfinished struct {
	Dir     string
	Missing []string // the jobs' names
	Shard   Shard    // who waits for them; the zero value: nobody, all of the run is meant
}

// namedMissing is how many missing jobs an error names.
const namedMissing = 8

func (u *Unfinished) Error() string {
	names := strings.Join(u.Missing[:min(len(u.Missing), namedMissing)], ", ")
	if more := len(u.Missing) - namedMissing; more > 0 {
		names += fmt.Sprintf(" and %d more", more)
	}
	if u.Shard.whole() {
		return fmt.Sprintf("%s is not finished: of its jobs, %d are missing: %s", u.Dir, len(u.Missing), names)
	}
	return fmt.Sprintf("%s: %s has done what it could and waits for jobs that no shard is at work on: %s; run those, then this one again", u.Dir, u.Shard, names)
}

// pollEvery is the time between two looks for what other shards have done.
var pollEvery = 2 * time.Second

const (
	ownersDir = "owners"
	wholeLock = "run"
)

// lock takes the folder's lock for a shard or the whole, and sees that nobody is at work whom it would
// disturb.
func lock(dir string, o Options) (*owner.Lock, error) {
	owners := dir + "/" + ownersDir
	take := func(name string) (l *owner.Lock, err error) {
		for range 5 { // who lets go of the last lock removes their folder
			if err := os.MkdirAll(owners, 0o777); err != nil {
				return nil, usage.Errorf("run folder: %w", err)
			}
			if l, err = owner.Take(owners, name, owner.Options{Life: o.Life, TakeOver: o.TakeOver}); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		var held *owner.Held
		if errors.As(err, &held) {
			return nil, inUse(dir, held.Name, held.Holder)
		}
		return l, err
	}
	l, err := take(o.Shard.name())
	if err != nil {
		return nil, err
	}
	others, err := locks(dir)
	for _, name := range others {
		if err != nil {
			break
		}
		other, isShard := shardNamed(name)
		switch {
		case name == o.Shard.name():
		case o.Shard.whole(): // takes every shard's for a moment: a living one is refused, or learns that it has lost it
			var theirs *owner.Lock
			if theirs, err = take(name); err == nil {
				err = theirs.Release()
			}
		case name == wholeLock || isShard && o.Shard.clashes(other):
			h, ok, look := owner.Look(owners, name)
			if err = look; err == nil && ok && !h.Dead && !o.TakeOver {
				err = inUse(dir, name, h)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, unlock(dir, l))
	}
	return l, nil
}

// locks lists the names of a folder's locks that somebody has, dead or not.
func locks(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir + "/" + ownersDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("run folder: %w", err)
	}
	var names []string
	for _, e := range entries {
		name, generation, ok := strings.Cut(e.Name(), ".")
		if _, err := strconv.Atoi(generation); ok && err == nil && name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func unlock(dir string, l *owner.Lock) error {
	err := l.Release()
	_ = os.Remove(dir + "/" + ownersDir) // if it was the last
	return err
}

// inUse is the error for a folder that somebody else works in.
func inUse(dir, name string, h owner.Holder) error {
	what := dir
	if s, ok := shardNamed(name); ok {
		what = fmt.Sprintf("%s, %s", dir, s)
	}
	return owner.Refuse(what, h, "--take-over")
}

// worksOn tells whether a shard other than s seems to be at work that has job number i of a stage.
func worksOn(dir string, s Shard, stage string, i int) (bool, error) {
	names, err := locks(dir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		o, ok := shardNamed(name)
		if !ok || o == s || !o.has(stage, i) {
			continue
		}
		if h, held, err := owner.Look(dir+"/"+ownersDir, name); err != nil {
			return false, err
		} else if held && h.AtWork() {
			return true, nil
		}
	}
	return false, nil
}
