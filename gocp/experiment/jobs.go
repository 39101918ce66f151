package experiment

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/journal"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/trainer"
	"github.com/gocp/gocp/gocp/usage"
)

// settingsFile holds the settings of a run that has not begun: what the engine is that it runs on is
// known where it does.
const settingsFile = "settings.json"

// settings is settings.json.
type settings struct {
	Schema  int          `json:"schema"`
	Data    string       `json:"data"`
	Reading data.Reading `json:"reading,omitzero"`
	Config  Config       `json:"config"`
}

// Prepare makes dir the folder of a run that is begun elsewhere, with the settings that it is to have.
func Prepare(dir string, c Config, d Data) error {
	if _, err := prepare(c, d); err != nil {
		return err
	}
	switch going, err := begun(dir); {
	case err != nil:
		return err
	case going:
		return usage.Errorf("%s holds a run already; go on with it, or give a new folder", dir)
	}
	b, err := strictjson.Indent(settings{identitySchema, d.Train.Name, d.Reading, c.WithDefaults()}, " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return usage.Errorf("run folder: %w", err)
	}
	return atomicfile.WriteBytes(filepath.Join(dir, settingsFile), b)
}

// prepared returns the settings of a run that has not begun.
func prepared(dir string) (s settings, ok bool, err error) {
	if _, err := os.Stat(filepath.Join(dir, configFile)); !errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, settingsFile))
	if err != nil {
		return s, false, nil
	}
	if err := strictjson.UnmarshalKnown(b, &s); err != nil {
		return s, false, usage.Errorf("%s: %s: %w", dir, settingsFile, err)
	}
	return s, true, nil
}

// Job is what of a run one shard or another does.
type Job struct {
	Name string
	Done bool
}

// Jobs lists the jobs of the run in dir by stage, in the order that shards count them in, with the seconds
// that one of the stage took on the mean, 0 if none has ended. Files are taken for whole that have their size.
func Jobs(dir string) (jobs map[string][]Job, seconds map[string]float64, err error) {
	c, _, err := LoadConfig(dir)
	if err != nil {
		return nil, nil, err
	}
	c = c.WithDefaults()
	f := &folder{dir: dir, say: func(string, ...any) {}}
	f.journal, err = journal.Read(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	r := &run{cfg: c, folder: f, split: &splits{}, surrogateSpecs: make([]nn.Spec, 1),
		victimCommand: trainer.Command{Words: c.VictimCommand}, referenceCommand: trainer.Command{Words: c.ReferenceCommand}}
	r.opt.Shard = Shard{Index: -1, Of: 1} // nobody's: nothing is asked of the files here
	_, all := r.plan()
	jobs, seconds = map[string][]Job{}, map[string]float64{}
	for stage, list := range all {
		for _, j := range list {
			done := true
			for _, file := range j.files {
				done = done && f.journal.Sized(file)
			}
			jobs[stage] = append(jobs[stage], Job{j.name, done})
		}
	}
	timings, _, err := f.read()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	stages := map[string]string{"train " + roleSurrogate: StageBenign, "train " + roleReference: StageBenign, "train " + roleControl: StageBenign, "craft": StagePoisons, "train " + roleVictim: StageVictims}
	counts := map[string]int{}
	for _, t := range timings {
		if stage := stages[t.Phase]; stage != "" {
			seconds[stage] += float64(t.Seconds)
			counts[stage] += t.Count
		}
	}
	for stage, n := range counts {
		seconds[stage] /= float64(max(n, 1))
	}
	return jobs, seconds, nil
}

// Finished tells whether the run in dir has a result.
func Finished(dir string) bool {
	j, err := journal.Read(dir)
	return err == nil && j.Sized(result.File)
}
