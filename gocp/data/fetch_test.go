package data

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/usage"
)

// server hands out one content with an injected fault for each request in turn;
// when the faults are used up it behaves.
type server struct {
	*httptest.Server
	content []byte
	mu      sync.Mutex
	faults  []string
	ranges  []string // of the requests seen
}

func serve(t *testing.T, content []byte, faults ...string) *server {
	s := &server{content: content, faults: faults}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	fault := ""
	if len(s.faults) > 0 {
		fault, s.faults = s.faults[0], s.faults[1:]
	}
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	s.mu.Unlock()
	content := s.content
	switch fault {
	case "404":
		http.NotFound(w, r)
		return
	case "503":
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case "whole": // ignores Range
		r.Header.Del("Range")
	case "wrong range":
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(content)
		return
	case "other":
		content = bytes.Repeat([]byte("x"), len(content))
	case "longer":
		content = append(bytes.Clone(content), "more"...)
	}
	if fault == "cut" || fault == "stall" {
		// Half of what was asked for, then the connection breaks or falls silent.
		from := 0
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		rest := content[from:]
		w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(content)-1, len(content)))
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(rest[:len(rest)/2])
		w.(http.Flusher).Flush()
		if fault == "stall" {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

func remote(content []byte, urls ...string) Remote {
	sum := sha256.Sum256(content)
	return Remote{Name: "set.tar.gz", URLs: urls, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}
}

func TestFetch(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	for _, c := range []struct {
		name   string
		faults []string
		part   []byte // left by an earlier process
		ranges string // of the requests, expected
		text   string // of the error, "" for success
	}{
		{"plain", nil, nil, "", ""},
		{"cut twice", []string{"cut", "cut"}, nil, " bytes=160000- bytes=240000-", ""},
		{"cut, then ignores Range", []string{"cut", "whole"}, nil, " bytes=160000-", ""},
		{"cut, then another range", []string{"cut", "wrong range"}, nil, " bytes=160000- ", ""},
		{"falls silent", []string{"stall"}, nil, " bytes=160000-", ""},
		{"overloaded at first", []string{"503", "503"}, nil, "  ", ""},
		{"part from before", nil, content[:1000], "bytes=1000-", ""},
		{"whole part from before", nil, content, "none", ""},
		{"foreign part from before", nil, bytes.Repeat([]byte("z"), 1000), "bytes=1000- ", ""},
		{"part longer than the file", nil, append(bytes.Clone(content), 1), "bytes=320001- ", ""},
		{"absent", []string{"404"}, nil, "", "answers 404 Not Found"},
		{"always overloaded", []string{"503", "503", "503", "503"}, nil, "   ", "answers 503 Service Unavailable"},
		{"another file", []string{"other"}, nil, "", "SHA-256 is"},
		{"longer", []string{"longer", "longer", "longer", "longer"}, nil, "   ", "sends more than the 320000 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, content, c.faults...)
			dir := filepath.Join(t.TempDir(), "deep", "folder")
			temp := filepath.Join(dir, ".set.tar.gz.part")
			if c.part != nil {
				put(t, dir, ".set.tar.gz.part", c.part)
			}
			var last int64
			f := &Fetcher{Stall: 200 * time.Millisecond, Pause: time.Millisecond,
				Progress: func(file string, done, size int64) {
					if file != "set.tar.gz" || size != int64(len(content)) || done > size {
						t.Errorf("progress %s %d of %d", file, done, size)
					}
					last = done
				}}
			err := f.Files(context.Background(), dir, []Remote{remote(content, s.URL)})
			if got := strings.Join(s.ranges, " "); got != c.ranges && !(c.ranges == "none" && len(s.ranges) == 0) {
				t.Errorf("ranges asked for: %q, want %q", got, c.ranges)
			}
			got, _ := os.ReadFile(filepath.Join(dir, "set.tar.gz"))
			if c.text != "" {
				if err == nil || !strings.Contains(err.Error(), c.text) || got != nil {
					t.Errorf("%v, %d bytes; want %q and no file", err, len(got), c.text)
				}
				return
			}
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("%v, %d bytes", err, len(got))
			}
			if _, err := os.Stat(temp); !os.IsNotExist(err) {
				t.Errorf("the part is still there: %v", err)
			}
			if c.ranges != "none" && last != int64(len(content)) {
				t.Errorf("progress ended at %d", last)
			}
			// Again: verified, not downloaded.
			n := len(s.ranges)
			if err := f.Files(context.Background(), dir, []Remote{remote(content, s.URL)}); err != nil || len(s.ranges) != n {
				t.Errorf("again: %v, %d further requests", err, len(s.ranges)-n)
			}
		})
	}
}

func TestFetchMirror(t *testing.T) {
	content := []byte("the content")
	dead, other, good := serve(t, content, "404"), serve(t, []byte("not content")), serve(t, content)
	dir := t.TempDir()
	f := &Fetcher{Pause: time.Millisecond}
	if err := f.Files(context.Background(), dir, []Remote{remote(content, dead.URL, other.URL, good.URL)}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "set.tar.gz")); !bytes.Equal(got, content) {
		t.Errorf("%q", got)
	}
}

func TestFetchDamagedFile(t *testing.T) {
	content := []byte("the content")
	s := serve(t, content)
	dir := t.TempDir()
	put(t, dir, "set.tar.gz", []byte("the c0ntent"))
	err := (&Fetcher{}).Files(context.Background(), dir, []Remote{remote(content, s.URL)})
	if !usage.Is(err) || !strings.Contains(err.Error(), "remove it and fetch again") || len(s.ranges) > 0 {
		t.Errorf("%v", err)
	}
}

func TestFetchStopped(t *testing.T) {
	content := make([]byte, 1<<20)
	s := serve(t, content, "stall")
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fetcher{Progress: func(_ string, done, _ int64) {
		if done >= 1<<19 {
			cancel()
		}
	}}
	err := f.Files(ctx, dir, []Remote{remote(content, s.URL)})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if fi, err := os.Stat(filepath.Join(dir, ".set.tar.gz.part")); err != nil || fi.Size() != 1<<19 {
		t.Errorf("the part is not kept: %v, %v", fi, err)
	}
	if err := (&Fetcher{}).Files(context.Background(), dir, []Remote{remote(content, s.URL)}); err != nil || s.ranges[1] != "bytes=524288-" {
		t.Errorf("resumed with %q: %v", s.ranges, err)
	}
}

func TestFetchTwiceAtOnce(t *testing.T) {
	dir := t.TempDir()
	part, err := os.Create(filepath.Join(dir, ".set.tar.gz.part"))
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	if err := syscall.Flock(int(part.Fd()), syscall.LOCK_EX); err != nil {
		t.Skip(err)
	}
	err = (&Fetcher{}).Files(context.Background(), dir, []Remote{remote([]byte("x"), "http://localhost:1")})
	if !usage.Is(err) || !strings.Contains(err.Error(), "another process is fetching it") {
		t.Errorf("%v", err)
	}
}

func TestFetchNames(t *testing.T) {
	ctx := context.Background()
	if _, err := Fetch(ctx, "cifar11", t.TempDir(), nil); !usage.Is(err) ||
		!strings.Contains(err.Error(), "what can be fetched is cifar10, cifar100, tiny-imagenet, mnist and fashion-mnist") {
		t.Errorf("%v", err)
	}
	file := put(t, t.TempDir(), "file", nil)
	if _, err := Fetch(ctx, "mnist", file, nil); !usage.Is(err) {
		t.Errorf("into a file: %v", err)
	}
	// Every pinned file has what a download needs.
	for _, b := range builtins {
		for _, r := range b.files {
			if sum, err := hex.DecodeString(r.SHA256); err != nil || len(sum) != 32 || r.Size <= 0 || len(r.URLs) == 0 {
				t.Errorf("%+v", r)
			}
		}
	}
}
