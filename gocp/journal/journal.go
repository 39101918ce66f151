package journal

import (
	"bytes"
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
	"sync"
	"syscall"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// File is the journal's name in its folder.
const File = "journal.jsonl"

// entry is a line.
type entry struct {
	File   string `json:"file"` // slash-separated, inside the folder
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Check  string `json:"check"`
}

func (e entry) check() string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s", e.File, e.Size, e.SHA256))
	return hex.EncodeToString(h[:4])
}

// A Journal is that of one folder. Its methods may be called from several goroutines at once.
type Journal struct {
	dir   string
	lines *os.File // nil: it is only read

	mu    sync.Mutex
	known map[string]entry
	whole map[string]bool // files that are as the journal says
	torn  int
}

// Read reads the journal of dir, to check files by. Its error is fs.ErrNotExist where there is none.
func Read(dir string) (*Journal, error) {
	j := &Journal{dir: dir, known: map[string]entry{}, whole: map[string]bool{}}
	b, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		var e entry
		if strictjson.Unmarshal(line, &e) != nil || e.Check != e.check() || !filepath.IsLocal(e.File) {
			j.torn++
			continue
		}
		j.known[e.File] = e
	}
	return j, nil
}

// Open goes on with the journal of dir, or begins it. One process at a time has it open.
func Open(dir string) (*Journal, error) {
	name := filepath.Join(dir, File)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o666)
	if err != nil {
		return nil, atomicfile.Explain(name, err)
	}
	j, err := begin(dir, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func begin(dir string, f *os.File) (*Journal, error) {
	// The kernel lets go of it when the process ends, however it ends. Where a file system has no
	// locks there is none.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, usage.Errorf("%s: another gocp is at work in this folder; wait until it ends", dir)
	}
	j, err := Read(dir)
	if err != nil {
		return nil, err
	}
	j.lines = f
	return j, EndLine(f)
}

// EndLine ends a last line that a killed process left unfinished, so that the next one stands alone.
func EndLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = f.Write([]byte("\n"))
	return err
}

// Close lets go of the journal.
func (j *Journal) Close() error {
	if j.lines == nil {
		return nil
	}
	return j.lines.Close()
}

// Torn is how many lines made no sense and were passed over.
func (j *Journal) Torn() int { return j.torn }

// Files lists the files that the journal knows under a prefix, sorted.
func (j *Journal) Files(prefix string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []string
	for name := range j.known {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Whole reports whether Check has found the file to be as the journal says, or it was noted since.
func (j *Journal) Whole(file string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.whole[file]
}

// SHA256 is what the journal says of a file, "" if it does not know it.
func (j *Journal) SHA256(file string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.known[file].SHA256
}

// ErrUnknown is Check's error for a file that the journal has no line of.
var ErrUnknown = errors.New("the journal does not know it")

// errGone is Check's error for a file that is no more; it is fs.ErrNotExist.
var errGone error = gone{}

type gone struct{}

func (gone) Error() string        { return "it is gone" }
func (gone) Is(target error) bool { return target == fs.ErrNotExist }

// Check holds a file against its line. Its error says what is wrong with the file, without its name.
func (j *Journal) Check(file string) error {
	j.mu.Lock()
	e, ok := j.known[file]
	j.mu.Unlock()
	if !ok {
		return ErrUnknown
	}
	switch info, err := os.Stat(filepath.Join(j.dir, file)); {
	case errors.Is(err, fs.ErrNotExist):
		return errGone
	case err != nil:
		return err
	case info.Size() != e.Size:
		return fmt.Errorf("it has %d bytes, and had %d when it was written", info.Size(), e.Size)
	}
	f, err := os.Open(filepath.Join(j.dir, file))
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := measure(file, f)
	switch {
	case err != nil:
		return err
	case now != e:
		return errors.New("its bytes are not those that were written")
	}
	j.mu.Lock()
	j.whole[file] = true
	j.mu.Unlock()
	return nil
}

// Wrote notes files as they are now, and is back when that is on the disk. A file that is already
// known must have the same bytes again.
func (j *Journal) Wrote(files ...string) error {
	return j.note(files, func(old, now entry) error {
		if old == now {
			return nil
		}
		return fmt.Errorf("%s came out with other bytes than the first time it was made; what computed it has changed in a way that the run's identity does not hold: begin anew in another folder", filepath.Join(j.dir, now.File))
	})
}

// Replaced notes files that may differ from what they were.
func (j *Journal) Replaced(files ...string) error {
	return j.note(files, func(entry, entry) error { return nil })
}

func (j *Journal) note(files []string, allowed func(old, now entry) error) error {
	now := make([]entry, len(files))
	for i, name := range files {
		f, err := os.Open(filepath.Join(j.dir, name))
		if err != nil {
			return err
		}
		now[i], err = measure(name, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range now {
		if old, ok := j.known[e.File]; ok {
			if err := allowed(old, e); err != nil {
				return err
			}
		}
	}
	if err := j.append(now...); err != nil {
		return err
	}
	for _, e := range now {
		j.whole[e.File] = true
	}
	return nil
}

// Begin notes what is about to be written as a file: a folder that holds the file then has a journal
// that knows it.
func (j *Journal) Begin(file string, content []byte) error {
	e, err := measure(file, bytes.NewReader(content))
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.append(e)
}

// append writes lines in one piece. The caller holds mu.
func (j *Journal) append(entries ...entry) error {
	var lines bytes.Buffer
	for _, e := range entries {
		line, err := strictjson.Marshal(e)
		if err != nil {
			return err
		}
		lines.Write(append(line, '\n'))
	}
	_, err := j.lines.Write(lines.Bytes())
	if err == nil {
		err = j.lines.Sync()
	}
	if err != nil {
		return atomicfile.Explain(filepath.Join(j.dir, File), err)
	}
	for _, e := range entries {
		j.known[e.File] = e
	}
	return nil
}

func measure(file string, r io.Reader) (entry, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return entry{}, err
	}
	e := entry{File: file, Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}
	e.Check = e.check()
	return e, nil
}
