package data

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/gocp/gocp/gocp/data/internal/picture"
	"github.com/gocp/gocp/gocp/foreign"
	"github.com/gocp/gocp/gocp/usage"
)

// unpack reads a tar or a zip from a disk into memory.
func unpack(file string) (*tree, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", file, err)
	}
	defer f.Close()
	if !isZip(file) {
		return untar(file, f)
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", file, err)
	}
	return unzip(file, f, fi.Size())
}

// maxInflate is how many bytes a byte of a zip may become: deflate's limit is 1032, but entries may
// share their bytes.
const maxInflate = 1040

// unzip reads a zip into memory, what some reader asks for.
func unzip(origin string, r io.ReaderAt, size int64) (*tree, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, damaged(origin, err)
	}
	t := &tree{origin: origin}
	left := maxInflate * size
	seen := map[string]bool{}
	for _, e := range z.File {
		name := strings.TrimPrefix(path.Clean("/"+strings.ReplaceAll(e.Name, "\\", "/")), "/")
		if name == "" || hidden(name) {
			continue
		}
		where := origin + ": " + name
		if strings.HasSuffix(e.Name, "/") || e.Mode().IsDir() {
			t.dirs = append(t.dirs, name)
			continue
		}
		switch {
		case e.Mode()&fs.ModeType != 0:
			return nil, usage.Errorf("%s: it is no plain file (a link or a device); put the file itself there", where)
		case e.Flags&1 != 0:
			return nil, usage.Errorf("%s: it is encrypted; unpack the archive first", where)
		case seen[name]:
			return nil, usage.Errorf("%s: it occurs twice in the archive", where)
		}
		seen[name] = true
		if !wanted(name) {
			t.files = append(t.files, file{path: name, origin: where, unread: true})
			continue
		}
		in, err := e.Open()
		if err != nil {
			return nil, damaged(where, err)
		}
		var b bytes.Buffer
		n, err := io.Copy(&b, io.LimitReader(in, left+1))
		in.Close()
		if err != nil {
			return nil, damaged(where, err)
		}
		if left -= n; left < 0 {
			return nil, usage.Errorf("%s: the archive unpacks to more than its %d bytes can hold; make it anew", where, size)
		}
		t.files = append(t.files, file{path: name, origin: where, content: b.Bytes()})
	}
	sort.Slice(t.files, func(i, j int) bool { return t.files[i].path < t.files[j].path })
	return t, nil
}

// untar reads a tar, gzipped or not, into memory. Only names that some reader
// asks for are kept.
func untar(origin string, r io.Reader) (*tree, error) {
	t := &tree{origin: origin}
	in := bufio.NewReaderSize(r, 1<<16)
	var err error
	var src io.Reader = in
	head, _ := in.Peek(foreign.Head)
	if isGzip(head) {
		if src, err = gzip.NewReader(in); err != nil {
			return nil, damaged(origin, err)
		}
	} else if what := foreign.What(head); what != "" {
		return nil, usage.Errorf("%s: it is no tar; it is %s", origin, what)
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
			t.files = append(t.files, file{path: name, origin: where, unread: true})
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
	if errors.Is(err, zip.ErrAlgorithm) {
		return usage.Errorf("%s: it is compressed by a method that is not read; pack the archive again by deflate, as zip does, or unpack it", origin)
	}
	return usage.Errorf("%s: the archive is damaged: %w; fetch it again", origin, err)
}

// wanted tells whether any reader takes a file of that name.
func wanted(name string) bool {
	return picture.Readable(name) || isTinyNote(path.Base(name)) || isCIFAR(path.Base(name)) || isIDX(path.Base(name)) || strings.HasSuffix(name, ".npy")
}
