package data

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/usage"
)

// Fetcher downloads published sets. The zero value is ready to use.
type Fetcher struct {
	Client   *http.Client                        // nil: http.DefaultClient
	Progress func(file string, done, size int64) // nil: none
	Stall    time.Duration                       // give up on a silent server after this long; 0: a minute
	Pause    time.Duration                       // first pause before trying again, then doubled; 0: a second
}

// attempts is how often one URL is tried without a single byte of progress.
const attempts = 4

// Fetch downloads a known set into dir/NAME, dir "" being Dir(). What is there
// already and has the right hash stays; what was interrupted is resumed; every
// file is verified before it gets its name. It returns the folder.
func Fetch(ctx context.Context, name, dir string, progress func(file string, done, size int64)) (string, error) {
	b := find(name)
	if b == nil || len(b.files) == 0 {
		var can []Known
		for _, k := range List() {
			if k.Fetch {
				can = append(can, k)
			}
		}
		if _, ok := embedded[name]; ok {
			return "", usage.Errorf("%s is part of the program; there is nothing to fetch", name)
		}
		return "", usage.Errorf("%q is not known; what can be fetched is %s", name, names(can, func(k Known) string { return k.Name }))
	}
	if dir == "" {
		var err error
		if dir, err = Dir(); err != nil {
			return "", err
		}
	}
	dir = filepath.Join(dir, name)
	return dir, (&Fetcher{Progress: progress}).Files(ctx, dir, b.files)
}

// Files downloads files into dir, which is made if needed.
func (f *Fetcher) Files(ctx context.Context, dir string, files []Remote) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return atomicfile.Explain(dir, err)
	}
	for _, r := range files {
		if err := f.file(ctx, dir, r); err != nil {
			return err
		}
	}
	return nil
}

// file gets one file, mirror after mirror.
func (f *Fetcher) file(ctx context.Context, dir string, r Remote) error {
	path := filepath.Join(dir, r.Name)
	if _, err := os.Stat(path); err == nil {
		sum, err := hashFile(ctx, path)
		if err != nil {
			return err
		}
		if sum == r.SHA256 {
			f.report(r, r.Size)
			return nil
		}
		return usage.Errorf("%s: its SHA-256 is %s, not %s; remove it and fetch again", path, sum, r.SHA256)
	}
	// The hidden name keeps Open from reading an unfinished file.
	temp := filepath.Join(dir, "."+r.Name+".part")
	part, err := os.OpenFile(temp, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return atomicfile.Explain(temp, err)
	}
	defer part.Close()
	if err := syscall.Flock(int(part.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return usage.Errorf("%s: another process is fetching it; wait for that one", path)
	}
	var errs []error
	for _, url := range r.URLs {
		err := f.download(ctx, part, url, r)
		if err == nil {
			return f.finish(part, temp, path)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: stopped, what came so far is kept: %w", r.Name, ctx.Err())
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return atomicfile.Explain(temp, err)
		}
		errs = append(errs, fmt.Errorf("%s: %w", url, err))
	}
	return fmt.Errorf("%s could not be fetched: %s", r.Name, names(errs, error.Error))
}

// finish gives a verified file its name.
func (f *Fetcher) finish(part *os.File, temp, path string) error {
	if err := part.Sync(); err != nil {
		return atomicfile.Explain(temp, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return atomicfile.Explain(path, err)
	}
	return nil
}

// download fills part from url until its hash is right, continuing where an
// earlier try ended.
func (f *Fetcher) download(ctx context.Context, part *os.File, url string, r Remote) error {
	pause := f.Pause
	if pause == 0 {
		pause = time.Second
	}
	restarted := false
	var last error
	for try := 0; try < attempts; {
		before, err := part.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		var whole bool
		if before == r.Size {
			whole = true // an earlier process had come this far
		} else {
			whole, last = f.get(ctx, part, url, r, before)
		}
		if whole {
			sum, err := hashFile(ctx, part.Name())
			if err != nil {
				return err
			}
			if sum == r.SHA256 {
				return nil
			}
			if err := part.Truncate(0); err != nil {
				return err
			}
			// What was resumed may have been of another version; whole and
			// wrong in one piece is what this server has.
			last = fmt.Errorf("SHA-256 is %s, not %s", sum, r.SHA256)
			if restarted || before == 0 {
				return last
			}
			restarted = true
			continue
		}
		var refused *status
		if ctx.Err() != nil || errors.As(last, &refused) && refused.final() || errors.Is(last, syscall.ENOSPC) || errors.Is(last, syscall.EDQUOT) {
			return last
		}
		if after, err := part.Seek(0, io.SeekEnd); err == nil && after > before {
			try = 0 // it goes on, if slowly
			continue
		}
		if try++; try < attempts {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
			pause *= 2
		}
	}
	return last
}

// status is an answer other than the file.
type status struct{ code int }

func (s *status) Error() string {
	return fmt.Sprintf("the server answers %d %s", s.code, http.StatusText(s.code))
}

// final answers do not change by asking again.
func (s *status) final() bool { return s.code < 500 && s.code != 408 && s.code != 429 }

// get makes one request for what follows the first have bytes and appends it to
// part. It reports whether the file is whole as far as the server goes.
func (f *Fetcher) get(ctx context.Context, part *os.File, url string, r Remote, have int64) (whole bool, err error) {
	stall := f.Stall
	if stall == 0 {
		stall = time.Minute
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := fmt.Errorf("the server was silent for %v", stall)
	timer := time.AfterFunc(stall, func() { cancel(silent) })
	defer timer.Stop()
	defer func() {
		if err != nil && context.Cause(ctx) == silent {
			err = silent
		}
	}()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	// Without this the transport would ask for gzip and undo it.
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
	}
	client := f.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusOK:
		have = 0 // the server sends all of it
	case resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable, resp.StatusCode == http.StatusPartialContent:
		// What is here is not the beginning of what is there.
		return false, errors.Join(part.Truncate(0), errors.New("the server does not continue where we are"))
	default:
		return false, &status{resp.StatusCode}
	}
	if err := part.Truncate(have); err != nil {
		return false, err
	}
	if _, err := part.Seek(have, io.SeekStart); err != nil {
		return false, err
	}
	buf := make([]byte, 1<<16)
	for {
		n, err := resp.Body.Read(buf)
		timer.Reset(stall)
		if have+int64(n) > r.Size {
			return false, errors.Join(part.Truncate(0), fmt.Errorf("the server sends more than the %d bytes of the file", r.Size))
		}
		if _, err := part.Write(buf[:n]); err != nil {
			return false, err
		}
		have += int64(n)
		f.report(r, have)
		if err == io.EOF {
			if have < r.Size {
				return false, io.ErrUnexpectedEOF
			}
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

func (f *Fetcher) report(r Remote, done int64) {
	if f.Progress != nil {
		f.Progress(r.Name, done, r.Size)
	}
}

func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", usage.Errorf("%s: cannot be read: %w", path, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return f.Read(b)
	})); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
