package experiment

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/internal/twin"
	"github.com/gocp/gocp/gocp/result"
)

// miniature is the smallest audit that has every kind of job.
func miniature() Config {
	return Config{Seed: 1, Repeats: 1, Victims: 1, GaussVictims: 1, Surrogates: 2, Attackers: 1, References: 1, Controls: 1,
		TrainSize: 80, CalSize: 30, Candidates: 40, Budget: "0.1", Victim: Model{Width: 4},
		VictimTrain: Train{Epochs: 6, Batch: 16, LR: 0.08, Shift: 1}, Craft: attack.Config{Steps: 5, Shift: 1}}
}

func miniatureData(t *testing.T) Data {
	return Data{Train: testkit.Quarters(t, "blobs", 260, 1), Test: testkit.Quarters(t, "blobs", 60, 2), Origin: "noise"}
}

// audited is what an audit gave, as far as two engines are compared.
type audited struct {
	Thresholds map[string]float64   // by model
	Logits     map[string][]float32 // of calibration and test images, by model
	Sizes      map[string]float64   // mean set size of benign models
	Targets    []int
	Bases      []int
	Phi        []float64 // before each step, then on the 8-bit grid
	L2, L3     float64
	After      []float64 // ℓ3 after a training step on poisons and on noise, less that on clean images
	Poisons    []uint8
	Margins    []float64 // of the attacked labels, under every victim
}

// TestMiniatureAudit runs an audit end to end on a GPU and holds it against the host engine's run of
// the same configuration.
//
// What comes before the crafting loop must agree as closely as training lets it: the two engines add
// in different orders, a GPU's float32 products are off by up to 3·2⁻²⁰ (docs/gpu.md), and some thirty steps
// of SGD enlarge both. The loop moves every pixel
// by the sign of its gradient. Where that is zero but for rounding (pixels that a ReLU cuts off, say),
// the engines may go different ways, so a poison may differ in some pixels by the whole ball; Φ is a sum
// over all of them and hardly sees it. Victims train on these pixels, and are compared loosely. What
// calibration makes of given logits is exact on both.
func TestMiniatureAudit(t *testing.T) {
	const trained = 1e-4 // what models may differ by after training
	dev := testkit.Open(t)
	compute := func() audited { return auditMiniature(t, filepath.Join(t.TempDir(), "run")) }
	host, onGPU := twin.OnHost(t, dev.Info().Backend == "cuda", compute)
	if !onGPU {
		t.Skip("not on a GPU; the other tests run audits here")
	}
	got := compute()
	if !slices.Equal(got.Targets, host.Targets) || !slices.Equal(got.Bases, host.Bases) {
		t.Fatalf("targets %v and bases %v, on the host engine %v and %v", got.Targets, got.Bases, host.Targets, host.Bases)
	}
	near := func(what string, a, b, tol float64) {
		t.Helper()
		t.Logf("%s: %.6g, on the host engine %.6g", what, a, b)
		if !(math.Abs(a-b) <= tol*math.Max(1, math.Abs(b))) {
			t.Errorf("%s: %v, on the host engine %v; allowed is a difference of %g", what, a, b, tol)
		}
	}
	for name, want := range host.Logits {
		benign := host.Sizes[name] > 0
		logits, threshold := trained, trained
		if !benign {
			logits, threshold = 0.05, 0.02
		}
		e := testkit.Relative(got.Logits[name], want)
		t.Logf("%s: logits %.2g from the host engine's", name, e)
		if !(e <= logits) {
			t.Errorf("%s: logits %.2g from the host engine's in norm, allowed %.2g", name, e, logits)
		}
		near(name+": threshold", got.Thresholds[name], host.Thresholds[name], threshold)
		if benign { // a score as near to the threshold as rounding may change sides: one label in 60 sets
			near(name+": mean set size", got.Sizes[name], host.Sizes[name], 1.0/60)
		}
	}
	near("ℓ2", got.L2, host.L2, trained)
	near("ℓ3", got.L3, host.L3, trained)
	near("Φ before the first step", got.Phi[0], host.Phi[0], trained)
	for i := 1; i < len(host.Phi); i++ {
		near(fmt.Sprintf("Φ after step %d", i), got.Phi[i], host.Phi[i], 0.01)
	}
	for i := range host.After {
		near("ℓ3 after a training step", got.After[i], host.After[i], 1e-3)
	}
	differ := 0
	for i := range host.Poisons {
		if got.Poisons[i] != host.Poisons[i] {
			differ++
		}
	}
	share := float64(differ) / float64(len(host.Poisons))
	t.Logf("%.2g of the poisons' pixels differ from the host engine's", share)
	if share > 0.02 {
		t.Errorf("%.2g of the poisons' pixels differ from the host engine's, allowed 0.02", share)
	}
	for i := range host.Margins {
		near("margin", got.Margins[i], host.Margins[i], 0.05)
	}
}

// openAll opens all devices that there are.
func openAll(t *testing.T) []*device.Device {
	t.Helper()
	n, err := device.Count()
	if err != nil {
		t.Fatal(err)
	}
	var devs []*device.Device
	for i := range n {
		d, err := device.OpenAt(i)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		devs = append(devs, d)
	}
	return devs
}

func auditMiniature(t *testing.T, dir string) audited {
	t.Helper()
	c, d := miniature(), miniatureData(t)
	devs := openAll(t)
	t.Logf("on %d devices", len(devs))
	res, err := Audit(t.Context(), devs[0], c, d, Options{Dir: dir, Version: "test", More: devs[1:]})
	if err != nil {
		t.Fatal(err)
	}
	r, err := prepare(c, d)
	if err != nil {
		t.Fatal(err)
	}
	r.folder = &folder{dir: dir}
	a := audited{Thresholds: map[string]float64{}, Logits: map[string][]float32{}, Sizes: map[string]float64{}}
	// note takes a model's logits, and checks that the result has the threshold that calibration makes
	// of them, to the bit.
	note := func(name string, cal part, u []float64, reported float64) {
		l, err := r.readLogits(name, cal)
		if err != nil {
			t.Fatal(err)
		}
		v, err := r.judge.rule(l, cal, u)
		if err != nil {
			t.Fatal(err)
		}
		a.Logits[name] = slices.Concat(l.calibration, l.test)
		a.Thresholds[name] = reported
		if v.threshold.Tau != reported {
			t.Errorf("%s: the result has the threshold %v, its logits give %v", name, reported, v.threshold.Tau)
		}
	}
	at := map[string]int{}
	for _, m := range res.Models {
		role := m.Role
		if role == "chooser" {
			role = roleSurrogate
		}
		name := benignName(role, at[role])
		at[role]++
		cal, u := r.split.cal, r.judge.uCal
		if role == roleSurrogate {
			cal, u = r.split.auxCal, r.judge.uAux
		}
		note(name, cal, u, m.Threshold.Tau)
		a.Sizes[name] = float64(m.MeanSize)
	}
	rep := res.Repeats[0]
	count := map[result.Condition]int{}
	for _, v := range rep.Victims {
		if v.Condition == result.Clean {
			continue // the controls, which are among the models
		}
		note(victimName(0, v.Condition, count[v.Condition]), r.split.cal, r.judge.uCal, v.Threshold.Tau)
		count[v.Condition]++
		for _, m := range v.Outcomes[0].Margins {
			a.Margins = append(a.Margins, float64(m))
		}
	}
	for _, x := range rep.Targets {
		a.Targets = append(a.Targets, x.ID)
	}
	p := rep.Poisons
	for _, phi := range p.Restarts[0].Phi {
		a.Phi = append(a.Phi, float64(phi))
	}
	a.Phi = append(a.Phi, float64(p.Phi))
	a.Bases, a.L2, a.L3 = p.Bases, float64(p.L2), float64(p.L3)
	a.After = []float64{float64(p.StepAttack), float64(p.StepRandUn)}
	b, err := attack.ReadBundle(r.folder.path(poisonsDir, bundleName(0)))
	if err != nil {
		t.Fatal(err)
	}
	a.Poisons = b.Poisons.After
	if len(a.Thresholds) != 2+1+1+3 {
		t.Errorf("%d models: %v", len(a.Thresholds), a.Thresholds)
	}
	return a
}
