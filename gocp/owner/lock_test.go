package owner

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/strictjson"
)

// The test binary takes a lock and waits where this names a folder.
const asHolder = "GOCP_TEST_HOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asHolder); dir != "" {
		if _, err := Take(dir, "run", Options{}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("taken")
		select {}
	}
	os.Exit(m.Run())
}

// elsewhere is a process that has the lock of dir.
func elsewhere(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asHolder+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "taken\n" {
		t.Fatalf("the other process: %q", line)
	}
	return cmd
}

func take(t *testing.T, dir string, o Options) *Lock {
	t.Helper()
	l, err := Take(dir, "run", o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, e := range entries {
		s = append(s, e.Name())
	}
	return strings.Join(s, " ")
}

func TestOneHolder(t *testing.T) {
	dir := t.TempDir()
	cmd := elsewhere(t, dir)
	_, err := Take(dir, "run", Options{})
	var held *Held
	if !errors.As(err, &held) || held.PID != cmd.Process.Pid || !held.AtWork() || !strings.Contains(err.Error(), fmt.Sprintf("process %d on ", cmd.Process.Pid)) {
		t.Fatalf("held by another process: %v", err)
	}
	other, err := Take(dir, "shard", Options{})
	if err != nil {
		t.Fatalf("a lock of another name: %v", err)
	}
	if err := other.Release(); err != nil {
		t.Error(err)
	}
	// Killed, it is dead for certain, even while its parent has not asked for it.
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if h, ok, err := Look(dir, "run"); err != nil || !ok {
			t.Fatal(ok, err)
		} else if h.Dead {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	l := take(t, dir, Options{})
	if got := names(t, dir); got != "run.2" {
		t.Errorf("the folder holds %q", got)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); got != "" {
		t.Errorf("after letting go the folder holds %q", got)
	}
}

// put writes a lock as another process would have.
func put(t *testing.T, dir string, number int, o Owner, heard time.Duration) {
	t.Helper()
	b, err := strictjson.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, fmt.Sprintf("run.%d", number))
	if err := os.WriteFile(file, b, 0o666); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(-heard)
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestWhoIsDead(t *testing.T) {
	me := self()
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	of := func(change func(o *Owner)) Owner {
		o := me
		o.Token, o.PID, o.Start = "other", gone.Process.Pid, 1
		change(&o)
		return o
	}
	for _, c := range []struct {
		what  string
		owner Owner
		mine  Life
		taken bool
	}{
		{"a process that is gone", of(func(*Owner) {}), Life{}, true},
		{"a process id that another process has now", of(func(o *Owner) { o.PID, o.Start = os.Getpid(), me.Start+1 }), Life{}, true},
		{"a process that lives", of(func(o *Owner) { o.PID, o.Start = os.Getpid(), me.Start }), Life{}, false},
		{"another machine", of(func(o *Owner) { o.Host = "elsewhere" }), Life{}, false},
		{"another start of the machine", of(func(o *Owner) { o.Boot = "before" }), Life{}, false},
		{"another container", of(func(o *Owner) { o.Space = "pid:[1]" }), Life{}, false},
		{"nothing is known of it", Owner{PID: gone.Process.Pid}, Life{}, false},
		{"an earlier life elsewhere", of(func(o *Owner) { o.Host, o.Life = "elsewhere", Life{"7_1", 0} }), Life{"7_1", 1}, true},
		{"a later life", of(func(o *Owner) { o.Host, o.Life = "elsewhere", Life{"7_1", 2} }), Life{"7_1", 1}, false},
		{"another task", of(func(o *Owner) { o.Host, o.Life = "elsewhere", Life{"7_2", 0} }), Life{"7_1", 1}, false},
	} {
		dir := t.TempDir()
		put(t, dir, 3, c.owner, time.Hour)
		l, err := Take(dir, "run", Options{Life: c.mine})
		if (err == nil) != c.taken {
			t.Errorf("%s: %v", c.what, err)
		}
		if err != nil {
			if l, err = Take(dir, "run", Options{TakeOver: true}); err != nil {
				t.Fatalf("%s, by the flag: %v", c.what, err)
			}
		}
		if got := names(t, dir); got != "run.4" {
			t.Errorf("%s: the folder holds %q", c.what, got)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
}

func TestSilent(t *testing.T) {
	dir := t.TempDir()
	o := self()
	o.Host, o.Token = "elsewhere", "other"
	put(t, dir, 1, o, time.Second)
	if h, ok, err := Look(dir, "run"); err != nil || !ok || !h.AtWork() {
		t.Errorf("heard of a second ago: %v %v %v", h, ok, err)
	}
	put(t, dir, 1, o, 2*Silent)
	h, ok, err := Look(dir, "run")
	if err != nil || !ok || h.AtWork() || !strings.Contains(h.String(), "last heard of 4m") {
		t.Errorf("heard of long ago: %v %v %v", h, ok, err)
	}
}

func TestLost(t *testing.T) {
	dir := t.TempDir()
	l := take(t, dir, Options{Life: Life{"7_1", 0}})
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	next := take(t, dir, Options{Life: Life{"7_1", 1}})
	if err := l.Check(); err == nil || !strings.Contains(err.Error(), "task 7_1") {
		t.Errorf("taken over: %v", err)
	}
	select {
	case <-l.Lost():
	default:
		t.Error("the one that lost it is not told")
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
	if err := next.Check(); err != nil {
		t.Errorf("the new owner, after the old one let go: %v", err)
	}
	if err := next.Release(); err != nil {
		t.Error(err)
	}
}

// Many who want it at once, with and without a dead one before them: at no time do two have it.
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	dead := self()
	dead.Token, dead.Start = "other", 1
	put(t, dir, 5, dead, 0)
	var inside, had, refused atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				l, err := Take(dir, "run", Options{})
				if err != nil {
					var held *Held
					if !errors.As(err, &held) {
						t.Error(err)
					}
					refused.Add(1)
					continue
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d have it", n)
				}
				had.Add(1)
				time.Sleep(time.Millisecond)
				inside.Add(-1)
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if had.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d had it, %d were refused", had.Load(), refused.Load())
	}
}
