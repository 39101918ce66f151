package report

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"testing/fstest"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/result"
)

// made is a Result of invented numbers, for tests of the report alone: nothing in it was measured.
// effect is how far the attack lowers set sizes.
func made(goal string, repeats, classes int, effect float64) (*result.Result, fstest.MapFS) {
	rng := rand.New(rand.NewPCG(7, uint64(repeats*1000+classes)))
	names := []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}
	for k := len(names); k < classes; k++ {
		names = append(names, fmt.Sprintf("class %d", k))
	}
	names = names[:classes]
	r := &result.Result{
		Schema: result.Schema, Version: "test", Build: "0123456789abcdef", Kind: "audit",
		Config: result.Config{
			Goal: goal, AddM: 4, Score: conformal.Variant{Name: "hps", U: conformal.DrawOne}, Miscoverage: "0.1", Coverage: "0.9",
			Budget: result.Budget{Fraction: "0.04", Count: 180, Epsilon255: 16}, Bases: "nearest",
			Craft: result.Craft{Align: "sum", Loss: "pairwise", Margin: 0.3, Keep: true, KeepTrue: true, SAMRho: 0.05, SAMP: 2, SAMSteps: 1,
				Steps: 40, Restarts: 1, LR: 0.00628, Batch: 180},
			Access: "black-box", Surrogates: 2, Choosers: 2, References: 3, Victims: 2, Repeats: repeats, Targets: 1, Seed: 1, Precision: "f32",
			SurrogateModel: "arch=convnet width=16 classes=10 input=3x32x32 batchnorm=false stem=stride",
			VictimModel:    "arch=convnet width=16 classes=10 input=3x32x32 batchnorm=false stem=stride",
			SurrogateTrain: result.Train{Epochs: 20, Batch: 128, LR: 0.01, Momentum: 0.9},
			VictimTrain:    result.Train{Epochs: 20, Batch: 128, LR: 0.01, Momentum: 0.9},
		},
		Device: result.Device{Backend: "host", Name: "a processor", ISA: "v4", Cores: 2, Library: "oneDNN 2.6.3"},
		Dataset: result.Dataset{Name: "made images", Origin: "invented", SHA256: fmt.Sprintf("%064x", 12345), H: 32, W: 32, C: 3, Classes: names,
			Splits: []result.Split{
				{Name: "victim train", Use: "victims train on it; poisons replace some of it", Size: 4500, SHA256: fmt.Sprintf("%064x", 1)},
				{Name: "victim calibration", Use: "victims calibrate on it; always clean", Size: 500, SHA256: fmt.Sprintf("%064x", 2)},
				{Name: "auxiliary train", Use: "the adversary's: surrogates train on it", Size: 4500, SHA256: fmt.Sprintf("%064x", 3)},
				{Name: "test", Use: "coverage and accuracy", Size: 2000, SHA256: fmt.Sprintf("%064x", 4)},
			}},
	}
	for i, role := range []string{"surrogate", "surrogate", "chooser", "chooser", "reference", "reference", "reference"} {
		r.Models = append(r.Models, result.Model{Role: role, Seed: uint64(100 + i), SHA256: fmt.Sprintf("%064x", 50+i), Accuracy: 0.6, Coverage: 0.9, MeanSize: 2.4,
			Threshold: conformal.Threshold{Tau: 0.87, Rank: 451, N: 500}})
	}
	files := fstest.MapFS{}
	clamp := func(x float64) int { return min(max(int(math.Round(x)), 0), classes) }
	for i := range repeats {
		label := rng.IntN(classes)
		base := 2.6 + 0.6*rng.NormFloat64()
		t := result.Target{ID: rng.IntN(2000), Label: label, Predicted: label, Why: "set of 2 labels in both choosers", Chosen: []int{2, 2}}
		for range 3 {
			t.Benign = append(t.Benign, max(1, clamp(base+0.5*rng.NormFloat64())))
		}
		for k := 1; k <= 2 && k < classes; k++ {
			t.Attacked = append(t.Attacked, result.Attacked{Label: (label + k) % classes, Role: result.RoleRemove})
		}
		if goal == "underconfidence" || goal == "add" {
			for k := range t.Attacked {
				t.Attacked[k].Role = result.RoleAdd
			}
		}
		rep := result.Repeat{ID: i, Seed: uint64(i), Poisons: result.Poisons{
			SHA256: fmt.Sprintf("%064x", i), Count: 180, Labels: []int{label}, MaxAbs: 16, MeanAbs: 9.3, L2: 0.4, L3: 0.5,
			StepAttack: result.Number(-0.02 - 0.01*rng.Float64()), StepRandUn: result.Number(0.003 * rng.NormFloat64()), StepLR: 0.01,
		}}
		var phi []result.Number
		top := 0.55 + 0.1*rng.NormFloat64()
		for s := range 40 {
			phi = append(phi, result.Number(top*(1-math.Exp(-float64(s)/9))+0.01*rng.NormFloat64()))
		}
		rep.Poisons.Restarts = []result.Restart{{Phi: phi}}
		rep.Poisons.Phi = result.Number(top * 0.97)
		t.Picture = fmt.Sprintf("pictures/target%d.png", i)
		files[t.Picture] = &fstest.MapFile{Data: picture(rng, nil, 0)}
		t.Near = &result.Near{ID: 40 + i, Label: (label + i%2) % classes, Distance: result.Number(0.1 + 0.05*float64(i)), Levels: 12.5,
			Picture: fmt.Sprintf("pictures/near%d.png", i)}
		files[t.Near.Picture] = files[t.Picture]
		for s := range 4 {
			before := picture(rng, nil, 0)
			sample := result.Sample{Base: s, Label: label, Before: fmt.Sprintf("pictures/%d-%d-before.png", i, s), After: fmt.Sprintf("pictures/%d-%d-after.png", i, s)}
			files[sample.Before] = &fstest.MapFile{Data: before}
			files[sample.After] = &fstest.MapFile{Data: picture(rng, before, 16)}
			rep.Poisons.Samples = append(rep.Poisons.Samples, sample)
		}
		for _, c := range result.Conditions {
			if c == result.RandLabel { // see turned
				continue
			}
			shift := map[result.Condition]float64{result.Attack: -effect, result.RandUn: -0.1}[c]
			for v := range 2 {
				n := clamp(base + shift + 0.6*rng.NormFloat64())
				o := result.Outcome{Predicted: label, Prob: result.Number(min(0.98, max(0.05, 0.55-0.12*shift+0.1*rng.NormFloat64())))}
				if rng.Float64() < 0.08 {
					o.Predicted = (label + 1) % classes
				}
				in := map[int]bool{}
				for k := range n {
					in[(label+k)%classes] = true
				}
				for y := range classes {
					if in[y] {
						o.Set = append(o.Set, y)
					}
				}
				for k, a := range t.Attacked {
					m := 0.1*float64(k) + 0.05*rng.Float64()
					if in[a.Label] {
						m = -m
					}
					o.Margins = append(o.Margins, result.Number(m))
				}
				test := result.Test{N: 2000, Covered: 1800 + rng.IntN(41) - 20, Correct: 1210 + rng.IntN(41) - 20, Empty: 20, MeanSize: result.Number(2.4 + 0.05*rng.NormFloat64())}
				test.Coverage, test.Accuracy = result.Number(float64(test.Covered)/2000), result.Number(float64(test.Correct)/2000)
				for range classes {
					n := 2000 / classes
					test.Classes = append(test.Classes, result.PerClass{N: n, Covered: min(n, int(float64(n)*(0.9+0.03*rng.NormFloat64())))})
				}
				rep.Victims = append(rep.Victims, result.Victim{Condition: c, Seed: uint64(v), Test: test, Outcomes: []result.Outcome{o},
					Threshold: conformal.Threshold{Tau: 0.86 + 0.01*rng.Float64(), Rank: 451, N: 500}})
			}
		}
		rep.Targets = []result.Target{t}
		r.Repeats = append(r.Repeats, rep)
	}
	r.Summary = result.Summarise(r.Repeats, classes)
	r.Timings = []result.Timing{
		{Phase: "benign models and surrogates", Seconds: 32.1, Count: 7}, {Phase: "crafting", Seconds: 87.3, Count: repeats},
		{Phase: "victims", Seconds: 141.9, Count: 8 * repeats}, {Phase: "evaluation", Seconds: 2.2},
	}
	return r, files
}

// divided makes of r one with subgroups, of which each repeat attacks another.
func divided(r *result.Result) {
	r.Config.Subgroups = &result.Subgroups{By: "clusters"}
	for i := range r.Repeats {
		r.Config.Subgroups.Names = append(r.Config.Subgroups.Names, fmt.Sprintf("cluster %d: cat, dog", i))
	}
	for i := range r.Repeats {
		rep := &r.Repeats[i]
		rep.Subgroup = new(i)
		for v := range rep.Victims {
			vic := &rep.Victims[v]
			vic.Test.Groups = nil
			for g := range r.Repeats {
				p := result.PerGroup{N: 60, Covered: 54 + (i+v+g)%3, Correct: 30, Size: 150}
				if g == i && vic.Condition == result.Attack {
					p.Covered = 20 + i + v%2
				}
				vic.Test.Groups = append(vic.Test.Groups, p)
			}
		}
	}
	r.Summary = result.Summarise(r.Repeats, len(r.Dataset.Classes))
}

// turned makes of r one whose poisons have other labels, and with both other pixels too.
func turned(r *result.Result, poison string) {
	r.Config.Poison, r.Config.Rounds, r.Config.Bases = poison, 2, ""
	for i := range r.Repeats {
		rep := &r.Repeats[i]
		rep.Poisons.Turns = []result.Turn{{From: 1, To: 0, Count: 100}, {From: 0, To: 1, Count: 80}}
		rep.Poisons.Rounds = []result.Round{{Turned: 90, L2: 0.4, L3: 0.5, Most: 2, Least: 1}, {Turned: 90, L2: 0.1, L3: 0.2, Most: 1, Least: 0.5}}
		for s := range rep.Poisons.Samples {
			rep.Poisons.Samples[s].Turned = new((rep.Poisons.Samples[s].Label + 1) % len(r.Dataset.Classes))
		}
		if poison == "labels" {
			rep.Poisons.Restarts, rep.Poisons.MaxAbs, rep.Poisons.MeanAbs = nil, 0, 0
			r.Config.Budget.Epsilon255 = 0
		}
		var kept []result.Victim
		for _, v := range rep.Victims {
			if v.Condition == result.RandUn {
				v.Condition = result.RandLabel
			}
			if v.Condition != result.RandGa {
				kept = append(kept, v)
			}
		}
		rep.Victims = kept
	}
	r.Summary = result.Summarise(r.Repeats, len(r.Dataset.Classes))
}

// picture is a smooth random image, or base with every pixel moved by at most radius.
func picture(rng *rand.Rand, base []byte, radius int) []byte {
	m := image.NewNRGBA(image.Rect(0, 0, 32, 32))
	var old image.Image
	if base != nil {
		var err error
		if old, err = png.Decode(bytes.NewReader(base)); err != nil {
			panic(err)
		}
	}
	f, g, h := rng.Float64()*0.2, rng.Float64()*0.2, rng.Float64()*6
	for y := range 32 {
		for x := range 32 {
			var c color.NRGBA
			if old == nil {
				wave := func(k float64) uint8 {
					return uint8(128 + 90*math.Sin(f*float64(x)+g*float64(y)*k+h*k))
				}
				c = color.NRGBA{wave(1), wave(1.2), wave(1.7), 255}
			} else {
				c = color.NRGBAModel.Convert(old.At(x, y)).(color.NRGBA)
				move := func(v uint8) uint8 { return uint8(min(max(int(v)+rng.IntN(2*radius+1)-radius, 0), 255)) }
				c = color.NRGBA{move(c.R), move(c.G), move(c.B), 255}
			}
			m.SetNRGBA(x, y, c)
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.Bytes()
}
