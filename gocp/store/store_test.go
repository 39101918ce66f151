package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

func begin(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func key(t *testing.T, v any) string {
	t.Helper()
	k, err := Key(v)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func put(t *testing.T, dir string, files map[string]string) []string {
	t.Helper()
	var names []string
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTakenAsPut(t *testing.T) {
	s, from, to := begin(t), t.TempDir(), t.TempDir()
	k := key(t, map[string]int{"seed": 1})
	if names, err := s.Take(k, to); names != nil || err != nil || s.Has(k) {
		t.Fatalf("an empty store gave %v, %v", names, err)
	}
	names := put(t, from, map[string]string{"models/a": "first", "after/0001.png": "second"})
	if err := s.Put(k, from, names...); err != nil {
		t.Fatal(err)
	}
	put(t, to, map[string]string{"models/a": "a damaged one"})
	got, err := s.Take(k, to)
	if slices.Sort(names); err != nil || !slices.Equal(got, names) || !s.Has(k) {
		t.Fatalf("took %v, %v", got, err)
	}
	if a, b := text(t, filepath.Join(to, "models/a")), text(t, filepath.Join(to, "after/0001.png")); a != "first" || b != "second" {
		t.Errorf("took %q and %q", a, b)
	}
	if key(t, map[string]int{"seed": 2}) == k {
		t.Error("two values have one key")
	}
	left, _ := filepath.Glob(filepath.Join(s.dir, partPrefix+"*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestOtherBytesUnderOneKey(t *testing.T) {
	s, from := begin(t), t.TempDir()
	k := key(t, 1)
	names := put(t, from, map[string]string{"a": "first"})
	for range 2 {
		if err := s.Put(k, from, names...); err != nil {
			t.Fatal(err)
		}
	}
	other := t.TempDir()
	put(t, other, map[string]string{"a": "fIrst"})
	if err := s.Put(k, other, "a"); err == nil || !strings.Contains(err.Error(), "holds other bytes") {
		t.Errorf("%v", err)
	}
}

func TestDamagedEntryIsDropped(t *testing.T) {
	for what, damage := range map[string]func(dir string) error{
		"a file's bit":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "a"), []byte("fIrst"), 0o666) },
		"a file is gone": func(dir string) error { return os.Remove(filepath.Join(dir, "a")) },
		"the list":       func(dir string) error { return os.Truncate(filepath.Join(dir, contentsFile), 20) },
		"a way out": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, contentsFile), []byte(`{"schema":1,"files":[{"file":"../x","size":1,"sha256":""}]}`), 0o666)
		},
	} {
		s, from := begin(t), t.TempDir()
		k := key(t, what)
		if err := s.Put(k, from, put(t, from, map[string]string{"a": "first"})...); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(from, "a")); err != nil { // the entry is a link to it
			t.Fatal(err)
		}
		if err := damage(s.entry(k)); err != nil {
			t.Fatal(err)
		}
		if names, err := s.Take(k, t.TempDir()); names != nil || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: took %v, %v", what, names, err)
		}
		if names, err := s.Take(k, t.TempDir()); names != nil || err != nil {
			t.Errorf("%s: afterwards %v, %v", what, names, err)
		}
	}
}

// Many put and take one key at once: each finds all or nothing.
func TestManyAtOnce(t *testing.T) {
	s := begin(t)
	k := key(t, "one")
	var wg sync.WaitGroup
	for i := range 16 {
		from, to := t.TempDir(), t.TempDir()
		names := put(t, from, map[string]string{"a": "first", "b/c": "second"})
		wg.Go(func() {
			if err := s.Put(k, from, names...); err != nil {
				t.Errorf("put %d: %v", i, err)
			}
			got, err := s.Take(k, to)
			if err != nil || len(got) != 2 {
				t.Errorf("took %d: %v, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

func TestFolderOfOthers(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"thesis.tex": ""})
	if _, err := Open(dir); !usage.Is(err) || !strings.Contains(err.Error(), "thesis.tex") {
		t.Errorf("%v", err)
	}
	file := filepath.Join(dir, "thesis.tex")
	if _, err := Open(file); !usage.Is(err) {
		t.Errorf("a file: %v", err)
	}
	if _, err := Key(func() {}); err == nil {
		t.Error("a key of a function")
	}
}
