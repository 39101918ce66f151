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
	"github.com/gocp/gocp/gocp/owner"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/slurm"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// Names inside a run folder.
const (
	configFile = "config.json"
	shardsDir  = journal.Shards
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
	owner   *owner.Lock
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

// made is holds for what another shard makes, of which nothing is to be said.
func (f *folder) made(files ...string) bool {
	for _, file := range files {
		if f.journal.Check(file) != nil {
			return false
		}
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
	_, waits := os.Stat(filepath.Join(dir, settingsFile))
	return err == nil || waits == nil
}

// LoadConfig returns the configuration of the run in dir, its data set and how that was read.
func LoadConfig(dir string) (Config, data.Ref, error) {
	if s, ok, err := prepared(dir); ok || err != nil {
		return s.Config, data.Ref{Name: s.Data, Reading: s.Reading}, err
	}
	id, _, err := readIdentity(dir)
	return id.Config, data.Ref{Name: id.Data, Reading: id.Reading}, err
}

// readIdentity returns config.json, parsed and as it is.
func readIdentity(dir string) (identity, []byte, error) { return identityOf(dir, false) }

// identityOf is readIdentity; early allows a configuration that no journal knows yet: shards that begin
// a run together note it after one of them has written it.
func identityOf(dir string, early bool) (identity, []byte, error) {
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
	case errors.Is(err, fs.ErrNotExist) && !early:
		return id, nil, usage.Errorf("%s: there is no %s, so what the folder holds cannot be checked; put it back, or begin anew in another folder", dir, journal.File)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return id, nil, err
	}
	if err := j.Check(configFile); err != nil && !(early && errors.Is(err, journal.ErrUnknown)) {
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

// openFolder makes o.Dir the folder of a run, or with o.Resume goes on with the run that is there, which
// must be the same one, for the whole of the run or for a shard of it. It says what it finds damaged.
func openFolder(id identity, o Options, say func(format string, args ...any)) (_ *folder, err error) {
	f := &folder{dir: o.Dir, data: id.Data, say: say}
	going, err := f.sameRun(id, o)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return nil, usage.Errorf("run folder: %w", err)
	}
	if f.owner, err = lock(o.Dir, o); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.close()
		}
	}()
	if !going { // somebody may have begun it meanwhile
		if going, err = f.sameRun(id, o); err != nil {
			return nil, err
		}
	}
	if err := f.openJournal(id, o.Shard, going); err != nil {
		return nil, err
	}
	for _, sub := range subfolders {
		if err := os.MkdirAll(f.path(sub), 0o777); err != nil {
			return nil, usage.Errorf("run folder: %w", err)
		}
		if !o.Shard.whole() {
			continue // others may be writing
		}
		if err := atomicfile.Clean(f.path(sub)); err != nil {
			return nil, fmt.Errorf("run folder: %w", err)
		}
	}
	return f, f.openClock(o.Shard)
}

// sameRun tells whether a run has begun in the folder, and refuses another one than that of id.
func (f *folder) sameRun(id identity, o Options) (going bool, err error) {
	if going, err = begun(f.dir); err != nil || !going {
		return false, err
	}
	first, old, err := identityOf(f.dir, !o.Shard.whole())
	if err != nil {
		return false, err
	}
	f.data = first.Data
	d, err := id.differences(old)
	if err != nil {
		return false, fmt.Errorf("run folder: %w", err)
	}
	if len(d) > 0 {
		return false, usage.Errorf("%s holds another run (%s); go on with it as it began, or give a new folder", f.dir, strings.Join(d, "; "))
	}
	if !o.Resume {
		return false, usage.Errorf("%s holds this run already; resume it, or give a new folder", f.dir)
	}
	return true, nil
}

// openJournal goes on with the journal of the whole or of a shard. A run that has not begun begins with
// its configuration.
func (f *folder) openJournal(id identity, s Shard, going bool) (err error) {
	if s.whole() {
		f.journal, err = journal.Open(f.dir)
	} else if err = os.MkdirAll(f.path(shardsDir), 0o777); err == nil {
		f.journal, err = journal.OpenShard(f.dir, s.name())
	}
	if err != nil {
		return err
	}
	switch n := f.journal.Torn(); {
	case n == 1:
		f.say("%s: 1 line makes no sense; what it was about is made again", journal.File)
	case n > 1:
		f.say("%s: %d lines make no sense; what they were about is made again", journal.File, n)
	}
	b, err := id.encode()
	if err != nil {
		return err
	}
	switch {
	case going && s.whole():
		return nil
	case s.whole():
		if err := f.journal.Begin(configFile, b); err != nil {
			return err
		}
		return atomicfile.WriteBytes(f.path(configFile), b)
	case !going:
		switch err := atomicfile.Create(f.path(configFile), b); {
		case errors.Is(err, fs.ErrExist): // another shard was first
			if _, err := f.sameRun(id, Options{Resume: true, Shard: s}); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
	if f.journal.SHA256(configFile) != "" {
		return nil
	}
	return f.journal.Wrote(configFile)
}

// openClock goes on with the clock of the whole or of a shard, in a file that nobody else has open.
func (f *folder) openClock(s Shard) error {
	name := f.path(clockFile)
	if !s.whole() {
		name = f.path(shardsDir, s.name()+"."+clockFile)
	}
	b, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("run folder: %w", err)
	}
	if err := atomicfile.WriteBytes(name, b); err != nil {
		return err
	}
	if f.clock, err = os.OpenFile(name, os.O_APPEND|os.O_RDWR, 0o666); err != nil {
		return usage.Errorf("run folder: %w", err)
	}
	return journal.EndLine(f.clock)
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
		strange = strange || name != journal.File && !slices.Contains([]string{ownersDir, shardsDir, settingsFile, slurm.Dir}, name) && !(e.Type().IsRegular() && atomicfile.Temporary(name))
	}
	if strange {
		return false, usage.Errorf("%s holds other files; give a new folder", dir)
	}
	return false, nil
}

func (f *folder) close() error {
	var errs []error
	if f.clock != nil {
		errs = append(errs, f.clock.Close())
	}
	if f.journal != nil {
		errs = append(errs, f.journal.Close())
	}
	return errors.Join(append(errs, unlock(f.dir, f.owner))...)
}

// mine reports whether another process has taken the work over. It is asked before something is written.
func (f *folder) mine() error {
	if err := f.owner.Check(); err != nil {
		return usage.Errorf("%s: %w; nothing more is written", f.dir, err)
	}
	return nil
}

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

// read sums up the clocks of the run and of its shards by phase, in the order of their first line, and the
// telemetry, nil if there is none. A line that a killed process left unfinished is passed over.
func (f *folder) read() (out []result.Timing, seen *result.Telemetry, err error) {
	entries, err := os.ReadDir(f.path(shardsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("run folder: %w", err)
	}
	var clocks []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "."+clockFile) {
			clocks = append(clocks, f.path(shardsDir, e.Name()))
		}
	}
	at := map[string]int{}
	for _, name := range append(clocks, f.path(clockFile)) {
		err := eachLine(name, func(t clockLine) {
			if t.Telemetry != nil {
				if seen == nil {
					seen = new(result.Telemetry)
				}
				seen.Add(t.Telemetry)
			}
			if t.Timing == nil {
				return
			}
			i, ok := at[t.Phase]
			if !ok {
				i = len(out)
				at[t.Phase] = i
				out = append(out, result.Timing{Phase: t.Phase})
			}
			out[i].Seconds += t.Seconds
			out[i].Count += t.Count
		})
		if err != nil {
			return nil, nil, fmt.Errorf("run folder: %w", err)
		}
	}
	return out, seen, nil
}

// eachLine reads a clock.
func eachLine(name string, f func(clockLine)) error {
	r, err := os.Open(name)
	if err != nil {
		return err
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // telemetry of many devices is a long line
	for lines.Scan() {
		var t clockLine
		if strictjson.Unmarshal(lines.Bytes(), &t) == nil {
			f(t)
		}
	}
	return lines.Err()
}
