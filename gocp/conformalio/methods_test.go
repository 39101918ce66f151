package conformalio

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/usage"
)

func saveNpy(t *testing.T, dir, name string, a *npy.Array) string {
	t.Helper()
	path := filepath.Join(dir, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := npy.Write(f, a); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func methodData(t *testing.T, dir, name string, r *rand.Rand, n, k int, draws int) (files []string, labels string) {
	t.Helper()
	y := make([]int64, n)
	for i := range y {
		y[i] = r.Int64N(int64(k))
	}
	for d := range draws {
		z := make([]float32, n*k)
		for i := range z {
			z[i] = float32(r.NormFloat64())
			if int64(i%k) == y[i/k] {
				z[i] += 2
			}
		}
		files = append(files, saveNpy(t, dir, name+string(rune('a'+d))+".npy", npy.Float32(z, n, k)))
	}
	return files, saveNpy(t, dir, name+"_y.npy", npy.Int64(y, n))
}

func TestMethods(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(8, 1))
	const n, m, k = 200, 100, 4
	cal, calY := methodData(t, dir, "cal", r, n, k, 3)
	test, testY := methodData(t, dir, "test", r, m, k, 3)
	level := conformal.MustLevel("0.1")
	judged := func(r *MethodResult, err error) *MethodResult {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if r.Test != m || r.Coverage == nil || r.Coverage.Rate < 0.75 || r.MeanSize < 0.8 || len(r.Sources) < 2 {
			t.Errorf("%+v", r)
		}
		a, err := npy.Load(r.Out)
		if err != nil || !slices.Equal(a.Shape, []int{m, k}) {
			t.Fatalf("%v, %v", a, err)
		}
		total := 0
		for _, v := range a.Data {
			total += int(v)
		}
		if math.Abs(float64(total)/m-r.MeanSize) > 1e-12 {
			t.Errorf("%d labels in %s, mean size %v", total, r.Out, r.MeanSize)
		}
		return r
	}
	out := Test{Labels: testY, Out: filepath.Join(dir, "s.npy"), Threshold: filepath.Join(dir, "t.json")}

	fold := make([]int64, n)
	for i := range fold {
		fold[i] = int64(i % 3)
	}
	folds := saveNpy(t, dir, "fold.npy", npy.Int64(fold, n))
	cross := CrossJob{Input: Input{cal[0], FormLogits}, Labels: calY, Folds: folds, Tests: test, Score: conformal.Variant{Name: "aps", U: conformal.DrawSample}, Miscoverage: level, Test: out}
	plain := judged(cross.Predict())
	cross.MinMax = true
	if wide := judged(cross.Predict()); wide.MeanSize < plain.MeanSize || wide.Floor <= plain.Floor {
		t.Errorf("min-max: size %v of %v, floor %v of %v", wide.MeanSize, plain.MeanSize, wide.Floor, plain.Floor)
	}
	var saved MethodResult
	b, err := os.ReadFile(out.Threshold)
	if err != nil || json.Unmarshal(b, &saved) != nil || saved.Method != "cross" || saved.Sources[0].SHA256 == "" {
		t.Errorf("%s, %v", b, err)
	}
	cross.Tests = test[1:]
	if _, err := cross.Predict(); !usage.Is(err) || !strings.Contains(err.Error(), "3 folds") {
		t.Error(err)
	}

	rscp := RSCPJob{Form: FormLogits, Draws: cal, Labels: calY, Tests: test, RSCP: conformal.RSCP{Base: conformal.Variant{Name: "hps"}, Sigma: 0.5}, Miscoverage: level, Test: out}
	near := judged(rscp.Predict())
	rscp.Radius = 0.2
	if far := judged(rscp.Predict()); far.MeanSize < near.MeanSize || far.Threshold.N != n {
		t.Errorf("radius 0.2: size %v of %v", far.MeanSize, near.MeanSize)
	}
	rscp.Tests = test[:2]
	if _, err := rscp.Predict(); !usage.Is(err) {
		t.Error(err)
	}

	votes := func(name string, labels string, n int) string {
		y, err := matrix.Ints(labels, matrix.Options{})
		if err != nil {
			t.Fatal(err)
		}
		counts := make([]int64, n*k)
		for i := range n {
			for range 15 {
				label := y[i]
				if r.IntN(3) == 0 {
					label = r.IntN(k)
				}
				counts[i*k+label]++
			}
		}
		return saveNpy(t, dir, name, npy.Int64(counts, n, k))
	}
	rps := RPSJob{Votes: votes("v.npy", calY, n), Labels: calY, Parts: folds, Tests: votes("tv.npy", testY, m), Miscoverage: level, Test: out}
	certain := judged(rps.Predict())
	rps.Training = 3
	if attacked := judged(rps.Predict()); count(attacked.CoverageReliable) > count(certain.CoverageReliable) || count(certain.CoverageReliable) != m || len(attacked.Taus) != 3 {
		t.Errorf("%d and %d sets lose no label", count(attacked.CoverageReliable), count(certain.CoverageReliable))
	}
	rps.Votes = cal[0]
	if _, err := rps.Predict(); !usage.Is(err) || !strings.Contains(err.Error(), "no number of votes") {
		t.Error(err)
	}
	rps.Test = Test{}
	rps.Votes = rps.Tests
	if _, err := rps.Predict(); !usage.Is(err) {
		t.Error(err)
	}

	truth := make([]uint8, n*k)
	y, err := matrix.Ints(calY, matrix.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, y := range y {
		truth[i*k+y] = 1
	}
	risk := RiskJob{Input: Input{cal[0], FormLogits}, Truth: saveNpy(t, dir, "truth.npy", npy.Uint8(truth, n, k)), Score: conformal.Variant{Name: "hps"}, Risk: level}
	c, err := risk.Calibrate()
	if err != nil {
		t.Fatal(err)
	}
	same, err := CalibrateJob{Input: risk.Input, Labels: calY, Score: risk.Score, Miscoverage: level}.Calibrate()
	if err != nil || c.Thresholds.All.Tau != same.Thresholds.All.Tau {
		t.Errorf("with a label each, τ is %v; risk control says %v (%v)", same.Thresholds.All, c.Thresholds.All, err)
	}
	path := filepath.Join(dir, "risk.json")
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadCalibration(path)
	if err != nil || loaded.Method != MethodRisk {
		t.Fatalf("%+v, %v", loaded, err)
	}
	if _, err := (PredictJob{Calibration: loaded, Input: Input{test[0], FormLogits}, Out: out.Out}).Predict(); err != nil {
		t.Error(err)
	}
	risk.Truth = cal[0]
	if _, err := risk.Calibrate(); !usage.Is(err) || !strings.Contains(err.Error(), "0 or 1") {
		t.Error(err)
	}
}

func count(list []bool) int {
	n := 0
	for _, b := range list {
		if b {
			n++
		}
	}
	return n
}

// TestNarrow: the same logits in every format that is read as float32 give the same thresholds and
// sets as in float64, and an entry that is not finite is the user's to mend, with its file and row.
func TestNarrow(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(9, 1))
	const n, k = 300, 70
	files, y := methodData(t, dir, "z", r, n, k, 1)
	m, err := matrix.Open(files[0], matrix.Options{})
	if err != nil {
		t.Fatal(err)
	}
	z, err := m.All()
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	wide := saveNpy(t, dir, "wide.npy", npy.Float64(z, n, k))
	var taus []float64
	var sets [][]byte
	for _, file := range []string{files[0], wide} {
		for _, share := range []float64{0, 0.3} {
			job := CalibrateJob{Input: Input{file, FormLogits}, Labels: y, Score: conformal.Variant{Name: "raps", Lambda: 0.01}, Miscoverage: conformal.MustLevel("0.1"), TuneShare: share,
				Auto: share > 0}
			c, err := job.Calibrate()
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(dir, "s.npy")
			if _, err := (PredictJob{Calibration: c, Input: job.Input, Out: out}).Predict(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			taus, sets = append(taus, c.Thresholds.All.Tau), append(sets, b)
		}
	}
	if taus[0] != taus[2] || taus[1] != taus[3] || !slices.Equal(sets[0], sets[2]) || !slices.Equal(sets[1], sets[3]) {
		t.Errorf("float32 and float64 differ: %v", taus)
	}
	narrow := make([]float32, n*k)
	for i, v := range z {
		narrow[i] = float32(v)
	}
	narrow[17*k+5] = float32(math.NaN())
	bad := saveNpy(t, dir, "bad.npy", npy.Float32(narrow, n, k))
	_, err = CalibrateJob{Input: Input{bad, FormLogits}, Labels: y, Score: conformal.Variant{Name: "hps"}, Miscoverage: conformal.MustLevel("0.1")}.Calibrate()
	if !usage.Is(err) || !strings.Contains(err.Error(), "row 17") || !strings.Contains(err.Error(), "bad.npy") {
		t.Error(err)
	}
}
