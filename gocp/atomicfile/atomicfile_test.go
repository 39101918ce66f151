package atomicfile_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/usage"
)

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

func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	for _, want := range []string{"one", "two, longer", ""} {
		if err := atomicfile.WriteBytes(path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Errorf("read %q, want %q", got, want)
		}
	}
	if got := names(t, dir); got != "a.txt" {
		t.Errorf("folder holds %q", got)
	}
}

// A failure of any kind leaves the old content and no temporary file.
func TestFailureKeepsOld(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	other := errors.New("no more images")
	cases := []struct {
		name string
		f    func(io.Writer) error
		is   error
		user bool
		text string
	}{
		{"full disk", func(io.Writer) error { _, err := full.Write([]byte("x")); return err },
			syscall.ENOSPC, true, "the disk is full"},
		{"own error", func(w io.Writer) error { io.WriteString(w, "half"); return other }, other, false, "no more images"},
		{"quota", func(io.Writer) error { return syscall.EDQUOT }, syscall.EDQUOT, true, "quota"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.txt")
			if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			err := atomicfile.Write(path, c.f)
			if !errors.Is(err, c.is) || usage.Is(err) != c.user || !strings.Contains(err.Error(), c.text) ||
				!strings.HasPrefix(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
			if got, _ := os.ReadFile(path); string(got) != "old" {
				t.Errorf("old content became %q", got)
			}
			if got := names(t, dir); got != "a.txt" {
				t.Errorf("folder holds %q", got)
			}
		})
	}
}

func TestBadPaths(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ path, text string }{
		{dir, "a folder has that name"},
		{filepath.Join(dir, "absent", "a.txt"), "its folder does not exist"},
	} {
		err := atomicfile.WriteBytes(c.path, nil)
		if !usage.Is(err) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}

func TestClean(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{".a.txt.gocp-part-01ab23cd", ".a.txt.gocp-part-short", "a.txt", ".hidden"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := atomicfile.Clean(dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); got != ".a.txt.gocp-part-short .hidden a.txt" {
		t.Errorf("folder holds %q", got)
	}
}

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.txt")
	for _, content := range []string{"one", "one"} {
		if err := atomicfile.Create(path, []byte(content)); err != nil {
			t.Error(err)
		}
	}
	if err := atomicfile.Create(path, []byte("two")); !errors.Is(err, os.ErrExist) {
		t.Errorf("other bytes: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "one" {
		t.Errorf("read %q", got)
	}
	if got := names(t, dir); got != "a.txt" {
		t.Errorf("folder holds %q", got)
	}
}
