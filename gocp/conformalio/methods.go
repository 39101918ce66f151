package conformalio

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// Test is what the methods that do not stream have in common: where sets go, and labels to judge
// them by.
type Test struct {
	Labels string // optional: with them coverage is measured
	Out    string // as PredictJob.Out; optional with Labels
	// Threshold, unless empty, is a JSON file that gets the result: thresholds, what made them, and the
	// sources.
	Threshold string
}

// MethodResult is what cross-conformal prediction, RSCP and RPS say of their test rows.
type MethodResult struct {
	Method      string                `json:"method"`
	Score       *conformal.Variant    `json:"score,omitempty"`
	Miscoverage conformal.Level       `json:"miscoverage"`
	N           int                   `json:"n"`
	Test        int                   `json:"test"`
	Labels      int                   `json:"labels"`
	MeanSize    float64               `json:"mean_size"`
	Empty       int                   `json:"empty"`
	Coverage    *conformal.Proportion `json:"coverage,omitempty"`
	Out         string                `json:"out,omitempty"`
	Sources     []Source              `json:"sources"`
	Notes       []string              `json:"notes,omitempty"`

	Seed    uint64 `json:"seed,omitempty"`
	DrawnBy string `json:"u_drawn_by,omitempty"` // as Calibration.DrawnBy

	// Of cross-conformal prediction: the folds, whether it was the min-max form, and the proven floor of
	// coverage.
	Folds  int     `json:"folds,omitempty"`
	MinMax bool    `json:"min_max,omitempty"`
	Floor  float64 `json:"floor,omitempty"`

	// Of RSCP.
	RSCP      *conformal.RSCP      `json:"rscp,omitempty"`
	Draws     int                  `json:"draws,omitempty"`
	Radius    float64              `json:"radius,omitempty"`
	Threshold *conformal.Threshold `json:"threshold,omitempty"`

	// Of RPS: votes needed, calibration parts and their thresholds, null where infinite, and the rows
	// whose set loses (coverage) or gains (size) no label within the radii.
	Rule              conformal.VoteRule `json:"rule,omitempty"`
	Models            int                `json:"models,omitempty"`
	Parts             int                `json:"parts,omitempty"`
	Needed            int                `json:"needed,omitempty"`
	TrainingRadius    int                `json:"training_radius,omitempty"`
	CalibrationRadius int                `json:"calibration_radius,omitempty"`
	Taus              []float64          `json:"taus,omitempty"`
	CoverageReliable  []bool             `json:"coverage_reliable,omitempty"`
	SizeReliable      []bool             `json:"size_reliable,omitempty"`
}

func (r *MethodResult) record(ctx context.Context, role string, names ...string) error {
	c := Calibration{}
	for _, name := range names {
		if err := c.record(ctx, role, name); err != nil {
			return err
		}
	}
	r.Sources = append(r.Sources, c.Sources...)
	return nil
}

// check says what is wrong before any work is done, and reads the labels.
func (t Test) check(run Run, n, k int) (truth []int, write writer, err error) {
	if t.Out == "" && t.Labels == "" {
		return nil, writer{}, usage.Errorf("there is nowhere to write the sets and there are no labels to judge them by")
	}
	if t.Labels != "" {
		if truth, err = run.labels(t.Labels, n, k); err != nil {
			return nil, writer{}, err
		}
	}
	if t.Out != "" {
		write, err = setWriter(t.Out, n, k)
	}
	return truth, write, err
}

// finish writes the files and sums the sets up.
func (t Test) finish(r *MethodResult, sets *conformal.Sets, truth []int, write writer) (*MethodResult, error) {
	r.Test, r.Labels, r.Out = sets.N, sets.K, t.Out
	in := 0
	for i := range sets.N {
		size := sets.Size(i)
		r.MeanSize += float64(size) / float64(sets.N)
		if size == 0 {
			r.Empty++
		}
		if truth != nil && sets.Has(i, truth[i]) {
			in++
		}
	}
	if truth != nil {
		p := conformal.NewProportion(in, sets.N, conformal.Confidence)
		r.Coverage = &p
	}
	if t.Out != "" {
		err := atomicfile.Write(t.Out, func(w io.Writer) error {
			if err := write.head(w); err != nil {
				return err
			}
			return write.sets(w, 0, sets)
		})
		if err != nil {
			return nil, err
		}
	}
	if t.Threshold != "" {
		b, err := strictjson.Indent(r, "  ")
		if err != nil {
			return nil, err
		}
		if err := atomicfile.WriteBytes(t.Threshold, b); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// loadAll reads files of the same form and shape into memory; the first one's number of rows and
// labels decides unless it is given.
func loadAll(run Run, files []string, form Form, n, k int) ([]*conformal.Probs, error) {
	if len(files) == 0 {
		return nil, usage.Errorf("there are no files of %s", form)
	}
	var out []*conformal.Probs
	for _, name := range files {
		t, err := run.open(Input{File: name, Form: form})
		if err != nil {
			return nil, err
		}
		if n < 0 {
			n = t.m.N
		}
		if k < 0 {
			k = t.m.K
		}
		if t.m.N != n || t.m.K != k {
			t.m.Close()
			return nil, usage.Errorf("%s: %d rows of %d labels; %d of %d are wanted", name, t.m.N, t.m.K, n, k)
		}
		p, err := load(t)
		t.m.Close()
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// rowUniforms draws u for each of several tables.
func rowUniforms(v conformal.Variant, seed uint64, tables []*conformal.Probs) [][]float64 {
	var u [][]float64
	for _, p := range tables {
		u = append(u, v.RowUniforms(seed, p))
	}
	return u
}

// CrossJob is cross-conformal prediction: models trained without one fold each.
type CrossJob struct {
	Run
	Input       Input  // out-of-fold rows: each by the model without its fold
	Labels      string // of them
	Folds       string // a fold for each of them, from 0
	Tests       []string
	Score       conformal.Variant
	Miscoverage conformal.Level
	MinMax      bool
	Test        Test
}

// Predict runs the job; Tests has a file for each fold's model, in order.
func (j CrossJob) Predict() (*MethodResult, error) {
	own, err := loadAll(j.Run, []string{j.Input.File}, j.Input.Form, -1, -1)
	if err != nil {
		return nil, err
	}
	p := own[0]
	labels, err := j.labels(j.Labels, p.N, p.K)
	if err != nil {
		return nil, err
	}
	fold, err := j.groups(j.Folds, p.N)
	if err != nil {
		return nil, err
	}
	s, err := conformal.NewScorer(j.Score)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	c, err := conformal.NewCross(s, p, labels, fold, j.Score.RowUniforms(j.Seed, p))
	if err != nil {
		return nil, usage.Errorf("%s: %w", j.Folds, err)
	}
	if len(j.Tests) != c.Folds() {
		return nil, usage.Errorf("there are %d files of test rows for %d folds; each fold's model needs one", len(j.Tests), c.Folds())
	}
	models, err := loadAll(j.Run, j.Tests, j.Input.Form, -1, p.K)
	if err != nil {
		return nil, err
	}
	truth, write, err := j.Test.check(j.Run, models[0].N, p.K)
	if err != nil {
		return nil, err
	}
	predict := c.Predict
	variant := s.Variant()
	r := &MethodResult{Method: "cross", Score: &variant, Miscoverage: j.Miscoverage, N: p.N, Seed: j.Seed, DrawnBy: drawnBy(variant), Folds: c.Folds(), MinMax: j.MinMax,
		Floor: conformal.CrossFloor(j.Miscoverage, p.N, c.Folds())}
	if p.N < j.Miscoverage.MinCalibration() {
		r.Notes = append(r.Notes, tooFew(p.N, "labelled samples", j.Miscoverage))
	}
	if j.MinMax {
		predict, r.Floor = c.PredictMinMax, 1-j.Miscoverage.Float()
	}
	if err := r.record(j.context(), "out-of-fold scores", j.Input.File); err != nil {
		return nil, err
	}
	if err := r.record(j.context(), "labels", j.Labels); err != nil {
		return nil, err
	}
	if err := r.record(j.context(), "folds", j.Folds); err != nil {
		return nil, err
	}
	sets, err := predict(models, rowUniforms(variant, j.Seed, models), j.Miscoverage)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	return j.Test.finish(r, sets, truth, write)
}

// RSCPJob is smoothed conformal prediction: a file for each draw of the noise.
type RSCPJob struct {
	Run
	Form        Form
	Draws       []string // of calibration rows
	Labels      string
	Tests       []string // of test rows
	RSCP        conformal.RSCP
	Miscoverage conformal.Level
	Radius      float64 // in ℓ2 that the sets promise
	Test        Test
}

// Predict runs the job.
func (j RSCPJob) Predict() (*MethodResult, error) {
	cal, err := loadAll(j.Run, j.Draws, j.Form, -1, -1)
	if err != nil {
		return nil, err
	}
	n, k := cal[0].N, cal[0].K
	labels, err := j.labels(j.Labels, n, k)
	if err != nil {
		return nil, err
	}
	if len(j.Tests) != len(j.Draws) && (j.RSCP.Correction == "" || j.RSCP.Correction == conformal.CorrectNone) {
		return nil, usage.Errorf("there are %d draws for calibration and %d for the test; without a correction they must be as many, or their scores differ in law", len(j.Draws), len(j.Tests))
	}
	test, err := loadAll(j.Run, j.Tests, j.Form, -1, k)
	if err != nil {
		return nil, err
	}
	truth, write, err := j.Test.check(j.Run, test[0].N, k)
	if err != nil {
		return nil, err
	}
	smooth := func(draws []*conformal.Probs) (*conformal.Smoothed, error) {
		return j.RSCP.Smooth(draws, rowUniforms(j.RSCP.Base, j.Seed, draws))
	}
	s, err := smooth(cal)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	th, err := j.RSCP.Calibrate(s, labels, j.Miscoverage)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	if s, err = smooth(test); err != nil {
		return nil, usage.Wrap(err)
	}
	sets, err := j.RSCP.Predict(s, th, j.Radius)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	r := &MethodResult{Method: "rscp", Miscoverage: j.Miscoverage, N: n, Seed: j.Seed, DrawnBy: drawnBy(j.RSCP.Base), RSCP: &j.RSCP, Draws: len(j.Draws), Radius: j.Radius, Threshold: &th}
	if th.TooFew() {
		level, err := j.RSCP.Level(j.Miscoverage)
		if err != nil {
			return nil, usage.Wrap(err)
		}
		r.Notes = append(r.Notes, tooFew(n, "calibration samples", level))
	}
	if err := r.record(j.context(), "calibration draw", j.Draws...); err != nil {
		return nil, err
	}
	if err := r.record(j.context(), "labels", j.Labels); err != nil {
		return nil, err
	}
	return j.Test.finish(r, sets, truth, write)
}

// RPSJob is reliable prediction sets: votes of models trained on disjoint parts.
type RPSJob struct {
	Run
	Votes       string // of calibration rows: N × K whole numbers
	Labels      string
	Parts       string // the calibration part of each of them, from 0
	Tests       string // votes of test rows
	Rule        conformal.VoteRule
	Miscoverage conformal.Level
	Training    int // radii of the certificates
	Calibration int
	Test        Test
}

// Predict runs the job.
func (j RPSJob) Predict() (*MethodResult, error) {
	votes, err := openVotes(j.Run, j.Votes)
	if err != nil {
		return nil, err
	}
	labels, err := j.labels(j.Labels, votes.N, votes.K)
	if err != nil {
		return nil, err
	}
	part, err := j.groups(j.Parts, votes.N)
	if err != nil {
		return nil, err
	}
	test, err := openVotes(j.Run, j.Tests)
	if err != nil {
		return nil, err
	}
	truth, write, err := j.Test.check(j.Run, test.N, test.K)
	if err != nil {
		return nil, err
	}
	if j.Rule == "" {
		j.Rule = conformal.VoteMajority
	}
	parts := 0
	if len(part) > 0 {
		parts = slices.Max(part) + 1
	}
	rps, err := conformal.NewRPS(votes, labels, part, parts, j.Miscoverage, j.Rule)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	got, err := rps.Predict(test, j.Training, j.Calibration)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	r := &MethodResult{Method: "rps", Miscoverage: j.Miscoverage, N: votes.N, Rule: j.Rule, Models: votes.Models, Parts: parts, Needed: rps.Needed(),
		TrainingRadius: j.Training, CalibrationRadius: j.Calibration}
	for _, tau := range got.Thresholds {
		if tau > 1 { // no score lies above: every label is inside
			tau = math.Inf(1)
		}
		r.Taus = append(r.Taus, tau)
	}
	infinite := 0
	for _, tau := range got.Thresholds {
		if math.IsInf(tau, 1) {
			infinite++
		}
	}
	if infinite > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d of %d calibration parts have too few samples for miscoverage %s of one part and vote for every label; each needs at least %d", infinite, parts, rps.Level(), rps.Level().MinCalibration()))
	}
	for i := range test.N {
		r.CoverageReliable = append(r.CoverageReliable, got.CoverageReliable(i))
		r.SizeReliable = append(r.SizeReliable, got.SizeReliable(i))
	}
	if err := r.record(j.context(), "calibration votes", j.Votes); err != nil {
		return nil, err
	}
	if err := r.record(j.context(), "labels", j.Labels); err != nil {
		return nil, err
	}
	if err := r.record(j.context(), "calibration parts", j.Parts); err != nil {
		return nil, err
	}
	return j.Test.finish(r, got.Sets, truth, write)
}

func openVotes(run Run, name string) (*conformal.Votes, error) {
	m, err := matrix.Open(name, run.options())
	if err != nil {
		return nil, err
	}
	defer m.Close()
	values, err := m.All()
	if err != nil {
		return nil, err
	}
	counts := make([]int, len(values))
	for i, v := range values {
		counts[i] = int(v)
		if float64(counts[i]) != v || v < 0 || v > 1<<31 {
			return nil, usage.Errorf("%s: row %d, column %d is %v, no number of votes", name, i/m.K, i%m.K, v)
		}
	}
	v, err := conformal.NewVotes(m.N, m.K, counts)
	if err != nil {
		return nil, usage.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// RiskJob finds the threshold at which the expected share of true labels that a set misses is at
// most the risk, for rows that can have several.
type RiskJob struct {
	Run
	Input       Input
	Truth       string // N × K of 0 and 1
	Score       conformal.Variant
	Risk        conformal.Level
	Temperature float64
}

// Calibrate runs the job; the threshold is one for PredictJob.
func (j RiskJob) Calibrate() (*Calibration, error) {
	t, err := j.open(j.Input)
	if err != nil {
		return nil, err
	}
	defer t.m.Close()
	if j.Input.Form == FormProbabilities && j.Temperature != 0 {
		return nil, usage.Errorf("a temperature applies to logits, not to probabilities")
	}
	if j.Score.Nonempty {
		return nil, usage.Errorf("risk control has no use for nonempty: a top label that is added can only lower the risk")
	}
	t.temperature = j.Temperature
	m, err := matrix.Open(j.Truth, matrix.Options{Header: j.Header, Rows: t.m.N})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if m.N != t.m.N || m.K != t.m.K {
		return nil, usage.Errorf("%s: %d rows of %d columns; %s has %d of %d", j.Truth, m.N, m.K, j.Input.File, t.m.N, t.m.K)
	}
	values, err := m.All()
	if err != nil {
		return nil, err
	}
	truth := conformal.NewSets(m.N, m.K)
	for i, v := range values {
		switch v {
		case 1:
			truth.Add(i/m.K, i%m.K)
		case 0:
		default:
			return nil, usage.Errorf("%s: row %d, column %d is %v; it must be 0 or 1", j.Truth, i/m.K, i%m.K, v)
		}
	}
	p, err := load(t)
	if err != nil {
		return nil, err
	}
	s, err := conformal.NewScorer(j.Score)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	scores, err := s.All(p, j.Score.RowUniforms(j.Seed, p))
	if err != nil {
		return nil, err
	}
	th, err := conformal.ControlMissed(scores, truth, j.Risk)
	if err != nil {
		return nil, usage.Errorf("%s: %w", j.Truth, err)
	}
	c := &Calibration{Format: FileFormat, Version: FileVersion, Method: MethodRisk, Score: s.Variant(), Miscoverage: j.Risk, Coverage: j.Risk.Coverage(),
		Form: j.Input.Form, Temperature: j.Temperature, Seed: j.Seed, DrawnBy: drawnBy(s.Variant()), N: p.N,
		Thresholds: &conformal.Thresholds{Conditioning: conformal.Conditioning{By: conformal.Marginal, Below: conformal.BelowInfinite}, K: p.K, All: th, Absent: th}}
	c.Notes = c.notes()
	if err := c.record(j.context(), "calibration scores", j.Input.File); err != nil {
		return nil, err
	}
	c.Sources[0].columns(t.m)
	if err := c.record(j.context(), "true labels", j.Truth); err != nil {
		return nil, err
	}
	return c, nil
}

// MethodRisk is the method field of a threshold that controls the share of missed labels; for split
// conformal prediction the field is empty.
const MethodRisk = "risk"
