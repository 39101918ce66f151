package experiment

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/journal"
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

// A folder holds a run. Every file in it appears whole or not at all; one that is as the journal says
// is final.
type folder struct {
	dir     string
	data    string // name of the data set when the run began
	journal *journal.Journal
	say     func(format string, args ...any) // what was found not to be as the journal says

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

// holds reports whether the files that make up something are there, as the journal says. What was
// made, and is not, is named.
func (f *folder) holds(what string, files ...string) bool {
	for _, file := range files {
		err := f.journal.Check(file)
		if err == nil {
			continue
		}
		if !errors.Is(err, journal.ErrUnknown) || f.has(file) {
			if file == what {
				f.say("%s is made again: %v", what, err)
			} else {
				f.say("%s is made again: of %s, %v", what, path.Base(file), err)
			}
		}
		return false
	}
	return true
}

// needs is holds for somebody who only reads.
func (f *folder) needs(files ...string) error {
	for _, file := range files {
		switch err := f.journal.Check(file); {
		case errors.Is(err, journal.ErrUnknown):
			return usage.Errorf("%s is not finished: there is no %s yet; gocp audit --resume --out %[1]s goes on with it", f.dir, file)
		case err != nil:
			return usage.Errorf("%s: %s is damaged: %w; gocp audit --resume --out %[1]s makes it again", f.dir, file, err)
		}
	}
	return nil
}

// bundle lists the files of the poisons of group g, as far as the journal knows them. Their manifest
// is noted last.
func (f *folder) bundle(g int) []string {
	dir := poisonsDir + "/" + bundleName(g) + "/"
	files := f.journal.Files(dir)
	if manifest := dir + attack.ManifestFile; !slices.Contains(files, manifest) {
		files = append(files, manifest)
	}
	return files
}

func modelFile(name string) string  { return modelsDir + "/" + name + ".safetensors" }
func logitsFile(name string) string { return logitsDir + "/" + name + ".safetensors" }

// IsRun reports whether dir is the folder of a run, be it whole or not.
func IsRun(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, configFile))
	return err == nil
}

// LoadConfig returns the configuration of the run in dir, its data set and how that was read.
func LoadConfig(dir string) (Config, data.Ref, error) {
	id, _, err := readIdentity(dir)
	return id.Config, data.Ref{Name: id.Data, Reading: id.Reading}, err
}

// readIdentity returns config.json, parsed and as it is.
func readIdentity(dir string) (identity, []byte, error) {
	var id identity
	b, err := os.ReadFile(filepath.Join(dir, configFile))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return id, nil, usage.Errorf("%s is not a run folder: it has no %s", dir, configFile)
	}
	if err != nil {
		return id, nil, fmt.Errorf("run folder: %w", err)
	}
	j, err := journal.Read(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && strictjson.Unmarshal(b, &id) == nil && id.Schema == 1:
		return id, nil, usage.Errorf("%s: an older gocp, which kept no journal of its files, began this run, so what it left cannot be checked; begin anew in another folder (--config %s takes over the settings)", dir, filepath.Join(dir, configFile))
	case errors.Is(err, fs.ErrNotExist):
		return id, nil, usage.Errorf("%s: there is no %s, so what the folder holds cannot be checked; put it back, or begin anew in another folder", dir, journal.File)
	case err != nil:
		return id, nil, err
	}
	if err := j.Check(configFile); err != nil {
		return id, nil, usage.Errorf("%s: %s is damaged: %w; put back a copy of it, or begin anew in another folder", dir, configFile, err)
	}
	if err := strictjson.Unmarshal(b, &id); err != nil {
		return id, nil, usage.Errorf("%s: %s: %w", dir, configFile, err)
	}
	if id.Schema != identitySchema {
		return id, nil, usage.Errorf("%s: %s has schema %d; this gocp reads schema %d", dir, configFile, id.Schema, identitySchema)
	}
	return id, b, nil
}

// openFolder makes dir the folder of a run, or with resume goes on with the run that is there, which
// must be the same one. It says what it finds damaged.
func openFolder(dir string, id identity, resume bool, say func(format string, args ...any)) (f *folder, err error) {
	f = &folder{dir: dir, data: id.Data, say: say}
	going, err := begun(dir)
	if err != nil {
		return nil, err
	}
	if going {
		first, old, err := readIdentity(dir)
		if err != nil {
			return nil, err
		}
		f.data = first.Data
		d, err := id.differences(old)
		if err != nil {
			return nil, fmt.Errorf("run folder: %w", err)
		}
		if len(d) > 0 {
			return nil, usage.Errorf("%s holds another run (%s); go on with it as it began, or give a new folder", dir, strings.Join(d, "; "))
		}
		if !resume {
			return nil, usage.Errorf("%s holds this run already; resume it, or give a new folder", dir)
		}
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, usage.Errorf("run folder: %w", err)
	}
	if f.journal, err = journal.Open(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.journal.Close()
		}
	}()
	switch n := f.journal.Torn(); {
	case n == 1:
		f.say("%s: 1 line makes no sense; what it was about is made again", journal.File)
	case n > 1:
		f.say("%s: %d lines make no sense; what they were about is made again", journal.File, n)
	}
	if !going {
		b, err := id.encode()
		if err != nil {
			return nil, err
		}
		if err := f.journal.Begin(configFile, b); err != nil {
			return nil, err
		}
		if err := atomicfile.WriteBytes(f.path(configFile), b); err != nil {
			return nil, err
		}
	}
	for _, sub := range subfolders {
		if err := os.MkdirAll(f.path(sub), 0o777); err != nil {
			return nil, usage.Errorf("run folder: %w", err)
		}
		if err := atomicfile.Clean(f.path(sub)); err != nil {
			return nil, fmt.Errorf("run folder: %w", err)
		}
	}
	f.clock, err = os.OpenFile(f.path(clockFile), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o666)
	if err != nil {
		return nil, usage.Errorf("run folder: %w", err)
	}
	return f, journal.EndLine(f.clock)
}

var subfolders = []string{"", modelsDir, logitsDir, poisonsDir, targetsDir}

// begun tells whether a run has begun in dir. A folder that holds anything else is refused; what a run
// left that was killed before it had begun is not anything.
func begun(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, usage.Errorf("run folder: %w", err)
	}
	strange := false
	for _, e := range entries {
		name := e.Name()
		if name == configFile {
			return true, nil
		}
		strange = strange || name != journal.File && !(e.Type().IsRegular() && atomicfile.Temporary(name))
	}
	if strange {
		return false, usage.Errorf("%s holds other files; give a new folder", dir)
	}
	return false, nil
}

func (f *folder) close() error { return errors.Join(f.clock.Close(), f.journal.Close()) }

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
