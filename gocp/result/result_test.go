package result

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/conformal"
)

// set returns n labels 0 … n−1.
func set(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}

// small is two repeats of one target, two victims per condition, with sizes that can be followed
// by hand: benign 2 and 4, attack {1, 1} and {0, 2}, RandUn {2, 2} and {3, 5}.
func small() *Result {
	r := &Result{
		Schema: Schema, Kind: "audit",
		Config:  Config{Goal: "overconfidence", Miscoverage: "0.1", Coverage: "0.9", Score: conformal.Variant{Name: "hps", U: conformal.DrawOne}},
		Dataset: Dataset{Name: "made", Classes: []string{"a", "b", "c", "d", "e", "f"}},
	}
	sizes := map[Condition][2][2]int{Attack: {{1, 1}, {0, 2}}, RandUn: {{2, 2}, {3, 5}}}
	for i, benign := range [][]int{{1, 3}, {4, 4}} {
		rep := Repeat{
			ID: i, Seed: uint64(i),
			Targets: []Target{{ID: 10 + i, Label: 0, Predicted: 0, Benign: benign, Attacked: []Attacked{{Label: 1, Role: RoleRemove}}}},
			Poisons: Poisons{Phi: Number(0.5 + 0.1*float64(i)), StepAttack: Number(-1 - float64(i)), StepRandUn: 0,
				Restarts: []Restart{{Phi: []Number{0, 0.5}}}},
		}
		for _, c := range []Condition{Attack, RandUn} {
			for v := range 2 {
				n := sizes[c][i][v]
				rep.Victims = append(rep.Victims, Victim{
					Condition: c, Seed: uint64(v), Threshold: conformal.Threshold{Tau: 0.5, Rank: 9, N: 9},
					Test:     Test{N: 100, Covered: 90, Correct: 60, Coverage: 0.9, Accuracy: 0.6, MeanSize: 2, Classes: make([]PerClass, 6)},
					Outcomes: []Outcome{{Set: set(n), Predicted: v, Prob: 0.5, Margins: []Number{Number(0.1 * float64(2-n))}}},
				})
			}
		}
		r.Repeats = append(r.Repeats, rep)
	}
	r.Summary = Summarise(r.Repeats, 6)
	return r
}

func near(t *testing.T, what string, got Number, want float64) {
	t.Helper()
	if g := got.Float(); math.Abs(g-want) > 1e-12 || math.IsNaN(g) != math.IsNaN(want) {
		t.Errorf("%s = %v, want %v", what, g, want)
	}
}

func TestSummariseByHand(t *testing.T) {
	s := &small().Summary
	att, run := s.Row(Attack), s.Row(RandUn)
	if att == nil || run == nil || s.Row(Clean) != nil || len(s.Rows) != 2 {
		t.Fatalf("rows %+v", s.Rows)
	}
	near(t, "benign size", s.Benign.SetSize.Mean, 3)
	near(t, "attack size", att.SetSize.Mean, 1)
	near(t, "attack size se", att.SetSize.SE, 0)
	near(t, "attack size, max 1", att.SetSize1.Mean, 1.25)
	near(t, "randun size", run.SetSize.Mean, 3)
	near(t, "randun size se", run.SetSize.SE, 1)
	// Ratios: attack (2−1)/2 = .5 and (4−1)/4 = .75; RandUn 0 and 0.
	near(t, "mean of ratios", att.Reduction.Mean.Mean, 0.625)
	near(t, "mean of ratios se", att.Reduction.Mean.SE, 0.125)
	near(t, "ratio of means", att.Reduction.OfMeans.Mean, 1-2.0/6)
	// e = num − R·den = 1 − 4/3, 3 − 8/3 = ∓1/3; se(e) = √(2/9)/√2 = 1/3; over b̄ = 3.
	near(t, "ratio of means se", att.Reduction.OfMeans.SE, 1.0/9)
	// With max(1, size): attack 1 and 1.5.
	near(t, "mean of ratios, max 1", att.Reduce1.Mean.Mean, (0.5+1-1.5/4)/2)
	near(t, "expansion", att.Expansion.Mean.Mean, -0.625)
	near(t, "randun ratio", run.Reduction.Mean.Mean, 0)
	near(t, "empty", att.Empty.Mean, 0.25)
	near(t, "kept", att.Kept.Mean, 0.5)
	near(t, "inside", att.Inside.Mean, 0.25) // label 1 is in the set of size 2 alone
	near(t, "true in", att.TrueIn.Mean, 0.75)
	near(t, "margin", att.Margin.Mean, 0.1)
	if got := att.Histogram; got[0] != 1 || got[1] != 2 || got[2] != 1 || att.Outcomes != 4 || att.Repeats != 2 {
		t.Errorf("histogram %v of %d outcomes", got, att.Outcomes)
	}
	if h := s.Benign.Histogram; h[1] != 1 || h[3] != 1 || h[4] != 2 {
		t.Errorf("benign histogram %v", h)
	}
	d := s.Difference(QReduction, Attack, RandUn)
	near(t, "paired reduction", d.Mean, 0.625)
	near(t, "its se", d.SE, 0.125)
	near(t, "its z", d.Z, 5)
	near(t, "its p", d.P, 2*(0.5-math.Atan(5)/math.Pi)) // Student t with one degree of freedom is Cauchy
	d = s.Difference(QReductionOfM, Attack, RandUn)
	near(t, "paired ratio of means", d.Mean, 4.0/6)
	d = s.Difference(QExpansion, Attack, RandUn)
	near(t, "paired expansion", d.Mean, -0.625)
	near(t, "its z", d.Z, -5)
	d = s.Difference(QCoverage, Attack, RandUn)
	near(t, "coverage", d.Mean, 0)
	near(t, "its z", d.Z, 0)
	near(t, "its p", d.P, 1)
	near(t, "step", s.Crafting.StepAttack.Mean, -1.5)
	near(t, "step z", s.Crafting.StepPaired.Z, -3)
}

// Two subgroups: repeat 0 attacks the first, repeat 1 the second. Under attack two victims cover 4 and 6 of the 10 members, and
// 20 and 10 of the 20; of the others 18 of 20 and 9 of 10. RandUn covers 9 of 10 and 18 of 20.
func TestSummariseSubgroups(t *testing.T) {
	r := small()
	r.Config.Subgroups = &Subgroups{By: "classes", Names: []string{"a", "b"}}
	for i := range r.Repeats {
		rep := &r.Repeats[i]
		rep.Subgroup = new(i)
		for v := range rep.Victims {
			vic := &rep.Victims[v]
			vic.Test.Groups = []PerGroup{{N: 10, Covered: 9, Correct: 5, Size: 20}, {N: 20, Covered: 18, Correct: 10, Size: 60}}
			if vic.Condition == Attack {
				vic.Test.Groups[i].Covered = [2][2]int{{4, 6}, {20, 10}}[i][v]
				vic.Test.Groups[i].Correct = [2]int{2, 12}[i]
			}
		}
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	s := Summarise(r.Repeats, 6)
	att, run := s.Row(Attack).Subgroup, s.Row(RandUn).Subgroup
	near(t, "coverage", att.Coverage.Mean, (0.5+0.75)/2)
	near(t, "coverage se", att.Coverage.SE, 0.125)
	near(t, "accuracy", att.Accuracy.Mean, (0.2+0.6)/2)
	near(t, "set size", att.Size.Mean, (2.0+3)/2)
	near(t, "coverage of others", att.RestCoverage.Mean, 0.9)
	near(t, "accuracy of others", att.RestAccuracy.Mean, 0.5)
	near(t, "coverage under noise", run.Coverage.Mean, 0.9)
	d := s.Difference(QMembers, Attack, RandUn)
	near(t, "paired coverage", d.Mean, (0.5+0.75)/2-0.9)
	near(t, "its se", d.SE, 0.125)
	near(t, "paired coverage of others", s.Difference(QRest, Attack, RandUn).Mean, 0)
	near(t, "paired accuracy", s.Difference(QMembersA, Attack, RandUn).Mean, -0.1)
	plain := small()
	if plain.Summary.Row(Attack).Subgroup != nil || plain.Summary.Difference(QMembers, Attack, RandUn) != nil {
		t.Error("a result without subgroups has some")
	}
	for _, c := range []struct {
		text  string
		spoil func()
	}{
		{"is none of 2", func() { r.Repeats[0].Subgroup = new(2) }},
		{"want 2", func() { r.Repeats[0].Subgroup = new(1); r.Repeats[1].Victims[0].Test.Groups = nil }},
		{"11 covered", func() { r.Repeats[1].Victims[0].Test.Groups = []PerGroup{{N: 10, Covered: 11}, {}} }},
		{"is none of 0", func() { r.Config.Subgroups = nil }},
	} {
		c.spoil()
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
}

func TestSummariseHoles(t *testing.T) {
	// Nothing at all.
	s := Summarise(nil, 3)
	if len(s.Rows) != 0 || !math.IsNaN(s.Benign.SetSize.Mean.Float()) {
		t.Errorf("%+v", s)
	}
	// A benign set that is always empty has no plain ratio; a condition missing in one repeat is
	// left out of its pairs; one repeat has no standard error.
	r := small()
	r.Repeats[0].Targets[0].Benign = []int{0, 0}
	s = Summarise(r.Repeats, 6)
	if e := s.Row(Attack).Reduction.Mean; e.N != 1 || e.Mean != 0.75 || !math.IsNaN(e.SE.Float()) {
		t.Errorf("ratio over an empty benign set: %+v", e)
	}
	if e := s.Row(Attack).Reduce1.Mean; e.N != 2 {
		t.Errorf("with max(1, size): %+v", e)
	}
	r = small()
	r.Repeats[1].Victims = r.Repeats[1].Victims[:2] // attack only
	s = Summarise(r.Repeats, 6)
	if d := s.Difference(QSize, Attack, RandUn); d.N != 1 || d.Mean != -1 || !math.IsNaN(d.Z.Float()) {
		t.Errorf("pairs over one repeat: %+v", d)
	}
	if s.Difference(QSize, Attack, Clean) != nil {
		t.Error("a difference to a condition that was not run")
	}
}

// TestAgreement: equal differences have no spread, and rounding in their mean must not invent one.
func TestAgreement(t *testing.T) {
	r := small()
	for i := range r.Repeats {
		for v := range r.Repeats[i].Victims {
			vic := &r.Repeats[i].Victims[v]
			vic.Test.Accuracy = Number(0.1 * float64(i+1))
			if vic.Condition == Attack {
				vic.Test.Accuracy += 0.7 / 3
			}
		}
	}
	s := Summarise(r.Repeats, 6)
	if d := s.Difference(QAccuracy, Attack, RandUn); d.SE != 0 || !math.IsInf(d.Z.Float(), 1) || d.P != 0.5 {
		t.Errorf("%+v", d)
	}
}

// TestPairingRemovesTheRepeat: adding the same amount to both conditions of a repeat moves no difference.
func TestPairingRemovesTheRepeat(t *testing.T) {
	r := small()
	first := Summarise(r.Repeats, 6)
	a := first.Difference(QProb, Attack, RandUn)
	for i := range r.Repeats {
		for v := range r.Repeats[i].Victims {
			r.Repeats[i].Victims[v].Outcomes[0].Prob += Number(float64(i))
		}
	}
	second := Summarise(r.Repeats, 6)
	b := second.Difference(QProb, Attack, RandUn)
	if a.Mean != b.Mean || a.SE != b.SE {
		t.Errorf("%+v became %+v", a, b)
	}
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	r := small()
	r.Repeats[0].Victims[0].Threshold = conformal.Threshold{Tau: math.Inf(1), Rank: 10, N: 9}
	r.Repeats[0].Victims[0].Outcomes[0].Margins[0] = Number(math.Inf(-1))
	r.Config.Craft.SAMP = Number(math.Inf(1))
	r.Timings = []Timing{{Phase: "victims", Seconds: 1.5, Count: 4}}
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(first, []byte("1.5")) && bytes.Contains(first, []byte("seconds")) {
		t.Error("clock times are in result.json")
	}
	back, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(back.Timings) != 1 || !back.Repeats[0].Victims[0].Threshold.Infinite() {
		t.Errorf("%+v", back)
	}
	again, err := back.Encode()
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("result.json read and written again is not the same (%v)", err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("files left: %v, %v", files, err)
	}
}

func TestNumber(t *testing.T) {
	for _, f := range []float64{0, 1, -2.5, 1e-300, math.Inf(1), math.Inf(-1), math.NaN(), 0.1} {
		b, err := json.Marshal(Number(f))
		var n Number
		if err != nil || json.Unmarshal(b, &n) != nil || math.Float64bits(f) != math.Float64bits(n.Float()) && !math.IsNaN(f) {
			t.Errorf("%v → %s → %v", f, b, n)
		}
	}
	for _, s := range []string{`"x"`, `true`, `[]`, `"Inf"`} {
		var n Number
		if json.Unmarshal([]byte(s), &n) == nil {
			t.Errorf("%s was read as %v", s, n)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		want string
		do   func(*Result)
	}{
		{"schema is 9", func(r *Result) { r.Schema = 9 }},
		{"no classes", func(r *Result) { r.Dataset.Classes = nil }},
		{"miscoverage", func(r *Result) { r.Config.Miscoverage = "2" }},
		{"repeat 0 is there twice", func(r *Result) { r.Repeats[1].ID = 0 }},
		{"label 6 is not in [0, 6)", func(r *Result) { r.Repeats[0].Targets[0].Label = 6 }},
		{"set size 7", func(r *Result) { r.Repeats[0].Targets[0].Benign[0] = 7 }},
		{`role "x"`, func(r *Result) { r.Repeats[0].Targets[0].Attacked[0].Role = "x" }},
		{"inside the run folder", func(r *Result) { r.Repeats[0].Targets[0].Picture = "../x.png" }},
		{"inside the run folder", func(r *Result) { r.Repeats[0].Poisons.Samples = []Sample{{Before: "/etc/x"}} }},
		{"restart 1 of 1", func(r *Result) { r.Repeats[0].Poisons.Best = 1 }},
		{"unknown condition", func(r *Result) { r.Repeats[0].Victims[0].Condition = "x" }},
		{"seed 0 is there twice", func(r *Result) { r.Repeats[0].Victims[1].Seed = 0 }},
		{"0 outcomes for 1 targets", func(r *Result) { r.Repeats[0].Victims[0].Outcomes = nil }},
		{"0 margins for 1", func(r *Result) { r.Repeats[0].Victims[0].Outcomes[0].Margins = nil }},
		{"not ascending", func(r *Result) { r.Repeats[0].Victims[0].Outcomes[0].Set = []int{1, 1} }},
		{"5 classes", func(r *Result) { r.Repeats[0].Victims[0].Test.Classes = make([]PerClass, 5) }},
	} {
		r := small()
		c.do(r)
		if err := r.Validate(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v does not say %q in one line", err, c.want)
		}
	}
	for _, s := range []string{``, `[]`, `{"schema":2}`, `{"schema":1}`, `{"schema":1,"seed":`} {
		if _, err := Decode([]byte(s)); err == nil || !strings.Contains(err.Error(), File) {
			t.Errorf("Decode(%q): %v", s, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	b, err := small().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"schema":1,"config":{"miscoverage":"0.1"},"dataset":{"classes":["a"]},"repeats":[{"targets":[{}],"victims":[{"condition":"clean","threshold":{"tau":"inf"},"outcomes":[{"set":[0]}]}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		if len(r.Dataset.Classes) > 1000 {
			return
		}
		Summarise(r.Repeats, len(r.Dataset.Classes))
		if _, err := r.Encode(); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}
