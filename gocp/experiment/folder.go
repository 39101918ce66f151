package experiment

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// Names inside a run folder.
const (
	configFile = "config.json"
	clockFile  = "clock.jsonl"
	modelsDir  = "models"
	logitsDir  = "logits"
	poisonsDir = "poisons"
	targetsDir = "targets"
)

// header is config.json: what the folder is bound to.
type header struct {
	Schema   int    `json:"schema"`
	Identity string `json:"identity"` // hash of all that follows
	Data     string `json:"data"`     // name of the data set
	// how it was read, which its hashes tell too
	Reading data.Reading `json:"reading,omitzero"`
	Train   string       `json:"train"`   // SHA-256 of its parts
	Test    string       `json:"test"`    //
	Backend string       `json:"backend"` // whose bits the results are
	Config  Config       `json:"config"`
}

// A folder holds a run. Every file in it appears whole or not at all, and a file that is there is
// final.
type folder struct {
	dir string

	mu    sync.Mutex
	clock *os.File
}

func (f *folder) path(parts ...string) string {
	return filepath.Join(append([]string{f.dir}, parts...)...)
}

func (f *folder) has(parts ...string) bool {
	_, err := os.Stat(f.path(parts...))
	return err == nil
}

// LoadConfig returns the configuration of the run in dir, its data set and how that was read.
func LoadConfig(dir string) (Config, data.Ref, error) {
	h, err := readHeader(dir)
	return h.Config, data.Ref{Name: h.Data, Reading: h.Reading}, err
}

func readHeader(dir string) (header, error) {
	var h header
	b, err := os.ReadFile(filepath.Join(dir, configFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h, usage.Errorf("%s is not a run folder: it has no %s", dir, configFile)
	}
	if err != nil {
		return h, fmt.Errorf("run folder: %w", err)
	}
	if err := strictjson.Unmarshal(b, &h); err != nil {
		return h, usage.Errorf("%s: %s is broken: %w", dir, configFile, err)
	}
	if h.Schema != 1 {
		return h, usage.Errorf("%s: %s has schema %d; this gocp reads schema 1", dir, configFile, h.Schema)
	}
	return h, nil
}

// openFolder makes dir a run folder bound to h, or with resume goes on with the run that is there,
// which must be the same one.
func openFolder(dir string, h header, resume bool) (*folder, error) {
	f := &folder{dir: dir}
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, usage.Errorf("run folder: %w", err)
	case len(entries) > 0:
		old, err := readHeader(dir)
		if err != nil {
			// A run that was killed before its first file left temporary names at most.
			if atomicfile.Clean(dir) == nil && empty(dir) {
				break
			}
			return nil, usage.Errorf("%s holds other files; give a new folder", dir)
		}
		if old.Identity != h.Identity {
			return nil, usage.Errorf("%s holds another run (configuration, data or device differ); give a new folder", dir)
		}
		if !resume {
			return nil, usage.Errorf("%s holds this run already; resume it, or give a new folder", dir)
		}
	}
	for _, sub := range []string{"", modelsDir, logitsDir, poisonsDir, targetsDir} {
		if err := os.MkdirAll(f.path(sub), 0o777); err != nil {
			return nil, usage.Errorf("run folder: %w", err)
		}
		if err := atomicfile.Clean(f.path(sub)); err != nil {
			return nil, fmt.Errorf("run folder: %w", err)
		}
	}
	if !f.has(configFile) {
		b, err := strictjson.Indent(h, " ")
		if err != nil {
			return nil, fmt.Errorf("run folder: %w", err)
		}
		if err := atomicfile.WriteBytes(f.path(configFile), b); err != nil {
			return nil, err
		}
	}
	f.clock, err = os.OpenFile(f.path(clockFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, usage.Errorf("run folder: %w", err)
	}
	return f, nil
}

func empty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

func (f *folder) close() error { return f.clock.Close() }

// tick appends how long something took. Clock times live apart from everything that must come out
// the same twice.
func (f *folder) tick(phase string, d time.Duration) error {
	return f.note(clockLine{Timing: &result.Timing{Phase: phase, Seconds: d.Seconds(), Count: 1}})
}

// watched appends what the machine said since the last time, nil if that is nothing.
func (f *folder) watched(t *result.Telemetry) error {
	if t == nil {
		return nil
	}
	return f.note(clockLine{Telemetry: t})
}

// clockLine is a line of the clock: one of the two.
type clockLine struct {
	*result.Timing
	Telemetry *result.Telemetry `json:"telemetry,omitempty"`
}

func (f *folder) note(line clockLine) error {
	b, err := strictjson.Marshal(line)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.clock.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("run folder: %w", err)
	}
	return nil
}

// read sums up the clock by phase, in the order of their first line, and the telemetry, nil if
// there is none. A line that a killed process left unfinished is passed over.
func (f *folder) read() (out []result.Timing, seen *result.Telemetry, err error) {
	r, err := os.Open(f.path(clockFile))
	if err != nil {
		return nil, nil, fmt.Errorf("run folder: %w", err)
	}
	defer r.Close()
	at := map[string]int{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // telemetry of many devices is a long line
	for lines.Scan() {
		var t clockLine
		if strictjson.Unmarshal(lines.Bytes(), &t) != nil {
			continue
		}
		if t.Telemetry != nil {
			if seen == nil {
				seen = new(result.Telemetry)
			}
			seen.Add(t.Telemetry)
		}
		if t.Timing == nil {
			continue
		}
		i, ok := at[t.Phase]
		if !ok {
			i = len(out)
			at[t.Phase] = i
			out = append(out, result.Timing{Phase: t.Phase})
		}
		out[i].Seconds += t.Seconds
		out[i].Count += t.Count
	}
	return out, seen, lines.Err()
}
