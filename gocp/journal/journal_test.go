package journal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *Journal {
	t.Helper()
	j, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func wrote(t *testing.T, j *Journal, files ...string) {
	t.Helper()
	if err := j.Wrote(files...); err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsSeen(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	for _, name := range []string{"whole", "cut", "empty", "flipped", "gone"} {
		put(t, dir, name, "0123456789")
		wrote(t, j, name)
	}
	put(t, dir, "late", "written, but the process was killed before its line")
	put(t, dir, "cut", "01234")
	put(t, dir, "empty", "")
	put(t, dir, "flipped", "0123456788")
	if err := os.Remove(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	back, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"whole": "", "cut": "has 5 bytes, and had 10", "empty": "has 0 bytes",
		"flipped": "not those that were written", "gone": "it is gone", "late": ErrUnknown.Error()} {
		err := back.Check(name)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", name, err, want)
		case back.Whole(name) != (want == ""):
			t.Errorf("%s: whole is %v", name, back.Whole(name))
		}
	}
	if got := strings.Join(back.Files("f"), " "); got != "flipped" {
		t.Errorf("files under f: %s", got)
	}
}

// Wherever a killed process stopped writing, the lines before are read and the next stands alone.
func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "first")
	put(t, dir, "b", "second")
	j := open(t, dir)
	wrote(t, j, "a")
	one, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	wrote(t, j, "b")
	both, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for cut := len(one); cut <= len(both); cut++ {
		put(t, dir, File, string(both[:cut]))
		j := open(t, dir)
		if j.Check("a") != nil {
			t.Fatalf("cut at %d: the whole line is lost", cut)
		}
		complete := cut >= len(both)-1 // the line without its end is a line
		if got := j.Check("b"); (got == nil) != complete {
			t.Fatalf("cut at %d of %d: b: %v", cut, len(both), got)
		}
		wrote(t, j, "b")
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		back, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if back.Check("a") != nil || back.Check("b") != nil {
			t.Fatalf("cut at %d: what was appended is not read back", cut)
		}
	}
}

// A bit that flips in the journal never makes a file pass that it did not describe.
func TestFlippedBitOfTheJournal(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "first")
	put(t, dir, "c", "third") // a flip turns a into c
	j := open(t, dir)
	wrote(t, j, "a")
	good, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for bit := range 8 * len(good) {
		bad := []byte(string(good))
		bad[bit/8] ^= 1 << (bit % 8)
		put(t, dir, File, string(bad))
		back, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if back.Check("c") == nil {
			t.Fatalf("bit %d: c passes, which has no line", bit)
		}
		if back.Check("a") == nil {
			known++
		}
	}
	if known > len(good)/2 { // the case of a field's name, a blank for the end of the line: nothing that counts
		t.Errorf("%d of %d flips leave the line as good as it was", known, 8*len(good))
	}
}

func TestSameBytesAgain(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "first")
	j := open(t, dir)
	wrote(t, j, "a")
	wrote(t, j, "a")
	put(t, dir, "a", "other")
	if err := j.Wrote("a"); err == nil || !strings.Contains(err.Error(), "other bytes than the first time") {
		t.Errorf("other bytes: %v", err)
	}
	if err := j.Replaced("a"); err != nil || j.Check("a") != nil {
		t.Errorf("replaced: %v", err)
	}
}

// Shards know what the others have noted, write to files of their own, and are joined by who opens the whole.
func TestShards(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no journal: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, Shards), 0o777); err != nil {
		t.Fatal(err)
	}
	shard := func(name string) *Journal {
		t.Helper()
		j, err := OpenShard(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = j.Close() })
		return j
	}
	zero, one := shard("0-of-2"), shard("1-of-2")
	put(t, dir, "a", "first")
	wrote(t, zero, "a")
	put(t, dir, "b", "second")
	wrote(t, one, "b")
	if err := one.Check("a"); !errors.Is(err, ErrUnknown) {
		t.Errorf("before it is read again: %v", err)
	}
	if err := one.Reread(); err != nil {
		t.Fatal(err)
	}
	if err := one.Check("a"); err != nil {
		t.Errorf("another shard's file: %v", err)
	}
	// An earlier life of shard 0 writes on: to a file without a name.
	again := shard("0-of-2")
	put(t, dir, "c", "third")
	wrote(t, zero, "c")
	back, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Check("c"); !errors.Is(err, ErrUnknown) {
		t.Errorf("what the earlier life notes: %v", err)
	}
	wrote(t, again, "c")
	all := open(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, Shards)); err != nil {
		t.Fatal(err)
	}
	if back, err = Read(dir); err != nil {
		t.Fatal(err)
	}
	for _, j := range []*Journal{all, back} {
		if got := strings.Join(j.Files(""), " "); got != "a b c" {
			t.Errorf("joined: %s", got)
		}
	}
}

func TestBegin(t *testing.T) {
	dir := t.TempDir()
	j := open(t, dir)
	if err := j.Begin("config.json", []byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	if err := j.Check("config.json"); err == nil || j.Whole("config.json") {
		t.Errorf("before it is written: %v", err)
	}
	put(t, dir, "config.json", "{}\n")
	if err := j.Check("config.json"); err != nil {
		t.Error(err)
	}
}
