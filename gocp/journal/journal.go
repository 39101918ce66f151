package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/strictjson"
)

// File is the journal's name in its folder, Shards the folder in it of the shards' own.
const (
	File   = "journal.jsonl"
	Shards = "shards"
)

// suffix ends the name of a shard's journal.
const suffix = ".journal.jsonl"

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

// Read reads the journal of dir and those of its shards, to check files by. Its error is fs.ErrNotExist
// where there is none.
func Read(dir string) (*Journal, error) {
	j := &Journal{dir: dir, known: map[string]entry{}, whole: map[string]bool{}}
	return j, j.read()
}

// read adds what the journals of the folder say now.
func (j *Journal) read() error {
	shards, err := shardFiles(j.dir)
	if err != nil {
		return err
	}
	for _, name := range shards {
		entries, torn, err := lines(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // renamed since
			return err
		}
		j.add(entries, torn)
	}
	// What a run says that had the folder to itself is the later of two.
	entries, torn, err := lines(filepath.Join(j.dir, File))
	if err != nil && !(errors.Is(err, fs.ErrNotExist) && len(shards) > 0) {
		return err
	}
	j.add(entries, torn)
	return nil
}

func (j *Journal) add(entries []entry, torn int) {
	j.torn += torn
	for _, e := range entries {
		j.known[e.File] = e
	}
}

// Reread learns what the shards at work beside this one have noted since.
func (j *Journal) Reread() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	torn := j.torn // a line that is being written is not torn
	defer func() { j.torn = torn }()
	return j.read()
}

// shardFiles lists the journals of shards.
func shardFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, Shards))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			out = append(out, filepath.Join(dir, Shards, e.Name()))
		}
	}
	return out, nil
}

// lines reads one file.
func lines(name string) (entries []entry, torn int, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, 0, fmt.Errorf("journal: %w", err)
	}
	for line := range bytes.Lines(b) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		var e entry
		if strictjson.Unmarshal(line, &e) != nil || e.Check != e.check() || !filepath.IsLocal(e.File) {
			torn++
			continue
		}
		entries = append(entries, e)
	}
	return entries, torn, nil
}

// Open goes on with the journal of dir, joined with those of its shards, or begins it. The caller is the
// folder's owner (package owner). The file is written anew: a process that has the old one open still,
// since nobody could tell that it was dead, writes to a file that has no name any more.
func Open(dir string) (*Journal, error) {
	j, err := Read(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return j, j.open(File, slices.Collect(maps.Values(j.known)))
}

// OpenShard goes on with the journal of one shard, which no other process writes, or begins it. It knows
// what all journals of the folder say.
func OpenShard(dir, shard string) (*Journal, error) {
	j, err := Read(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	own := filepath.Join(Shards, shard+suffix)
	entries, _, err := lines(filepath.Join(dir, own))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return j, j.open(own, entries)
}

// open writes a file with the entries and goes on at its end.
func (j *Journal) open(name string, entries []entry) error {
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.File, b.File) })
	name = filepath.Join(j.dir, name)
	b, err := encode(entries)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(name, b); err != nil {
		return err
	}
	if j.lines, err = os.OpenFile(name, os.O_APPEND|os.O_RDWR, 0o666); err != nil {
		return atomicfile.Explain(name, err)
	}
	return nil
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

// Sized tells whether a file that the journal knows has the size that it says. What is in it is not asked.
func (j *Journal) Sized(file string) bool {
	j.mu.Lock()
	e, ok := j.known[file]
	j.mu.Unlock()
	info, err := os.Stat(filepath.Join(j.dir, file))
	return ok && err == nil && info.Size() == e.Size
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
	b, err := encode(entries)
	if err != nil {
		return err
	}
	if _, err = j.lines.Write(b); err == nil {
		err = j.lines.Sync()
	}
	if err != nil {
		return atomicfile.Explain(j.lines.Name(), err)
	}
	j.add(entries, 0)
	return nil
}

// encode is lines as bytes.
func encode(entries []entry) ([]byte, error) {
	var lines bytes.Buffer
	for _, e := range entries {
		line, err := strictjson.Marshal(e)
		if err != nil {
			return nil, err
		}
		lines.Write(append(line, '\n'))
	}
	return lines.Bytes(), nil
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
