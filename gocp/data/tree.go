package data

import (
	"archive/tar"
	"bufio"
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
	origin string // for messages
	files  []file // sorted by path
	dirs   []string
}

// file is one regular file; an archive's are in memory already.
type file struct {
	path    string
	origin  string // for messages
	content []byte
	disk    string
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

// hidden names are skipped: editors', systems' and our own unfinished files.
func hidden(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if strings.HasPrefix(part, ".") || part == "__MACOSX" {
			return true
		}
	}
	return false
}

// walk lists a folder.
func walk(root string) (*tree, error) {
	t := &tree{origin: root}
	// The slash makes a link to a folder count as the folder.
	err := filepath.WalkDir(filepath.Clean(root)+string(filepath.Separator), func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return usage.Errorf("%s: cannot be read: %w", p, err)
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case rel == ".":
		case hidden(rel):
			if e.IsDir() {
				return fs.SkipDir
			}
		case e.IsDir():
			t.dirs = append(t.dirs, rel)
		default:
			fi, err := os.Stat(p)
			if err != nil {
				return usage.Errorf("%s: cannot be read: %w", p, err)
			}
			if fi.IsDir() {
				return usage.Errorf("%s: it is a link to a folder, which is not followed; put the folder itself there", p)
			}
			if fi.Mode().IsRegular() {
				t.files = append(t.files, file{path: rel, origin: p, disk: p})
			}
		}
		return nil
	})
	sort.Slice(t.files, func(i, j int) bool { return t.files[i].path < t.files[j].path })
	return t, err
}

// untar reads a tar, gzipped or not, into memory. Only names that some reader
// asks for are kept.
func untar(origin string, r io.Reader) (*tree, error) {
	t := &tree{origin: origin}
	in := bufio.NewReaderSize(r, 1<<16)
	var err error
	var src io.Reader = in
	if head, _ := in.Peek(3); isGzip(head) {
		if src, err = gzip.NewReader(in); err != nil {
			return nil, damaged(origin, err)
		}
	}
	seen := map[string]bool{}
	tr := tar.NewReader(src)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, damaged(origin, err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" || hidden(name) {
			continue
		}
		where := origin + ": " + name
		switch h.Typeflag {
		case tar.TypeDir:
			t.dirs = append(t.dirs, name)
			continue
		case tar.TypeReg:
		case tar.TypeXGlobalHeader:
			continue
		default:
			return nil, usage.Errorf("%s: it is no plain file (a link or a device); put the file itself there", where)
		}
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse") { // its zeros would cost memory but no bytes
				return nil, usage.Errorf("%s: sparse files are not read; make the tar without --sparse", where)
			}
		}
		if seen[name] {
			return nil, usage.Errorf("%s: it occurs twice in the archive", where)
		}
		seen[name] = true
		if !wanted(name) {
			continue
		}
		var b bytes.Buffer // grows with what arrives; the size in the header is only a claim
		if _, err := io.Copy(&b, tr); err != nil {
			return nil, damaged(where, err)
		}
		t.files = append(t.files, file{path: name, origin: where, content: b.Bytes()})
	}
	// The checksum of a gzip file comes after the tar's end.
	if _, err := io.Copy(io.Discard, src); err != nil {
		return nil, damaged(origin, err)
	}
	sort.Slice(t.files, func(i, j int) bool { return t.files[i].path < t.files[j].path })
	return t, nil
}

func damaged(origin string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		return usage.Errorf("%s: the archive is cut off; fetch it again: %w", origin, io.ErrUnexpectedEOF)
	}
	return usage.Errorf("%s: the archive is damaged: %w; fetch it again", origin, err)
}

// wanted tells whether any reader takes a file of that name.
func wanted(name string) bool {
	return isImage(name) || isCIFAR(path.Base(name)) || isIDX(path.Base(name)) || strings.HasSuffix(name, ".npy")
}
