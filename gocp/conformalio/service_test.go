package conformalio

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/internal/testfiles"
	"github.com/gocp/gocp/gocp/npy"
)

// TestOneSampleACall is a service that predicts one sample a call with a randomised score: it covers as
// it should whatever the seed, and its sets are those of one file with all samples, and of its two halves.
func TestOneSampleACall(t *testing.T) {
	const n, m, k = 199, 60, 4
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(60, 1))
	draw := func(n int) (z []float32, y []int64) {
		for range n {
			label := r.IntN(k)
			for j := range k {
				v := float32(r.NormFloat64())
				if j == label {
					v += 1.5
				}
				z = append(z, v)
			}
			y = append(y, int64(label))
		}
		return z, y
	}
	save := func(name string, a *npy.Array) string { return testfiles.Npy(t, filepath.Join(dir, name), a) }
	calZ, calY := draw(n)
	cal, calLabels := save("cal.npy", npy.Float32(calZ, n, k)), save("cal_y.npy", npy.Int64(calY, n))
	level := conformal.MustLevel("0.1")
	for _, v := range []conformal.Variant{{Name: "aps", U: conformal.DrawSample}, {Name: "raps", Lambda: 0.1, KReg: 1, U: conformal.DrawLabel}, {Name: "saps", Lambda: 0.2, U: conformal.DrawSample}} {
		in := 0
		const seeds = 3
		for seed := range uint64(seeds) {
			c, err := CalibrateJob{Run: Run{Seed: seed}, Input: Input{cal, FormLogits}, Labels: calLabels, Score: v, Miscoverage: level}.Calibrate()
			if err != nil {
				t.Fatal(err)
			}
			z, y := draw(m)
			predict := func(name string, first, end int) [][]int {
				out := filepath.Join(dir, "sets.npy")
				file := save(name, npy.Float32(z[first*k:end*k], end-first, k))
				if _, err := (PredictJob{Calibration: c, Input: Input{file, FormLogits}, Out: out}).Predict(); err != nil {
					t.Fatal(err)
				}
				return readSets(t, out, k)
			}
			whole := predict("all.npy", 0, m)
			if halves := slices.Concat(predict("a.npy", 0, m/2), predict("b.npy", m/2, m)); !slices.EqualFunc(halves, whole, slices.Equal) {
				t.Fatalf("%s, seed %d: two halves of a file give other sets than the whole", v, seed)
			}
			covered := 0
			for i := range m {
				one := predict("one.npy", i, i+1)[0]
				if !slices.Equal(one, whole[i]) {
					t.Fatalf("%s, seed %d: sample %d alone gets %v, in a file %v", v, seed, i, one, whole[i])
				}
				if slices.Contains(one, int(y[i])) {
					covered++
				}
			}
			low, high := conformal.CoverageLaw{N: n, Rank: c.Thresholds.All.Rank, M: m}.Band(0.999)
			if covered < low || covered > high {
				t.Errorf("%s, seed %d: %d of %d covered; 999 times in a thousand it is %d to %d", v, seed, covered, m, low, high)
			}
			in += covered
		}
		if rate := float64(in) / (seeds * m); rate < 0.83 || rate > 0.97 {
			t.Errorf("%s: coverage %.3f over all seeds", v, rate)
		}
	}
}

// TestThresholdOfAnotherDraw: a threshold file whose u was drawn in another way is refused.
func TestThresholdOfAnotherDraw(t *testing.T) {
	const file = `{"format":"gocp-conformal-threshold","version":1,"score":{"name":"aps","u":"sample"},"miscoverage":"0.1","form":"logits",%s
		"thresholds":{"conditioning":{"by":"marginal","below":"infinite"},"labels":2,"all":{"tau":1,"rank":1,"n":2},"absent":{"tau":1,"rank":1,"n":2}}}`
	if _, err := ParseCalibration(fmt.Appendf(nil, file, `"u_drawn_by":"row",`)); err != nil {
		t.Error(err)
	}
	if _, err := ParseCalibration(fmt.Appendf(nil, file, "")); err == nil || !strings.Contains(err.Error(), "calibrate again") {
		t.Errorf("u by number: %v", err)
	}
}
