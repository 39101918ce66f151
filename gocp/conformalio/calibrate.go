package conformalio

import (
	"cmp"
	"context"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// FileFormat is the format field of a threshold file.
const FileFormat = "gocp-conformal-threshold"

// FileVersion is its version.
const FileVersion = 1

// Source is a file that a threshold came from.
type Source struct {
	Role   string `json:"role"`
	Name   string `json:"name"` // without its folder
	SHA256 string `json:"sha256"`
	// Columns are those of a table that were taken for labels 0, 1, 2 …, and LeftOut those that were not.
	Columns []string `json:"columns,omitempty"`
	LeftOut []string `json:"left_out,omitempty"`
}

func (s *Source) columns(m *matrix.Matrix) { s.Columns, s.LeftOut = m.Columns, m.LeftOut }

// Calibration is what a threshold file holds: everything that fixes the sets.
type Calibration struct {
	Format      string                `json:"format"`
	Version     int                   `json:"version"`
	Method      string                `json:"method,omitempty"` // MethodRisk, or empty
	Score       conformal.Variant     `json:"score"`
	Miscoverage conformal.Level       `json:"miscoverage"`
	Coverage    string                `json:"coverage"`
	Form        Form                  `json:"form"`
	Temperature float64               `json:"temperature"`
	Seed        uint64                `json:"seed"`
	DrawnBy     string                `json:"u_drawn_by,omitempty"` // conformal.DrawnByRow, for a score that draws u
	N           int                   `json:"n"`                    // calibration rows
	Tuned       int                   `json:"n_tuned"`              // rows that chose temperature, λ, k_reg or clusters
	Thresholds  *conformal.Thresholds `json:"thresholds"`
	Tuning      *conformal.Tuning     `json:"tuning,omitempty"`
	Sources     []Source              `json:"sources"`
	// Notes are what to know about the threshold.
	Notes []string `json:"notes,omitempty"`
}

// drawnBy is how a variant's u is drawn here; empty for one that draws none.
func drawnBy(v conformal.Variant) string {
	if v.Randomized() {
		return conformal.DrawnByRow
	}
	return ""
}

// CalibrateJob finds thresholds on labelled rows.
type CalibrateJob struct {
	Run
	Input        Input
	Labels       string
	Groups       string // a group for each row, for conditioning by group
	Score        conformal.Variant
	Auto         bool // λ, and for RAPS k_reg, from the tuning part
	Miscoverage  conformal.Level
	Conditioning conformal.Conditioning
	Clusters     int // their number, for conditioning by cluster; 0 by the paper's rule

	Temperature    float64 // of logits; 0 for none
	FitTemperature bool    // on the tuning part

	// The tuning part: other files, or a random share of the rows, which then calibrate nothing.
	Tune       string
	TuneLabels string
	TuneShare  float64
}

// Calibrate runs the job.
func (j CalibrateJob) Calibrate() (*Calibration, error) {
	t, err := j.open(j.Input)
	if err != nil {
		return nil, err
	}
	defer t.m.Close()
	n, k := t.Dims()
	labels, err := j.labelsOf(t, j.Labels)
	if err != nil {
		return nil, err
	}
	groups, err := j.groups(j.Groups, n)
	if err != nil {
		return nil, err
	}
	if (groups == nil) == (j.Conditioning.By == conformal.ByGroup) {
		return nil, usage.Errorf("groups are needed for conditioning by group, and for nothing else here")
	}
	if j.Input.Form == FormProbabilities && (j.FitTemperature || j.Temperature != 0) {
		return nil, usage.Errorf("a temperature applies to logits, not to probabilities")
	}
	if j.FitTemperature && j.Temperature != 0 {
		return nil, usage.Errorf("a temperature is either given or fitted")
	}
	c := &Calibration{Format: FileFormat, Version: FileVersion, Score: j.Score, Miscoverage: j.Miscoverage,
		Coverage: j.Miscoverage.Coverage(), Form: j.Input.Form, Temperature: j.Temperature, Seed: j.Seed}
	hashed := c.recordLater(j.context(), "calibration scores", j.Input.File)
	c.Sources[0].columns(t.m)
	if err := c.record(j.context(), "calibration labels", j.Labels); err != nil {
		return nil, err
	}

	var index []int // of the rows that calibrate; nil for all
	tuneTable, tuneLabels, tuneIndex := t, labels, []int(nil)
	wanted := j.Auto || j.FitTemperature || j.Conditioning.By == conformal.ByCluster
	given := j.Tune != "" || j.TuneShare != 0
	switch {
	case wanted && !given:
		return nil, usage.Errorf("what is fitted or chosen needs a part of its own, that calibrates nothing: give a tuning share or other files")
	case given && !wanted:
		return nil, usage.Errorf("there is a tuning part but nothing to tune")
	case j.Tune != "" && j.TuneShare != 0:
		return nil, usage.Errorf("the tuning part is either other files or a share, not both")
	case j.TuneShare != 0:
		if !(j.TuneShare > 0 && j.TuneShare < 1) {
			return nil, usage.Errorf("the tuning share is %g; it must lie between 0 and 1", j.TuneShare)
		}
		order := rand.New(rand.NewPCG(j.Seed, 0x7475)).Perm(n)
		cut := int(j.TuneShare * float64(n))
		tuneIndex, index = order[:cut:cut], order[cut:]
		slices.Sort(tuneIndex)
		slices.Sort(index)
	case j.Tune != "":
		if tuneTable, err = j.open(Input{File: j.Tune, Form: j.Input.Form}); err != nil {
			return nil, err
		}
		defer tuneTable.m.Close()
		if tuneTable.m.K != k {
			return nil, usage.Errorf("%s: rows of %d labels; the calibration rows have %d", j.Tune, tuneTable.m.K, k)
		}
		if tuneLabels, err = j.labelsOf(tuneTable, j.TuneLabels); err != nil {
			return nil, err
		}
		if err := c.record(j.context(), "tuning scores", j.Tune); err != nil {
			return nil, err
		}
		same, err := sameRows(tuneTable.m, t.m)
		if err != nil {
			return nil, err
		}
		if same {
			return nil, usage.Errorf("%s: it is the calibration part itself; what is tuned on the samples that calibrate voids the guarantee", j.Tune)
		}
		tuneIndex = make([]int, tuneTable.m.N)
		for i := range tuneIndex {
			tuneIndex[i] = i
		}
	}
	if wanted {
		if err := j.tune(c, tuneTable, tuneIndex, pick(tuneLabels, tuneIndex)); err != nil {
			return nil, err
		}
	}

	scorer, err := conformal.NewScorer(c.Score)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	c.Score, c.DrawnBy = scorer.Variant(), drawnBy(scorer.Variant())
	t.temperature = c.Temperature
	c.N = n
	var calibration interface {
		conformal.Table
		named(err error) error
	} = t
	if index != nil {
		calibration, c.N = rows{t, index}, len(index)
	}
	labels, groups = pick(labels, index), pick(groups, index)
	o, task := j.stream("calibration scores", c.N, j.Seed)
	defer task.Done()
	conditioning := j.Conditioning
	if c.Thresholds != nil { // clusters
		conditioning = c.Thresholds.Conditioning
	}
	c.Thresholds, err = scorer.CalibrateTable(calibration, labels, groups, j.Miscoverage, conditioning, o)
	if err != nil {
		if j.context().Err() != nil {
			return nil, err
		}
		return nil, usage.Wrap(calibration.named(err))
	}
	if err := hashed(); err != nil {
		return nil, err
	}
	c.Notes = c.notes()
	last := c.lastLabelNote()
	if c.mayBeFull() {
		n, err := c.countCertain(j.Run, scorer, calibration, labels)
		if err != nil {
			return nil, err
		}
		if note := c.certainNote(n); note != "" {
			last = note
		}
	}
	if last != "" {
		c.Notes = append(c.Notes, last)
	}
	if said := t.sums.say(j.Progress, matrix.Base(j.Input.File)); said != "" {
		c.Notes = append(c.Notes, said)
	}
	return c, nil
}

// tune fills in what the tuning part decides; clusters wait in c.Thresholds.
func (j CalibrateJob) tune(c *Calibration, t table, index, labels []int) error {
	c.Tuned = len(index)
	k := t.m.K
	if j.FitTemperature {
		raw := make([]float64, len(index)*k)
		for i, at := range index {
			if err := t.m.Read(raw[i*k:(i+1)*k], at); err != nil {
				return err
			}
		}
		var err error
		if c.Temperature, err = conformal.FitTemperature(len(index), k, raw, labels); err != nil {
			return usage.Wrap(err)
		}
	}
	if !j.Auto && j.Conditioning.By != conformal.ByCluster {
		return nil
	}
	t.temperature = c.Temperature
	p, err := load(rows{t, index})
	if err != nil {
		return err
	}
	u := c.Score.RowUniforms(j.Seed, p)
	if j.Auto {
		var tuning conformal.Tuning
		switch c.Score.Name {
		case "raps":
			c.Score, tuning, err = conformal.TuneRAPS(c.Score, p, labels, u, j.Miscoverage)
		case "saps":
			c.Score, tuning, err = conformal.TuneSAPS(c.Score, p, labels, u, j.Miscoverage)
		default:
			return usage.Errorf("the score %s has nothing to choose; auto is for raps and saps", c.Score.Name)
		}
		if err != nil {
			return usage.Wrap(err)
		}
		c.Tuning = &tuning
	}
	if j.Conditioning.By == conformal.ByCluster {
		scorer, err := conformal.NewScorer(c.Score)
		if err != nil {
			return usage.Wrap(err)
		}
		scores, err := scorer.Labelled(p, labels, u)
		if err != nil {
			return err
		}
		conditioning := j.Conditioning
		conditioning.Clusters, err = conformal.Cluster(scores, labels, k, j.Miscoverage, conformal.ClusterOptions{Clusters: j.Clusters, Seed: j.Seed})
		if err != nil {
			return usage.Wrap(err)
		}
		c.Thresholds = &conformal.Thresholds{Conditioning: conditioning}
	}
	return nil
}

func (c *Calibration) record(ctx context.Context, role, name string) error {
	h, err := matrix.Hash(ctx, name)
	if err != nil {
		return err
	}
	c.Sources = append(c.Sources, Source{Role: role, Name: matrix.Base(name), SHA256: h})
	return nil
}

// recordLater is record beside other work, since a large file takes a while; the function that it
// returns waits for it.
func (c *Calibration) recordLater(ctx context.Context, role, name string) func() error {
	at := len(c.Sources)
	c.Sources = append(c.Sources, Source{Role: role, Name: matrix.Base(name)})
	hash := make(chan string, 1)
	var err error
	go func() {
		var h string
		h, err = matrix.Hash(ctx, name)
		hash <- h
		close(hash)
	}()
	return func() error {
		if h, first := <-hash; first {
			c.Sources[at].SHA256 = h
		}
		return err
	}
}

// Save writes the threshold file.
func (c *Calibration) Save(path string) error {
	b, err := strictjson.Indent(c, "  ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, b)
}

// LoadCalibration reads what Save writes.
func LoadCalibration(path string) (*Calibration, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	c, err := ParseCalibration(b)
	if err != nil {
		return nil, usage.Errorf("%s: not a valid threshold file: %w", path, err)
	}
	return c, nil
}

// ParseCalibration reads a threshold file from memory.
func ParseCalibration(b []byte) (*Calibration, error) {
	c := new(Calibration)
	if err := strictjson.Unmarshal(b, c); err != nil {
		return nil, usage.Wrap(err)
	}
	if c.Format != FileFormat || c.Version != FileVersion || c.Thresholds == nil {
		return nil, usage.Errorf("it is not of version %d, as gocp conformal calibrate writes it", FileVersion)
	}
	if c.Method != "" && c.Method != MethodRisk {
		return nil, usage.Errorf("its method %q is unknown", c.Method)
	}
	if c.Miscoverage.String() == "" {
		return nil, usage.Errorf("its miscoverage is missing")
	}
	if err := c.Thresholds.Check(); err != nil {
		return nil, usage.Wrap(err)
	}
	if _, err := conformal.NewScorer(c.Score); err != nil {
		return nil, usage.Wrap(err)
	}
	if c.DrawnBy != drawnBy(c.Score) {
		return nil, usage.Errorf("its u was drawn by %q, here it is by the %s itself: calibrate again", cmp.Or(c.DrawnBy, "number of the row"), conformal.DrawnByRow)
	}
	if c.Form != FormLogits && c.Form != FormProbabilities {
		return nil, usage.Errorf("the form of its input is unknown")
	}
	return c, nil
}
