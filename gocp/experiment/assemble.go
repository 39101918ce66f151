package experiment

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/result"
)

// assemble builds the result from the files of the run folder alone.
func (r *run) assemble(ctx context.Context) (*result.Result, error) {
	groups, err := r.targets()
	if err != nil {
		return nil, err
	}
	if err := r.pictures(); err != nil {
		return nil, err
	}
	near, err := r.near(ctx)
	if err != nil {
		return nil, err
	}
	info := r.dev.Info()
	res := &result.Result{Schema: result.Schema, Version: r.opt.Version, Build: info.Build, Kind: "audit", Embedded: r.data.Embedded,
		Device: result.Device{Backend: info.Backend, Name: info.Name, ISA: info.ISA, Cores: info.Cores, Library: library(info), Why: info.Why},
		Dataset: result.Dataset{Name: filepath.Base(r.folder.data), Origin: r.data.Origin, SHA256: r.data.Train.SHA256,
			H: r.data.Train.H, W: r.data.Train.W, C: r.data.Train.C, Classes: r.data.Train.Classes,
			Splits: r.split.record(r.cfg.WhiteBox), Copies: len(r.split.copied)},
	}
	if res.Config, err = r.record(); err != nil {
		return nil, err
	}
	benign := map[string][]*verdict{}
	counts := []struct {
		role string
		n    int
	}{{roleSurrogate, r.cfg.Surrogates}, {roleReference, r.cfg.References}}
	if r.hasControls() {
		counts = append(counts, struct {
			role string
			n    int
		}{roleControl, r.cfg.Controls})
	}
	references, err := r.verdicts(roleReference, r.cfg.References)
	if err != nil {
		return nil, err
	}
	r.agreed = consensus(references)
	for _, b := range counts {
		if benign[b.role], err = r.verdicts(b.role, b.n); err != nil {
			return nil, err
		}
		for i, v := range benign[b.role] {
			res.Models = append(res.Models, r.modelRecord(b.role, i, v))
		}
	}
	for g := range groups {
		rep, err := r.repeat(g, groups[g], benign, near)
		if err != nil {
			return nil, fmt.Errorf("group %d: %w", g, err)
		}
		res.Repeats = append(res.Repeats, *rep)
	}
	res.Summary = result.Summarise(res.Repeats, r.split.classes)
	return res, nil
}

// library names what convolutions are computed by, "" for our own kernels.
func library(i device.Info) string {
	if i.OneDNN == "" {
		return ""
	}
	return "oneDNN " + i.OneDNN
}

func (r *run) hasControls() bool {
	for _, c := range r.cfg.Conditions {
		if c == result.Clean {
			return true
		}
	}
	return false
}

// modelRecord describes a benign model.
func (r *run) modelRecord(role string, i int, v *verdict) result.Model {
	j := r.benign(role, i)
	t := r.onTest(v)
	spec := specText(j.spec)
	if j.command != nil {
		spec = j.command.String()
	}
	return result.Model{Role: role, Seed: j.seed, Spec: spec, SHA256: r.folder.journal.SHA256(modelFile(j.name)),
		Accuracy: t.Accuracy, Coverage: t.Coverage, MeanSize: t.MeanSize, Threshold: v.threshold, Dropped: v.dropped}
}

// onTest measures a model on the test images that are no targets.
func (r *run) onTest(v *verdict) result.Test {
	t := result.Test{Classes: make([]result.PerClass, r.split.classes)}
	size, same := 0, 0
	for _, i := range r.tested() {
		t.N++
		if v.probs.Top(i) == r.agreed[i] {
			same++
		}
		y := r.judge.labels[i]
		n := v.sets.Size(i)
		size += n
		t.Classes[y].N++
		if v.sets.Has(i, y) {
			t.Covered++
			t.Classes[y].Covered++
		}
		if v.probs.Top(i) == y {
			t.Correct++
		}
		if n == 0 {
			t.Empty++
		}
	}
	t.Groups = r.bySubgroup(v)
	t.Coverage = result.Number(float64(t.Covered) / float64(t.N))
	t.Accuracy = result.Number(float64(t.Correct) / float64(t.N))
	t.MeanSize = result.Number(float64(size) / float64(t.N))
	t.Agreement = result.Number(float64(same) / float64(t.N))
	return t
}

// consensus is the label that models predict together for each image: the first of greatest mean
// probability.
func consensus(vs []*verdict) []int {
	n, k := vs[0].probs.N, vs[0].probs.K
	out, mean := make([]int, n), make([]float64, k)
	for i := range out {
		clear(mean)
		for _, v := range vs {
			for y := range mean {
				mean[y] += v.probs.At(i, y)
			}
		}
		out[i] = conformal.Top(mean)
	}
	return out
}

// repeat assembles one group.
func (r *run) repeat(g int, gr group, benign map[string][]*verdict, near map[int]*result.Near) (*result.Repeat, error) {
	rep := &result.Repeat{ID: g, Seed: r.cfg.seedOf("craft", g), Subgroup: gr.subgroup}
	for _, t := range gr.targets {
		rt := result.Target{ID: r.split.whole.index[t.row], Label: t.belief.Label, Predicted: t.belief.Predicted,
			Why: r.why(t), Chosen: t.shown, Attacked: attacked(t.aim), Picture: t.picture, Near: near[t.row], Adversarial: t.aim.Adversarial}
		for _, v := range benign[roleReference] {
			rt.Benign = append(rt.Benign, v.sets.Size(t.row))
		}
		rep.Targets = append(rep.Targets, rt)
	}
	b, err := attack.ReadBundle(r.folder.path(poisonsDir, bundleName(g)))
	if err != nil {
		return nil, err
	}
	if rep.Poisons, err = r.poisonRecord(g, b); err != nil {
		return nil, err
	}
	for _, c := range r.cfg.Conditions {
		if c == result.Clean {
			for i, v := range benign[roleControl] {
				rep.Victims = append(rep.Victims, r.outcome(c, r.benign(roleControl, i).seed, v, gr))
			}
		}
		for i := range r.victims(c) {
			j := r.victim(g, c, i)
			l, err := r.readLogits(j.name, j.cal)
			if err != nil {
				return nil, err
			}
			v, err := r.judge.rule(l, j.cal, r.judge.uCal)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", j.name, err)
			}
			rep.Victims = append(rep.Victims, r.outcome(c, j.seed, v, gr))
		}
	}
	return rep, nil
}

func (r *run) why(t target) string {
	return fmt.Sprintf("%s, predicted right by the mean of %d surrogates, whose sets have %s labels", r.split.name(t.row), len(t.shown),
		strings.Trim(strings.ReplaceAll(fmt.Sprint(t.shown), " ", ", "), "[]"))
}

// outcome is what a victim says of the group's targets.
func (r *run) outcome(c result.Condition, seed uint64, v *verdict, gr group) result.Victim {
	out := result.Victim{Condition: c, Seed: seed, Threshold: v.threshold, Test: r.onTest(v), Dropped: v.dropped}
	for _, t := range gr.targets {
		o := result.Outcome{Set: v.sets.Labels(t.row), Predicted: v.probs.Top(t.row),
			Prob: result.Number(v.probs.At(t.row, t.belief.Predicted)), Margins: []result.Number{}}
		for _, a := range attacked(t.aim) {
			o.Margins = append(o.Margins, result.Number(v.excess(t.row, a.Label)))
		}
		out.Outcomes = append(out.Outcomes, o)
	}
	return out
}

// shownPoisons is how many poisons of a group the report shows.
const shownPoisons = 4

func (r *run) poisonRecord(g int, b *attack.Bundle) (result.Poisons, error) {
	dir := poisonsDir + "/" + bundleName(g)
	p := result.Poisons{Dir: dir, SHA256: b.Hash(), Count: len(b.Bases), Bases: b.DataIndex}
	largest, mean := b.Spread()
	p.MaxAbs, p.MeanAbs = result.Number(largest), result.Number(mean)
	have := classCounts(r.split.train.Labels, r.split.classes)
	p.Split = splitOf(b.Before.Labels, have)
	for _, c := range p.Split {
		p.Labels = append(p.Labels, c.Label)
	}
	if r.cfg.WhiteBox {
		p.InOwnPlace = p.Count
	}
	c := b.Report
	if c == nil {
		return p, fmt.Errorf("%s: the bundle has no crafting report", dir)
	}
	for _, x := range c.Restarts {
		p.Restarts = append(p.Restarts, result.Restart{Seed: x.Seed, Phi: result.Numbers(x.Phi), Loss: result.Numbers(x.Loss)})
	}
	for _, x := range c.Rounds {
		p.Rounds = append(p.Rounds, result.Round{Turned: x.Turned, L2: result.Number(x.L2), L3: result.Number(x.L3), Most: result.Number(x.Most), Least: result.Number(x.Least)})
	}
	p.Turns = turnsOf(b.Poisons)
	for _, x := range c.Solves {
		p.Solves = append(p.Solves, result.Solve{Surrogate: x.Surrogate, Images: x.Images, Damping: result.Number(x.Damping), Iterations: x.Iterations, Residual: result.Number(x.Residual),
			Least: result.Number(x.Least), Largest: result.Number(x.Largest), Cosine: result.Number(x.Cosine), Stopped: x.Stopped})
	}
	if x := c.Lookahead; x != nil {
		p.Lookahead = &result.Lookahead{Epochs: x.Epochs, Batch: x.Batch, Share: x.Share, Before: result.Number(x.Before), After: result.Number(x.After)}
	}
	p.Best, p.Phi, p.L2, p.L3 = c.Best, result.Number(c.Phi), result.Number(c.L2), result.Number(c.L3)
	p.StepAttack, p.StepRandUn = result.Number(c.Attack.L3-c.Clean.L3), result.Number(c.Noise.L3-c.Clean.L3)
	p.StepLR = result.Number(r.cfg.VictimTrain.LR)
	p.L2After, p.L3After = result.Number(c.Attack.L2), result.Number(c.Attack.L3)
	for i := range min(shownPoisons, len(b.Bases)) {
		s := result.Sample{Base: b.DataIndex[i], Label: int(b.Before.Labels[i]),
			Before: fmt.Sprintf("%s/before/%04d.png", dir, i), After: fmt.Sprintf("%s/after/%04d.png", dir, i)}
		if b.Turned != nil {
			s.Turned = new(int(b.Turned[i]))
		}
		p.Samples = append(p.Samples, s)
	}
	return p, nil
}

// turnsOf counts the labels that were turned, by what they were and are.
func turnsOf(p *attack.Poisons) []result.Turn {
	counts := map[result.Turn]int{}
	for i, y := range p.Turned {
		counts[result.Turn{From: int(p.Before.Labels[i]), To: int(y)}]++
	}
	var out []result.Turn
	for t, n := range counts {
		t.Count = n
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b result.Turn) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	return out
}

// splitOf counts poisons by class, in the order of their first, beside the images that there are.
func splitOf(labels []int32, have []int) []result.PoisonedClass {
	var out []result.PoisonedClass
	at := map[int32]int{}
	for _, y := range labels {
		i, ok := at[y]
		if !ok {
			i = len(out)
			at[y] = i
			out = append(out, result.PoisonedClass{Label: int(y), Of: have[y]})
		}
		out[i].Count++
	}
	return out
}

// specText is a network as in a model file's metadata.
func specText(s nn.Spec) string {
	m := s.Metadata()
	var parts []string
	for _, k := range []string{"arch", "width", "classes", "input", "batchnorm", "stem", "head", "dropout", "mean", "std"} {
		if m[k] != "" {
			parts = append(parts, k+"="+m[k])
		}
	}
	return strings.Join(parts, " ")
}

// record writes down what was asked for.
func (r *run) record() (result.Config, error) {
	c, k := r.cfg, r.cfg.Craft
	n, err := c.poisonCount()
	if err != nil {
		return result.Config{}, err
	}
	access := "black-box"
	if c.WhiteBox {
		access = "white-box"
	}
	recipe := func(t Train) result.Train {
		return result.Train{Recipe: t.Recipe, Epochs: t.Epochs, Batch: t.Batch, LR: result.Number(t.LR),
			Schedule: t.Schedule, Milestones: t.Milestones, Gamma: result.Number(t.Gamma), Warmup: t.Warmup,
			Momentum: result.Number(max(t.Momentum, 0)), Nesterov: on(t.Nesterov), WeightDecay: result.Number(max(t.WeightDecay, 0)),
			Shift: max(t.Shift, 0), Pad: t.Pad, Flip: on(t.Flip)}
	}
	batch := n
	if k.Align == attack.AlignBatch {
		batch = min(n, k.Batch)
	}
	count := c.Goal.Count
	if c.Goal.Name == "underconfidence" && count == 0 {
		count = attack.DefaultCount
	}
	order, second := "first", (*result.SecondOrder)(nil)
	if o := k.Second; k.Order == 2 {
		order = "second"
		second = &result.SecondOrder{Mode: o.Mode, Curvature: o.Curvature, Damping: o.Damping, Solver: o.Solver, Precond: o.Preconditioner, Iterations: o.Iterations, Tolerance: result.Number(o.Tolerance), Images: o.Images}
	}
	stealth := !c.Goal.Reckless && !k.Misclassifies()
	var meta *result.MetaPoison
	if m := k.Meta; k.Method == attack.MethodMetaPoison {
		meta = &result.MetaPoison{Ages: m.Ages, Unroll: m.Unroll, AgeEvery: m.AgeEvery}
		order = "unrolled"
	}
	var kinds []result.Kind
	for _, s := range r.surrogateSpecs {
		kinds = append(kinds, result.Kind{Model: specText(s), Train: recipe(c.SurrogateTrain.of(s.Arch))})
	}
	out := result.Config{
		Goal: c.Goal.Name, Labels: c.Goal.Labels, AddM: count,
		Score: r.judge.scorer.Variant(), Miscoverage: c.Miscoverage, Coverage: r.judge.level.Coverage(),
		Budget:    result.Budget{Fraction: c.fraction(), Count: n, Auto: c.Budget == BudgetAuto, Epsilon255: result.Number(k.Epsilon255)},
		Subgroups: r.subgroupsRecord(), Poison: k.Poison, Rounds: k.Rounds, Bases: k.Bases, Diverse: k.Diverse,
		Craft: result.Craft{Method: k.Method, Meta: meta, AdversarialLabel: k.AdversarialLabel, Align: k.Align, Loss: k.Loss, Threshold: k.Threshold, Margin: result.Number(max(k.Margin, 0)), Window: k.Window, Bandwidth: result.Number(k.Bandwidth),
			Keep: stealth, KeepBeta: result.Number(k.KeepBeta), KeepTrue: stealth,
			SAMRho: result.Number(k.SAMRho), SAMP: k.SAMP, SAMSteps: k.SAMSteps, Steps: k.Steps, Restarts: k.Restarts,
			LR: result.Number(k.StepSize * k.Epsilon255 / 255), Batch: batch, Augment: k.Shift > 0 || k.Flip, Order: order, Second: second},
		Access: access, Surrogates: c.Attackers, Choosers: c.Surrogates, References: c.References, Victims: c.Victims,
		Repeats: c.Repeats, Targets: c.Targets, Seed: c.Seed, Precision: c.Precision, Defense: c.Defense, Training: c.trainingText(),
		SurrogateModel: kinds[0].Model, VictimModel: specText(r.victimSpec),
		SurrogateTrain: kinds[0].Train, VictimTrain: recipe(c.VictimTrain), MoreSurrogates: kinds[1:],
		VictimCommand: commandRecord(r.victimCommand), ReferenceCommand: commandRecord(r.referenceCommand),
	}
	if out.VictimCommand != nil {
		out.VictimModel, out.VictimTrain = "", result.Train{}
	}
	return out, nil
}
