package data

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// tree is what a folder or an archive holds, by slash-separated path.
type tree struct {
	origin  string // for messages
	reading Reading
	files   []file // sorted by path
	dirs    []string
	skipped []Unreadable // files that were left out
	notes   []string     // what else was left out, in words
	coarse  bool         // the reader applied reading's Coarse
	scaled  bool         // the reader applied reading's Resize and Crop
}

// file is one regular file; an archive's are in memory already.
type file struct {
	path    string
	origin  string // for messages
	content []byte
	disk    string
	unread  bool // of an archive, and no reader asks for it: the name alone is kept
}

func (f *file) read() ([]byte, error) {
	if f.disk == "" {
		return f.content, nil
	}
	b, err := os.ReadFile(f.disk)
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", f.origin, err)
	}
	return b, nil
}

// base is the last part of the path.
func (f *file) base() string { return path.Base(f.path) }

// unzipped is read, through gzip if the content begins as a gzip file does.
func (f *file) unzipped() ([]byte, error) {
	b, err := f.read()
	if err != nil || !isGzip(b) {
		return b, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err == nil {
		b, err = io.ReadAll(z)
	}
	if err != nil {
		return nil, usage.Errorf("%s: damaged gzip file: %w; fetch it again", f.origin, err)
	}
	return b, nil
}

func isGzip(b []byte) bool { return len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b }

func isTar(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".tar.gz") || strings.HasSuffix(name, ".tgz")
}

func isZip(name string) bool { return strings.HasSuffix(strings.ToLower(name), ".zip") }

func isArchive(name string) bool { return isTar(name) || isZip(name) }

// hidden names are skipped: editors', systems' and our own unfinished files.
func hidden(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(part, ".") || part == "__MACOSX" {
			return true
		}
	}
	return false
}

// Folders behind links are walked too, with bounds: links may nest this deep, and lead to this many
// folders, those inside them counted.
const (
	maxLinks  = 8
	maxLinked = 1 << 16
)

// walk lists a folder and what links in it lead to.
func walk(root string) (*tree, error) {
	w := walker{tree: &tree{origin: root}}
	fi, err := os.Stat(root)
	if err == nil {
		err = w.folder(root, "", []os.FileInfo{fi}, 0)
	} else {
		err = usage.Errorf("%s: cannot be read: %w", root, err)
	}
	t := w.tree
	sort.Slice(t.files, func(i, j int) bool { return t.files[i].path < t.files[j].path })
	return t, err
}

type walker struct {
	tree   *tree
	linked int // folders behind links so far
}

// folder lists one folder. above are the folders on the way to it, itself included, and links how
// many links lie on that way.
func (w *walker) folder(disk, rel string, above []os.FileInfo, links int) error {
	entries, err := os.ReadDir(disk)
	if err != nil {
		return usage.Errorf("%s: cannot be read: %w", disk, err)
	}
	for _, e := range entries {
		if hidden(e.Name()) {
			continue
		}
		p, name := filepath.Join(disk, e.Name()), path.Join(rel, e.Name())
		fi, err := os.Stat(p)
		switch {
		case errors.Is(err, fs.ErrNotExist) && e.Type() == fs.ModeSymlink:
			return usage.Errorf("%s: it is a link to nothing; remove it", p)
		case err != nil:
			return usage.Errorf("%s: cannot be read: %w", p, err)
		case fi.Mode().IsRegular():
			w.tree.files = append(w.tree.files, file{path: name, origin: p, disk: p})
		case fi.IsDir():
			n := links
			if e.Type() == fs.ModeSymlink {
				n++
			}
			if n > 0 {
				w.linked++
			}
			for _, a := range above {
				if os.SameFile(a, fi) {
					return usage.Errorf("%s: it is a link to a folder that holds it; remove it", p)
				}
			}
			switch {
			case n > maxLinks:
				return usage.Errorf("%s: more than %d links to folders lie one in another; put the folder itself there", p, maxLinks)
			case w.linked > maxLinked:
				return usage.Errorf("%s: links lead to more than %d folders; put the folders themselves there", p, maxLinked)
			}
			w.tree.dirs = append(w.tree.dirs, name)
			if err := w.folder(p, name, append(above[:len(above):len(above)], fi), n); err != nil {
				return err
			}
		}
	}
	return nil
}
