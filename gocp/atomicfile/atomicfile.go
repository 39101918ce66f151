// Package atomicfile writes files that are either whole or absent: the bytes go
// to a temporary name in the same folder, are synced to disk, and only then
// take the wanted name. A process killed at any moment leaves the old file, or
// the new one, and at worst a temporary file that [Clean] removes.
package atomicfile

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/gocp/gocp/gocp/usage"
)

// suffix marks temporary files; eight random hexadecimal digits follow it.
const suffix = ".gocp-part-"

// Write calls f with a buffered writer and gives the result the name path. If f
// or any step fails, path keeps what it held before and nothing else is left.
func Write(path string, f func(w io.Writer) error) (err error) {
	tmp, err := create(path)
	if err != nil {
		return Explain(path, err)
	}
	inside := true // an error of f's own may be about another file
	defer func() {
		if err == nil {
			return
		}
		tmp.Close()
		os.Remove(tmp.Name())
		if inside && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%s: not written: %w", path, err)
		} else {
			err = Explain(path, err)
		}
	}()
	w := bufio.NewWriterSize(tmp, 1<<16)
	if err := f(w); err != nil {
		return err
	}
	inside = false
	if err := w.Flush(); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// WriteBytes is Write for content at hand.
func WriteBytes(path string, content []byte) error {
	return Write(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// Create is WriteBytes for a file that must not be there yet, however many processes try at once: one of
// them makes it, and the others get fs.ErrExist, unless it has their bytes.
func Create(path string, content []byte) error {
	tmp, err := create(path)
	if err != nil {
		return Explain(path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return Explain(path, err)
	}
	err = os.Link(tmp.Name(), path)
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOSYS) { // a file system without links
		var f *os.File
		if f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666); err == nil {
			_, err = f.Write(content)
			err = errors.Join(err, f.Sync(), f.Close())
		}
	}
	if errors.Is(err, os.ErrExist) { // on NFS it may be this one's, and the answer lost
		if b, read := os.ReadFile(path); read == nil && bytes.Equal(b, content) {
			return nil
		}
		return fmt.Errorf("%s: %w", path, os.ErrExist)
	}
	if err != nil {
		return Explain(path, err)
	}
	return syncDir(filepath.Dir(path))
}

// Clean removes the temporary files that killed processes left in dir. Call it
// only where no other process is writing.
func Clean(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !e.Type().IsRegular() || !Temporary(e.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Temporary reports whether name is one that Write gives to files that are not whole yet.
func Temporary(name string) bool {
	i := strings.LastIndex(name, suffix)
	if i <= 0 || name[0] != '.' {
		return false
	}
	random, err := hex.DecodeString(name[i+len(suffix):])
	return err == nil && len(random) == 4
}

// create opens a new file beside path. os.CreateTemp would set mode 0600 for
// good; this leaves the mode to the umask, as os.Create does.
func create(path string) (*os.File, error) {
	if fi, err := os.Stat(path); err == nil && fi.IsDir() {
		return nil, &os.PathError{Op: "write", Path: path, Err: syscall.EISDIR}
	}
	dir, base := filepath.Split(path)
	for range 100 {
		var r [4]byte
		if _, err := rand.Read(r[:]); err != nil {
			return nil, err
		}
		name := filepath.Join(dir, "."+base+suffix+hex.EncodeToString(r[:]))
		f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
		if !errors.Is(err, os.ErrExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("no free temporary name beside %s", path)
}

// syncDir makes the new name itself durable. File systems that cannot sync a
// folder say EINVAL or ENOTSUP, and there is nothing more to do there.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

// Explain gives a failure to write path the text that a person can act on: one
// sentence for a full disk, a missing folder, a missing permission.
func Explain(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return usage.Errorf("%s: not written, the disk is full; free some space and run again: %w", path, syscall.ENOSPC)
	case errors.Is(err, syscall.EDQUOT):
		return usage.Errorf("%s: not written, your disk quota is used up; free some space and run again: %w", path, syscall.EDQUOT)
	case errors.Is(err, syscall.EROFS):
		return usage.Errorf("%s: not written, the file system is read-only; choose another folder: %w", path, syscall.EROFS)
	case errors.Is(err, os.ErrPermission):
		return usage.Errorf("%s: not written, no permission; choose another folder: %w", path, os.ErrPermission)
	case errors.Is(err, syscall.EISDIR):
		return usage.Errorf("%s: not written, a folder has that name; choose another name: %w", path, syscall.EISDIR)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, os.ErrNotExist):
		return usage.Errorf("%s: not written, its folder does not exist; make it first: %w", path, err)
	}
	return fmt.Errorf("%s: not written: %w", path, err)
}
