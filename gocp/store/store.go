package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// contentsFile is the list of an entry's files.
const contentsFile = "contents.json"

// A Store is one folder. Its methods may be called from several goroutines and processes at once.
type Store struct{ dir string }

// content is a file of an entry.
type content struct {
	File   string `json:"file"` // slash-separated
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// contents is contents.json.
type contents struct {
	Schema int       `json:"schema"`
	Files  []content `json:"files"` // by name
}

// Key is the SHA-256 of v as JSON. Fields that are left out as empty do not count.
func Key(v any) (string, error) {
	b, err := strictjson.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("store: key: %w", err)
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:]), nil
}

// Open goes on with the store in dir, or begins it.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, usage.Errorf("store: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, usage.Errorf("store: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || len(e.Name()) != 2 && !strings.HasPrefix(e.Name(), partPrefix) {
			return nil, usage.Errorf("store: %s holds %s, which is none of its files; give another folder", dir, e.Name())
		}
		info, err := e.Info()
		// What a process that was killed left behind. One that lives is not a day about one entry.
		if strings.HasPrefix(e.Name(), partPrefix) && err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	return &Store{dir: dir}, nil
}

// partPrefix begins the names of entries that are not whole.
const partPrefix = ".part-"

func (s *Store) entry(key string) string { return filepath.Join(s.dir, key[:2], key) }

// Has reports whether there is an entry under key. Its files are not looked at.
func (s *Store) Has(key string) bool {
	_, err := os.Stat(filepath.Join(s.entry(key), contentsFile))
	return err == nil
}

// ErrDamaged is Take's error for an entry whose files are not as they were put. It is gone then.
var ErrDamaged = errors.New("is damaged")

// Take puts the files of key into the folder dir, in place of what has their names, and returns these,
// nil if there is no such entry.
func (s *Store) Take(key, dir string) ([]string, error) {
	c, err := s.read(key)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, nil
	}
	at := func(f content) string { return filepath.Join(s.entry(key), filepath.FromSlash(f.File)) }
	for _, f := range c.Files {
		if now, err := measure(at(f), f.File); err != nil || now != f {
			if err := s.drop(key); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("store: %s of %s %w", f.File, key[:12], ErrDamaged)
		}
	}
	var names []string
	for _, f := range c.Files {
		to := filepath.Join(dir, filepath.FromSlash(f.File))
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			return nil, atomicfile.Explain(to, err)
		}
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, atomicfile.Explain(to, err)
		}
		if err := link(at(f), to); err != nil {
			return nil, err
		}
		names = append(names, f.File)
	}
	return names, nil
}

// read is the list of an entry, nil if there is none.
func (s *Store) read(key string) (*contents, error) {
	b, err := os.ReadFile(filepath.Join(s.entry(key), contentsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	c := &contents{}
	if strictjson.UnmarshalKnown(b, c) != nil || c.Schema != 1 || len(c.Files) == 0 ||
		slices.ContainsFunc(c.Files, func(f content) bool { return !filepath.IsLocal(filepath.FromSlash(f.File)) }) {
		if err := s.drop(key); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("store: %s of %s %w", contentsFile, key[:12], ErrDamaged)
	}
	return c, nil
}

// Put keeps files of the folder dir under key. Under a key that is there already they must be the same.
func (s *Store) Put(key, dir string, files ...string) error {
	part, err := s.part()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(part) }() // where it did not take its name
	c := contents{Schema: 1}
	for _, name := range slices.Sorted(slices.Values(files)) {
		to := filepath.Join(part, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
			return atomicfile.Explain(to, err)
		}
		if err := link(filepath.Join(dir, filepath.FromSlash(name)), to); err != nil {
			return err
		}
		f, err := measure(to, name)
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		c.Files = append(c.Files, f)
	}
	b, err := strictjson.Indent(c, " ")
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := atomicfile.WriteBytes(filepath.Join(part, contentsFile), b); err != nil {
		return err
	}
	to := s.entry(key)
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return atomicfile.Explain(to, err)
	}
	err = os.Rename(part, to)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return s.same(key, c)
	}
	if err != nil {
		return atomicfile.Explain(to, err)
	}
	return nil
}

// same holds what was made again against what is there.
func (s *Store) same(key string, now contents) error {
	old, err := s.read(key)
	if errors.Is(err, ErrDamaged) || err == nil && old == nil {
		return nil // the next one makes it again
	}
	if err != nil {
		return err
	}
	if !slices.Equal(old.Files, now.Files) {
		return fmt.Errorf("store: %s holds other bytes than those that were made now: what computed them has changed in a way that the key does not hold; take a new folder", s.entry(key))
	}
	return nil
}

// drop takes an entry away, whole: nobody sees it half gone.
func (s *Store) drop(key string) error {
	part, err := s.part()
	if err != nil {
		return err
	}
	if err := os.Rename(s.entry(key), filepath.Join(part, "dropped")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return atomicfile.Explain(s.entry(key), err)
	}
	if err := os.RemoveAll(part); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// part makes a folder that is nobody else's.
func (s *Store) part() (string, error) {
	var r [8]byte
	_, _ = rand.Read(r[:]) // it never fails
	dir := filepath.Join(s.dir, partPrefix+hex.EncodeToString(r[:]))
	if err := os.Mkdir(dir, 0o777); err != nil {
		return "", atomicfile.Explain(dir, err)
	}
	return dir, nil
}

// link gives a file a second name, or copies it where that cannot be.
func link(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	f, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer f.Close()
	return atomicfile.Write(to, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
}

func measure(path, name string) (content, error) {
	f, err := os.Open(path)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return content{File: name, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, err
}
