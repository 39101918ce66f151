package conformalio

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/internal/testfiles"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/usage"
)

// sample writes logits, labels, groups and features of n rows.
type sample struct {
	n, k                             int
	z                                []float32
	labels                           []int
	logits, label, group, features   string
	probabilities, csvLogits, csvLab string
}

func draw(t *testing.T, dir, name string, seed uint64, n, k int) sample {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	s := sample{n: n, k: k}
	labels, groups, x := make([]int64, n), make([]int64, n), make([]float32, n*3)
	var csv, lab strings.Builder
	var p []float64
	for i := range n {
		y := r.IntN(k)
		labels[i], groups[i] = int64(y), int64(y%2)
		s.labels = append(s.labels, y)
		row := make([]float32, k)
		for j := range row {
			row[j] = float32(r.NormFloat64())
		}
		row[y] += float32(4 * r.Float64())
		s.z = append(s.z, row...)
		for j := range 3 {
			x[3*i+j] = float32(r.NormFloat64())
		}
		x[3*i+y%3] += 3
		for j, v := range row {
			if j > 0 {
				csv.WriteByte(',')
			}
			csv.WriteString(strconv.FormatFloat(float64(v), 'g', -1, 64))
		}
		csv.WriteByte('\n')
		fmt.Fprintln(&lab, y)
		q := make([]float64, k)
		if err := conformal.SoftmaxRow(q, row); err != nil {
			t.Fatal(err)
		}
		p = append(p, q...)
	}
	at := func(kind string) string { return filepath.Join(dir, name+kind) }
	s.logits = testfiles.Npy(t, at("_z.npy"), npy.Float32(s.z, n, k))
	s.label = testfiles.Npy(t, at("_y.npy"), npy.Int64(labels, n))
	s.group = testfiles.Npy(t, at("_g.npy"), npy.Int64(groups, n))
	s.features = testfiles.Npy(t, at("_x.npy"), npy.Float32(x, n, 3))
	s.probabilities = testfiles.Npy(t, at("_p.npy"), npy.Float64(p, n, k))
	s.csvLogits = testfiles.Text(t, at("_z.csv"), csv.String())
	s.csvLab = testfiles.Text(t, at("_y.csv"), "label\n"+lab.String())
	return s
}

func logitsOf(s sample) Input { return Input{s.logits, FormLogits} }

// TestJobsAreTheLibrary: files in, files out, and the library's own sets.
func TestJobsAreTheLibrary(t *testing.T) {
	dir := t.TempDir()
	cal, test := draw(t, dir, "cal", 1, 300, 6), draw(t, dir, "test", 2, 200, 6)
	level := conformal.MustLevel("0.1")
	for _, v := range []conformal.Variant{{Name: "hps"}, {Name: "aps", U: conformal.DrawSample}, {Name: "raps", Lambda: .1, KReg: 2, U: conformal.DrawLabel, Nonempty: true}} {
		for _, by := range []conformal.Condition{conformal.Marginal, conformal.ByClass, conformal.ByGroup} {
			job := CalibrateJob{Run: Run{Seed: 9}, Input: logitsOf(cal), Labels: cal.label, Score: v, Miscoverage: level, Conditioning: conformal.Conditioning{By: by}}
			groups := ""
			if by == conformal.ByGroup {
				job.Groups, groups = cal.group, test.group
			}
			c, err := job.Calibrate()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "thr.json")
			if err := c.Save(path); err != nil {
				t.Fatal(err)
			}
			back, err := LoadCalibration(path)
			if err != nil {
				t.Fatal(err)
			}
			a, _ := json.Marshal(c)
			b, _ := json.Marshal(back)
			if string(a) != string(b) {
				t.Fatalf("%s became %s", a, b)
			}

			s, _ := conformal.NewScorer(v)
			p, _ := conformal.Softmax(cal.n, cal.k, cal.z)
			scores, err := s.Labelled(p, cal.labels, v.RowUniforms(9, p))
			if err != nil {
				t.Fatal(err)
			}
			group := func(labels []int) []int {
				out := make([]int, len(labels))
				for i, y := range labels {
					out[i] = y % 2
				}
				return out
			}
			th, err := conformal.CalibrateCells(scores, cal.labels, group(cal.labels), cal.k, level, conformal.Conditioning{By: by})
			if err != nil {
				t.Fatal(err)
			}
			q, _ := conformal.Softmax(test.n, test.k, test.z)
			want, err := s.PredictCells(q, v.RowUniforms(9, q), th, group(test.labels))
			if err != nil {
				t.Fatal(err)
			}
			metrics, _ := conformal.Evaluate(want, test.labels)

			for _, ext := range []string{".npy", ".jsonl", ".csv"} {
				out := filepath.Join(dir, "sets"+ext)
				got, err := PredictJob{Calibration: back, Input: logitsOf(test), Groups: groups, Out: out}.Predict()
				if err != nil {
					t.Fatal(err)
				}
				if math.Abs(got.MeanSize-metrics.MeanSize) > 1e-12 || got.Empty != metrics.Empty || got.Singleton != metrics.Singleton || got.Filled != want.Filled {
					t.Errorf("%+v, library %+v", got, metrics)
				}
				for i, labels := range readSets(t, out, test.k) {
					if !slices.Equal(labels, want.Labels(i)) {
						t.Fatalf("%s %s %s: set %d is %v, library %v", v, by, ext, i, labels, want.Labels(i))
					}
				}
			}
			e, err := EvaluateJob{Calibration: back, Input: Input{test.csvLogits, FormLogits}, Labels: test.csvLab, Groups: test.group, Features: test.features}.Evaluate()
			if err != nil {
				t.Fatal(err)
			}
			a, _ = json.Marshal(e.Metrics)
			b, _ = json.Marshal(metrics)
			if string(a) != string(b) {
				t.Errorf("%s %s: from CSV %s, library %s", v, by, a, b)
			}
			bySize, _ := conformal.EvaluateSizes(want, test.labels, conformal.SizeRanges)
			byRank, _ := conformal.EvaluateDifficulty(want, q, test.labels, rankRanges)
			byGroup, _ := conformal.EvaluateGroups(want, test.labels, group(test.labels))
			for i, pair := range [][2][]conformal.Stratum{{e.BySize, bySize}, {e.ByDifficulty, byRank}, {e.ByGroup, byGroup}} {
				if !slices.Equal(pair[0], pair[1]) {
					t.Errorf("strata %d: %+v, library %+v", i, pair[0], pair[1])
				}
			}
			for i, share := range sizeQuantiles {
				if e.SizeQuantiles[i] != conformal.SizeQuantile(want, share) {
					t.Errorf("size quantile %v: %d", share, e.SizeQuantiles[i])
				}
			}
			if (e.Expected != nil) != (by == conformal.Marginal) || e.WorstSlice == nil {
				t.Errorf("expected %+v, slice %+v", e.Expected, e.WorstSlice)
			}
		}
	}
}

func readSets(t *testing.T, path string, k int) [][]int {
	t.Helper()
	var out [][]int
	if strings.HasSuffix(path, ".npy") {
		a, err := npy.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range a.Shape[0] {
			set := []int{}
			for y := range k {
				if a.Data[i*k+y] == 1 {
					set = append(set, y)
				}
			}
			out = append(out, set)
		}
		return out
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if strings.HasSuffix(path, ".csv") {
		lines = lines[1:]
	}
	for i, line := range lines {
		var row struct {
			Row, Size int
			Set       []int
		}
		if strings.HasSuffix(path, ".jsonl") {
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
		} else {
			fields := strings.Split(line, ",")
			row.Row, _ = strconv.Atoi(fields[0])
			row.Size, _ = strconv.Atoi(fields[1])
			row.Set = []int{}
			for _, f := range strings.Fields(fields[2]) {
				y, _ := strconv.Atoi(f)
				row.Set = append(row.Set, y)
			}
		}
		if row.Row != i || row.Size != len(row.Set) {
			t.Fatalf("line %q", line)
		}
		out = append(out, row.Set)
	}
	return out
}

// TestTuning: what is tuned on a share leaves that share out of the calibration, and other files
// must be other files.
func TestTuning(t *testing.T) {
	dir := t.TempDir()
	cal, other := draw(t, dir, "cal", 3, 400, 5), draw(t, dir, "tune", 4, 200, 5)
	base := CalibrateJob{Run: Run{Seed: 1}, Input: logitsOf(cal), Labels: cal.label, Score: conformal.Variant{Name: "raps"}, Auto: true, Miscoverage: conformal.MustLevel("0.1")}
	share := base
	share.TuneShare, share.FitTemperature, share.Conditioning.By = 0.5, true, conformal.ByCluster
	c, err := share.Calibrate()
	if err != nil {
		t.Fatal(err)
	}
	if c.N != 200 || c.Tuned != 200 || c.Thresholds.All.N != 200 || c.Temperature <= 0 || c.Tuning == nil || c.Score.KReg == 0 || len(c.Thresholds.Conditioning.Clusters) != 5 {
		t.Errorf("%+v", c)
	}
	files := base
	files.Tune, files.TuneLabels = other.logits, other.label
	if c, err = files.Calibrate(); err != nil || c.N != 400 || c.Tuned != 200 || len(c.Sources) != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	// Two parts of one file are two parts; the same numbers in another file are the same part.
	both := base
	both.Input.File, both.Tune, both.TuneLabels = zipBoth(t, dir, cal, other)+":cal", filepath.Join(dir, "both.npz:tune"), other.label
	if c, err = both.Calibrate(); err != nil || c.N != 400 || c.Tuned != 200 {
		t.Errorf("%+v, %v", c, err)
	}
	for text, change := range map[string]func(*CalibrateJob){
		"calibration part itself":  func(j *CalibrateJob) { j.Tune, j.TuneLabels = cal.logits, cal.label },
		"ation part itself; what":  func(j *CalibrateJob) { j.Tune, j.TuneLabels = filepath.Join(dir, "both.npz:cal"), cal.label },
		"part of its own":          func(j *CalibrateJob) {},
		"nothing to tune":          func(j *CalibrateJob) { j.Auto, j.TuneShare = false, 0.5 },
		"not both":                 func(j *CalibrateJob) { j.Tune, j.TuneShare = other.logits, 0.5 },
		"between 0 and 1":          func(j *CalibrateJob) { j.TuneShare = 1.5 },
		"nothing to choose":        func(j *CalibrateJob) { j.TuneShare, j.Score.Name = 0.5, "hps" },
		"for 400 rows":             func(j *CalibrateJob) { j.Labels = other.label },
		"not to probabilities":     func(j *CalibrateJob) { j.Input = Input{cal.probabilities, FormProbabilities}; j.Temperature = 2 },
		"no probability":           func(j *CalibrateJob) { j.Input.Form, j.Auto = FormProbabilities, false },
		"unknown conditioning":     func(j *CalibrateJob) { j.Auto, j.Conditioning.By = false, "x" },
		"unknown score":            func(j *CalibrateJob) { j.Auto, j.Score.Name = false, "x" },
		"groups are needed":        func(j *CalibrateJob) { j.Auto, j.Groups = false, cal.group },
		"given or fitted":          func(j *CalibrateJob) { j.FitTemperature, j.Temperature = true, 2 },
		"form of input":            func(j *CalibrateJob) { j.Input.Form = "x" },
		"rows of 3 labels; the ca": func(j *CalibrateJob) { j.Tune, j.TuneLabels = other.features, other.label },
	} {
		j := base
		change(&j)
		if _, err := j.Calibrate(); err == nil || !strings.Contains(err.Error(), text) || !usage.Is(err) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestNote: a τ that all last labels of APS tie with, but for rounding, is said to be one.
func TestNote(t *testing.T) {
	s := draw(t, t.TempDir(), "a", 9, 200, 2)
	for score, want := range map[conformal.Variant]bool{{Name: "aps"}: true, {Name: "raps", Lambda: 0.1, KReg: 1}: true, {Name: "aps", U: conformal.DrawSample}: false, {Name: "hps"}: false} {
		c, err := CalibrateJob{Input: logitsOf(s), Labels: s.label, Score: score, Miscoverage: conformal.MustLevel("0.05")}.Calibrate()
		if err != nil {
			t.Fatal(err)
		}
		if (len(c.Notes) > 0) != want {
			t.Errorf("%s: τ %v, notes %q", score, c.Thresholds.All.Tau, c.Notes)
		}
	}
}

func zipBoth(t *testing.T, dir string, cal, tune sample) string {
	t.Helper()
	path := filepath.Join(dir, "both.npz")
	z := npy.Archive{{Name: "cal", Array: npy.Float32(cal.z, cal.n, cal.k)}, {Name: "tune", Array: npy.Float32(tune.z, tune.n, tune.k)}}
	if err := z.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestProbabilities: probabilities give the thresholds that their logits give.
func TestProbabilities(t *testing.T) {
	dir := t.TempDir()
	s := draw(t, dir, "a", 5, 150, 4)
	job := CalibrateJob{Input: logitsOf(s), Labels: s.label, Score: conformal.Variant{Name: "aps"}, Miscoverage: conformal.MustLevel("0.1")}
	a, err := job.Calibrate()
	if err != nil {
		t.Fatal(err)
	}
	job.Input = Input{s.probabilities, FormProbabilities}
	b, err := job.Calibrate()
	if err != nil || a.Thresholds.All != b.Thresholds.All {
		t.Errorf("%+v and %+v, %v", a.Thresholds.All, b, err)
	}
	if _, err := (PredictJob{Calibration: b, Input: logitsOf(s), Out: filepath.Join(dir, "x.npy")}).Predict(); err == nil || !strings.Contains(err.Error(), "the threshold is for") {
		t.Errorf("logits for probabilities: %v", err)
	}
}

func TestBadThresholdFiles(t *testing.T) {
	dir := t.TempDir()
	for i, text := range []string{"", "{}", "3", `{"format":"gocp-conformal-threshold","version":1}`,
		`{"format":"gocp-conformal-threshold","version":1,"score":{"name":"x"},"form":"logits","thresholds":{"conditioning":{"by":"marginal","below":"infinite"},"labels":2,"all":{"tau":1},"absent":{"tau":1}}}`} {
		path := testfiles.Text(t, filepath.Join(dir, strconv.Itoa(i)+".json"), text)
		if _, err := LoadCalibration(path); err == nil || !usage.Is(err) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := LoadCalibration(filepath.Join(dir, "absent.json")); !usage.Is(err) {
		t.Errorf("absent: %v", err)
	}
}

// TestSplits: coverage over splits follows its law, and scores without u give what split by split
// calibration gives.
func TestSplits(t *testing.T) {
	dir := t.TempDir()
	s := draw(t, dir, "a", 6, 600, 5)
	job := SplitsJob{Run: Run{Seed: 3}, Input: logitsOf(s), Labels: s.label, Miscoverage: conformal.MustLevel("0.2"), Splits: 60, TuneShare: 0.2, Auto: true,
		Scores: []conformal.Variant{{Name: "hps"}, {Name: "raps", U: conformal.DrawSample}, {Name: "aps", Nonempty: true}}}
	got, err := job.Evaluate()
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range got {
		if r.Calibration != 240 || r.Test != 240 || r.Splits != 60 {
			t.Errorf("%+v", r)
		}
		if z := (r.Coverage.Mean - r.Expected) / (r.ExpectedSD / math.Sqrt(60)); z < -4.5 || z > 4.5 && i < 2 {
			t.Errorf("%s: coverage %v, expected %v", r.Score, r.Coverage, r.Expected)
		}
		if r.MeanSize.Mean < 1 || r.MeanSize.Mean > 5 || r.Outside > 0.25 && i < 2 {
			t.Errorf("%+v", r)
		}
	}
	if got[2].Empty.Mean != 0 {
		t.Errorf("empty sets in spite of the top label: %+v", got[2])
	}
	job.Workers = 1
	again, err := job.Evaluate()
	if err != nil || !reflect.DeepEqual(got, again) {
		t.Errorf("not the same with one worker: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	job.Context = ctx
	if _, err := job.Evaluate(); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for text, change := range map[string]func(*SplitsJob){
		"number of splits":  func(j *SplitsJob) { j.Splits = 0 },
		"calibration share": func(j *SplitsJob) { j.Share = 1 },
		"tuning share":      func(j *SplitsJob) { j.TuneShare = 0 },
	} {
		j := job
		change(&j)
		if _, err := j.Evaluate(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFullJob(t *testing.T) {
	dir := t.TempDir()
	a, b := draw(t, dir, "a", 7, 90, 3), draw(t, dir, "b", 8, 70, 3)
	for _, head := range []string{"ridge", "softmax"} {
		out := filepath.Join(dir, "sets.npy")
		job := FullJob{Features: a.features, Labels: a.label, TestFeatures: b.features, TestLabels: b.label, Head: head, Lambda: 1, Bias: true,
			Miscoverage: conformal.MustLevel("0.1"), Out: out}
		r, err := job.Predict()
		if err != nil {
			t.Fatal(err)
		}
		total, in := 0, 0
		for i, set := range readSets(t, out, 3) {
			total += len(set)
			if slices.Contains(set, b.labels[i]) {
				in++
			}
		}
		if math.Abs(r.MeanSize-float64(total)/70) > 1e-12 || r.Coverage.K != in || r.Coverage.High < 0.9 || r.Labels != 3 {
			t.Errorf("%+v: %d labels, %d covered in the file", r, total, in)
		}
	}
	for text, change := range map[string]func(*FullJob){
		"unknown head":        func(j *FullJob) { j.Head = "x" },
		"lambda":              func(j *FullJob) { j.Lambda = 0 },
		"nowhere to write":    func(j *FullJob) { j.TestLabels = "" },
		"rows of 3 features;": func(j *FullJob) { j.Features = a.logits[:len(a.logits)-6] + "_y.npy" },
		"must lie in [0, 2)":  func(j *FullJob) { j.Classes = 2 },
	} {
		j := FullJob{Features: a.features, Labels: a.label, TestFeatures: b.features, TestLabels: b.label, Lambda: 1, Miscoverage: conformal.MustLevel("0.1")}
		change(&j)
		if _, err := j.Predict(); err == nil || !strings.Contains(err.Error(), text) || !usage.Is(err) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
