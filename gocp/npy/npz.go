package npy

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/foreign"
	"github.com/gocp/gocp/gocp/usage"
)

// Named is one array of an archive.
type Named struct {
	Name string
	*Array
}

// Archive is the content of an .npz file, in the order of the file.
type Archive []Named

// Get returns the array of that name, or nil.
func (z Archive) Get(name string) *Array {
	for _, n := range z {
		if n.Name == name {
			return n.Array
		}
	}
	return nil
}

// Load reads the .npy file at path.
func Load(path string) (*Array, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	a, err := Parse(b)
	if err != nil {
		return nil, usage.Errorf("%s: not a valid .npy file: %w", path, err)
	}
	return a, nil
}

// LoadZip reads the .npz file at path.
func LoadZip(path string) (Archive, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	z, err := ParseZip(b)
	if err != nil {
		return nil, usage.Errorf("%s: not a valid .npz file: %w", path, err)
	}
	return z, nil
}

func read(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usage.Errorf("%s: no such file: %w", path, os.ErrNotExist)
	}
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	return b, nil
}

// maxRatio is the most that deflate can expand (1032:1), rounded up.
const maxRatio = 1040

// ParseZip reads a whole .npz file from memory.
func ParseZip(b []byte) (Archive, error) {
	entries, err := directory(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, err
	}
	var z Archive
	for _, e := range entries {
		content, err := extract(e.f)
		if err != nil {
			return nil, usage.Errorf("array %q: damaged: %w", e.name, err)
		}
		a, err := Parse(content)
		if err != nil {
			return nil, usage.Errorf("array %q: %w", e.name, err)
		}
		z = append(z, Named{e.name, a})
	}
	return z, nil
}

type entry struct {
	name string
	f    *zip.File
}

// directory checks the entries of an archive of size bytes.
func directory(b io.ReaderAt, size int64) ([]entry, error) {
	r, err := zip.NewReader(b, size)
	if err != nil {
		head := make([]byte, min(size, foreign.Head))
		if n, _ := b.ReadAt(head, 0); !bytes.HasPrefix(head[:n], []byte("PK")) && foreign.What(head[:n]) != "" {
			return nil, usage.Errorf("it is %s", foreign.What(head[:n]))
		}
		return nil, usage.Errorf("it is no complete zip archive: %w", err)
	}
	// Entries of a hostile archive may share their bytes, so it is the sum
	// that is bounded.
	left := uint64(size) * maxRatio
	seen := map[string]bool{}
	var out []entry
	for _, f := range r.File {
		name, ok := strings.CutSuffix(f.Name, ".npy")
		switch {
		case !ok:
			return nil, usage.Errorf("entry %q is no .npy file", f.Name)
		case seen[name]:
			return nil, usage.Errorf("the name %q occurs twice", name)
		case f.Method != zip.Store && f.Method != zip.Deflate:
			return nil, usage.Errorf("array %q: compression method %d is not supported; save it by numpy.savez or savez_compressed", name, f.Method)
		case f.UncompressedSize64 > left || f.UncompressedSize64 > maxRatio*uint64(size):
			return nil, usage.Errorf("array %q: %d bytes cannot come from a file of %d", name, f.UncompressedSize64, size)
		}
		seen[name] = true
		left -= f.UncompressedSize64
		out = append(out, entry{name, f})
	}
	return out, nil
}

// OpenZip opens one array of the .npz file at path to be read piece by piece, as Open does; an
// empty name means the only one. A compressed array is unpacked into a temporary file, which goes
// with Close. Either way the checksum is verified first.
func OpenZip(path, name string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	file, err := openZip(f, path, name)
	if err != nil {
		f.Close()
		return nil, err
	}
	return file, nil
}

func openZip(f *os.File, path, name string) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	entries, err := directory(f, info.Size())
	if err != nil {
		return nil, usage.Errorf("%s: not a valid .npz file: %w", path, err)
	}
	var names []string
	var found *zip.File
	for _, e := range entries {
		names = append(names, e.name)
		if e.name == name || name == "" && len(entries) == 1 {
			found, name = e.f, e.name
		}
	}
	switch {
	case found == nil && name == "":
		return nil, usage.Errorf("%s: it holds several arrays; say which as %s:NAME, one of %s", path, path, strings.Join(names, ", "))
	case found == nil:
		return nil, usage.Errorf("%s: there is no array %q; there are %s", path, name, strings.Join(names, ", "))
	}
	damaged := func(err error) error {
		return usage.Errorf("%s: not a valid .npz file: array %q: damaged: %w", path, name, err)
	}
	r, err := found.Open()
	if err != nil {
		return nil, damaged(err)
	}
	defer r.Close()
	// zip checks size and checksum at the end.
	limited := io.LimitReader(r, int64(found.UncompressedSize64)+1)
	if found.Method == zip.Store {
		if _, err := io.Copy(io.Discard, limited); err != nil {
			return nil, damaged(err)
		}
		at, err := found.DataOffset()
		if err != nil {
			return nil, damaged(err)
		}
		size := int64(found.UncompressedSize64)
		out, err := open(io.NewSectionReader(f, at, size), size)
		if err != nil {
			return nil, usage.Errorf("%s: not a valid .npz file: array %q: %w", path, name, err)
		}
		out.close = f.Close
		return out, nil
	}
	spool, err := os.CreateTemp("", "gocp-*.npy")
	if err != nil {
		return nil, fmt.Errorf("%s: unpacking array %q: %w", path, name, err)
	}
	remove := func() error { return errors.Join(spool.Close(), os.Remove(spool.Name())) }
	size, err := io.Copy(spool, limited)
	if err != nil {
		return nil, errors.Join(damaged(err), remove())
	}
	out, err := open(spool, size)
	if err != nil {
		return nil, errors.Join(usage.Errorf("%s: not a valid .npz file: array %q: %w", path, name, err), remove())
	}
	out.close = func() error { return errors.Join(remove(), f.Close()) }
	return out, nil
}

// extract grows its buffer as bytes arrive: the size in the directory is only a
// claim. It reads to the end, where zip checks size and checksum.
func extract(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, io.LimitReader(r, int64(f.UncompressedSize64)+1))
	return b.Bytes(), err
}

// Save writes the archive at path, whole or not at all.
func (z Archive) Save(path string) error { return atomicfile.Write(path, z.Encode) }

// Encode writes the archive to w, uncompressed and without times, so that the
// same arrays give the same bytes.
func (z Archive) Encode(w io.Writer) error {
	out := zip.NewWriter(w)
	seen := map[string]bool{}
	for _, n := range z {
		if seen[n.Name] {
			return fmt.Errorf("npy: the name %q occurs twice", n.Name)
		}
		seen[n.Name] = true
		f, err := out.CreateHeader(&zip.FileHeader{Name: n.Name + ".npy", Method: zip.Store})
		if err != nil {
			return err
		}
		if err := Write(f, n.Array); err != nil {
			return fmt.Errorf("array %q: %w", n.Name, err)
		}
	}
	return out.Close()
}
