package report

import (
	"cmp"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/result"
)

// view is everything the template shows, in the order it shows it.
type view struct {
	R       *result.Result
	Sum     result.Summary
	Aim     aim
	Level   conformal.Level
	Title   string
	Lead    string
	Verdict verdict
	Tiles   []tile
	Band    *band

	Columns []string
	Table   []group

	Gallery   []triplet // poisons to look at closely
	Cards     []card
	Near      []nearView
	CardsLeft int // repeats that are not shown
	Amplify   int
	Turned    bool   // poisons have other labels
	Noise     string // what the attack is held against

	Facts   []factGroup
	Splits  []splitRow
	Models  []modelRow
	Timings []timingRow
	Total   string
	Watched []watchedRow
	Energy  string // in all, and of a poison

	Fig   map[string]template.HTML // figures by name
	Style template.CSS
}

// tile is one figure of the top line.
type tile struct{ Value, Name, Note, Class string }

// band is the interval that test coverage of one model lies in with 95 % probability.
type band struct {
	Low, High float64
	N, M      int
}

func (b *band) Text() string {
	return fmt.Sprintf("Under exchangeability the coverage of one model calibrated on %s samples lies in [%.3f, %.3f] on %s test samples "+
		"with 95 %% probability (Beta–binomial law): the shaded band.", thousands(b.N), b.Low, b.High, thousands(b.M))
}

// newBand is the law of the first victim, nil when victims differ in n, rank or test size.
func newBand(r *result.Result) *band {
	var law conformal.CoverageLaw
	for i := range r.Repeats {
		for _, v := range r.Repeats[i].Victims {
			l := conformal.CoverageLaw{N: v.Threshold.N, Rank: v.Threshold.Rank, M: v.Test.N}
			if law == (conformal.CoverageLaw{}) {
				law = l
			}
			if l != law {
				return nil
			}
		}
	}
	const most = 10_000_000 // the band sums over the test samples
	if law.M < 1 || law.M > most || law.N < 1 || law.Rank < 1 || law.Rank > law.N {
		return nil
	}
	lo, hi := law.Band(0.95)
	return &band{Low: float64(lo) / float64(law.M), High: float64(hi) / float64(law.M), N: law.N, M: law.M}
}

// group is a block of rows of the main table.
type group struct {
	Name string
	Rows []tableRow
}

type tableRow struct {
	Name, Hint string
	Cells      []cell
	Diff       string
	SE         string
	Z, P       string
	Strong     bool
}

type cell struct{ Mean, SE, Class string }

func newView(r *result.Result, fsys fs.FS) (*view, error) {
	level, err := conformal.ParseLevel(r.Config.Miscoverage)
	if err != nil {
		return nil, err
	}
	copied := *r
	copied.Config.Coverage = level.Coverage() // follows from ε, whatever the file says
	r = &copied
	v := &view{R: r, Level: level, Aim: aimOf(&r.Config), Band: newBand(r), Amplify: amplification(r.Config.Budget.Epsilon255), Style: style}
	// Summed up again here: the figures then follow from the repeats, whatever the file says.
	v.Sum = result.Summarise(r.Repeats, len(r.Dataset.Classes))
	v.Verdict = newVerdict(r, &v.Sum)
	v.Turned, v.Noise = r.Config.TurnsLabels(), noiseName(&v.Sum)
	v.Title = upperFirst(r.Config.Goal) + " attack"
	if r.Config.Goal == "unequal" {
		v.Title = "Unequal-coverage attack"
	}
	if r.Dataset.Name != "" {
		v.Title += " on " + r.Dataset.Name
	}
	v.Lead = lead(r)
	v.tiles()
	v.table()
	if err := v.cards(fsys); err != nil {
		return nil, err
	}
	if err := v.near(fsys); err != nil {
		return nil, err
	}
	v.facts()
	return v, nil
}

// lead says in one sentence what was done.
func lead(r *result.Result) string {
	c := &r.Config
	n := len(r.Repeats)
	access := "a black-box adversary"
	if c.Access == "white-box" {
		access = "a white-box adversary"
	}
	return fmt.Sprintf("%s replaced %s of the training images (%s) by poisons%s, to change the conformal "+
		"prediction sets of %s at %s coverage. %s per target and condition were trained from scratch and calibrated on clean data.",
		upperFirst(access), fractionPercent(c.Budget.Fraction), thousands(c.Budget.Count), poisonText(c),
		plural(n*max(1, c.Targets), "target"), fractionPercent(c.Coverage), upperFirst(plural(c.Victims, "victim")))
}

func (v *view) tiles() {
	a, s := v.Aim, &v.Sum
	att, run := s.Row(result.Attack), s.Row(s.Noise())
	if att == nil {
		return
	}
	note := ""
	if run != nil {
		note = noiseName(s) + ": " + num(run.SetSize.Mean, 2)
	}
	v.Tiles = append(v.Tiles, tile{num(att.SetSize.Mean, 2), "labels in a target’s set under attack", note, "attack"})
	if d := s.Difference(a.quantity, result.Attack, s.Noise()); d != nil {
		v.Tiles = append(v.Tiles, tile{signed(d.Mean, 2), a.name + ", attack − " + noiseName(s), fmt.Sprintf("± %s, z = %s, n = %d", num(d.SE, 2), num(d.Z, 1), d.N), v.Verdict.Class})
	}
	if run != nil {
		v.Tiles = append(v.Tiles, tile{percent(att.Kept.Mean), "targets’ predictions kept", noiseName(s) + ": " + percent(run.Kept.Mean), ""})
	}
	v.Tiles = append(v.Tiles, tile{num(att.Coverage.Mean, 3), "test coverage under attack", "promised: " + v.R.Config.Coverage, ""})
}

// quantity is one line of the main table.
type quantity struct {
	name, hint string
	key        string // of the paired difference
	decimals   int
	of         func(*result.Row) result.Estimate
	benign     func(*result.Benign) result.Estimate
}

func (v *view) quantities() []struct {
	name string
	rows []quantity
} {
	reduction := v.Aim.Shrinks
	ratio := func(reduce, expand func(*result.Row) result.Estimate) func(*result.Row) result.Estimate {
		if reduction {
			return reduce
		}
		return expand
	}
	word, key, key1, keyOM, keyOM1 := "reduction", result.QReduction, result.QReduction1, result.QReductionOfM, result.QReductionOfM1
	if !reduction {
		word, key, key1, keyOM, keyOM1 = "expansion", result.QExpansion, result.QExpansion1, result.QExpansionOfM, result.QExpansionOfM1
	}
	type block = struct {
		name string
		rows []quantity
	}
	return []block{
		{"Targets: set size", []quantity{
			{name: "Set size", key: result.QSize, decimals: 2, of: func(r *result.Row) result.Estimate { return r.SetSize },
				benign: func(b *result.Benign) result.Estimate { return b.SetSize }},
			{name: "max(1, set size)", hint: "an empty set counts as one label", key: result.QSize1, decimals: 2, of: func(r *result.Row) result.Estimate { return r.SetSize1 },
				benign: func(b *result.Benign) result.Estimate { return b.SetSize1 }},
			{name: "Set size " + word + " ratio", hint: "mean of ratios, against the benign models", key: key, decimals: 2,
				of: ratio(func(r *result.Row) result.Estimate { return r.Reduction.Mean }, func(r *result.Row) result.Estimate { return r.Expansion.Mean })},
			{name: "… as ratio of means", key: keyOM, decimals: 2,
				of: ratio(func(r *result.Row) result.Estimate { return r.Reduction.OfMeans }, func(r *result.Row) result.Estimate { return r.Expansion.OfMeans })},
			{name: "… with max(1, size)", hint: "mean of ratios", key: key1, decimals: 2,
				of: ratio(func(r *result.Row) result.Estimate { return r.Reduce1.Mean }, func(r *result.Row) result.Estimate { return r.Expand1.Mean })},
			{name: "… with max(1, size)", hint: "ratio of means", key: keyOM1, decimals: 2,
				of: ratio(func(r *result.Row) result.Estimate { return r.Reduce1.OfMeans }, func(r *result.Row) result.Estimate { return r.Expand1.OfMeans })},
		}},
		{"Targets: labels", []quantity{
			{name: "p of the benign prediction", key: result.QProb, decimals: 2, of: func(r *result.Row) result.Estimate { return r.Prob }},
			{name: "S − τ of the attacked labels", hint: "≤ 0 is inside the set", key: result.QMargin, decimals: 3, of: func(r *result.Row) result.Estimate { return r.Margin }},
			{name: "Attacked labels in the set", key: result.QInside, decimals: 2, of: func(r *result.Row) result.Estimate { return r.Inside }},
			{name: "Prediction kept", key: result.QKept, decimals: 2, of: func(r *result.Row) result.Estimate { return r.Kept }},
			{name: "True label in the set", decimals: 2, of: func(r *result.Row) result.Estimate { return r.TrueIn }},
			{name: "Empty sets", key: result.QEmpty, decimals: 2, of: func(r *result.Row) result.Estimate { return r.Empty }},
		}},
		{"Test data, by subgroup", v.subgroupQuantities()},
		{"Test data", []quantity{
			{name: "Coverage", hint: "promised: " + v.R.Config.Coverage, key: result.QCoverage, decimals: 3, of: func(r *result.Row) result.Estimate { return r.Coverage }},
			{name: "Accuracy", key: result.QAccuracy, decimals: 3, of: func(r *result.Row) result.Estimate { return r.Accuracy }},
			{name: "Mean set size", key: result.QTestSize, decimals: 2, of: func(r *result.Row) result.Estimate { return r.TestSize }},
		}},
	}
}

func newCell(e result.Estimate, d int, class string) cell {
	c := cell{Mean: num(e.Mean, d), Class: class}
	if e.SE.Finite() {
		c.SE = num(e.SE, d)
	}
	return c
}

func (v *view) table() {
	v.Columns = []string{"Benign models"}
	var conds []result.Condition
	for _, c := range shown {
		if v.Sum.Row(c) != nil {
			conds = append(conds, c)
			v.Columns = append(v.Columns, conditionName(c))
		}
	}
	for _, b := range v.quantities() {
		if len(b.rows) == 0 {
			continue
		}
		g := group{Name: b.name}
		for _, q := range b.rows {
			row := tableRow{Name: q.name, Hint: q.hint, Strong: q.key != "" && q.key == v.Aim.quantity}
			if q.benign != nil {
				row.Cells = append(row.Cells, newCell(q.benign(&v.Sum.Benign), q.decimals, ""))
			} else {
				row.Cells = append(row.Cells, cell{})
			}
			for _, c := range conds {
				row.Cells = append(row.Cells, newCell(q.of(v.Sum.Row(c)), q.decimals, ink(c)))
			}
			if d := v.Sum.Difference(q.key, result.Attack, v.Sum.Noise()); d != nil {
				row.Diff, row.Z, row.P = signed(d.Mean, q.decimals), num(d.Z, 1), strings.TrimPrefix(strings.TrimPrefix(pValue(d.P), "p = "), "p ")
				if d.SE.Finite() {
					row.SE = num(d.SE, q.decimals)
				}
			}
			g.Rows = append(g.Rows, row)
		}
		v.Table = append(v.Table, g)
	}
}

// card shows one repeat: its targets, what the victims' sets became, some poisons.
type card struct {
	Name    string
	Note    string
	Targets []targetView
	Poisons []triplet
	Count   string
}

type targetView struct {
	Picture   template.URL
	Name      string
	Label     string
	Predicted string
	Wrong     bool // the benign prediction is not the true label
	Benign    string
	Why       string
	Rows      []setRow
}

type setRow struct {
	Condition result.Condition
	Name      string
	Sets      []setView
	Prob      string
}

type setView struct {
	Labels []chip
	More   int
}

type chip struct{ Name, Class, Title string }

// How much of a run the page shows in pictures; result.json has it all.
const (
	maxCards   = 24
	maxSamples = 4
	maxGallery = 8
	maxNear    = 12
	maxChips   = 12
)

func (v *view) cards(fsys fs.FS) error {
	r := v.R
	for i := range r.Repeats {
		if i == maxCards {
			v.CardsLeft = len(r.Repeats) - maxCards
			break
		}
		rep := &r.Repeats[i]
		c := card{Name: fmt.Sprintf("Repeat %d", rep.ID)}
		for t := range rep.Targets {
			tv, err := v.target(rep, t, fsys)
			if err != nil {
				return err
			}
			c.Targets = append(c.Targets, tv)
		}
		if fsys != nil {
			for k, s := range rep.Poisons.Samples {
				if k == maxSamples {
					break
				}
				tr, err := loadTriplet(fsys, r, s)
				if err != nil {
					return err
				}
				c.Poisons = append(c.Poisons, tr)
			}
		}
		var from []string
		for _, y := range rep.Poisons.Labels {
			from = append(from, className(r, y))
		}
		if t := splitText(r, &rep.Poisons); t != "" {
			from = []string{t}
		}
		c.Count = fmt.Sprintf("%s from %s", plural(rep.Poisons.Count, "poison"), strings.Join(from, ", "))
		if t := turnsText(r, &rep.Poisons); t != "" {
			c.Count += "; " + t
		}
		if r.Config.MovesPixels() {
			c.Count += fmt.Sprintf("; largest change %s/255, mean %s/255", num(rep.Poisons.MaxAbs, 0), num(rep.Poisons.MeanAbs, 1))
		}
		if rep.Poisons.Phi.Finite() {
			c.Note = "Φ = " + num(rep.Poisons.Phi, 2)
		}
		v.Cards = append(v.Cards, c)
	}
	// One poison of each repeat in turn, so that the gallery shows many classes.
	for k := range maxSamples {
		for _, c := range v.Cards {
			if k < len(c.Poisons) && len(v.Gallery) < maxGallery {
				v.Gallery = append(v.Gallery, c.Poisons[k])
			}
		}
	}
	return nil
}

func (v *view) target(rep *result.Repeat, t int, fsys fs.FS) (targetView, error) {
	tgt := &rep.Targets[t]
	pic, err := loadPicture(fsys, tgt.Picture)
	if err != nil {
		return targetView{}, err
	}
	sizes := make([]string, len(tgt.Benign))
	for i, n := range tgt.Benign {
		sizes[i] = strconv.Itoa(n)
	}
	tv := targetView{
		Picture: pic, Name: fmt.Sprintf("#%d", tgt.ID), Label: className(v.R, tgt.Label), Predicted: className(v.R, tgt.Predicted),
		Wrong: tgt.Label != tgt.Predicted, Benign: strings.Join(sizes, ", "), Why: tgt.Why,
	}
	roles := map[int]string{}
	for _, a := range tgt.Attacked {
		roles[a.Label] = a.Role
	}
	for _, c := range slices.Backward(shown[:]) {
		row := setRow{Condition: c, Name: conditionName(c)}
		prob, n := 0.0, 0
		for _, vic := range rep.Victims {
			if vic.Condition != c {
				continue
			}
			o := &vic.Outcomes[t]
			prob += o.Prob.Float()
			n++
			var sv setView
			for k, y := range o.Set {
				if k == maxChips {
					sv.More = len(o.Set) - maxChips
					break
				}
				ch := chip{Name: className(v.R, y)}
				switch {
				case roles[y] == result.RoleRemove:
					ch.Class, ch.Title = "hit", "the adversary wants this label out"
				case roles[y] == result.RoleAdd:
					ch.Class, ch.Title = "hit", "the adversary wants this label in"
				case y == tgt.Predicted:
					ch.Class, ch.Title = "top", "the benign prediction"
				}
				sv.Labels = append(sv.Labels, ch)
			}
			row.Sets = append(row.Sets, sv)
		}
		if n > 0 {
			row.Prob = num(result.Number(prob/float64(n)), 2)
			tv.Rows = append(tv.Rows, row)
		}
	}
	return tv, nil
}

// nearView is a target beside the training image that a surrogate takes for most like it.
type nearView struct {
	Target, Image          template.URL
	Name, Label, Its       string // of the target, its label, the image's
	ID                     int
	Distance, Levels, Note string
}

// near lists the pairs that have pictures, the nearest first.
func (v *view) near(fsys fs.FS) error {
	type pair struct {
		*result.Target
		at float64
	}
	var pairs []pair
	for i := range v.R.Repeats {
		for t := range v.R.Repeats[i].Targets {
			if tgt := &v.R.Repeats[i].Targets[t]; tgt.Near != nil && tgt.Near.Picture != "" && tgt.Picture != "" {
				pairs = append(pairs, pair{tgt, tgt.Near.Distance.Float()})
			}
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.at, b.at) })
	if fsys == nil {
		return nil
	}
	for _, p := range pairs[:min(len(pairs), maxNear)] {
		n := nearView{Name: fmt.Sprintf("#%d", p.ID), Label: className(v.R, p.Label), Its: className(v.R, p.Near.Label), ID: p.Near.ID,
			Distance: num(p.Near.Distance, 2), Levels: num(p.Near.Levels, 1)}
		switch {
		case p.Near.Levels == 0:
			n.Note = "an exact copy"
		case p.Label != p.Near.Label:
			n.Note = "labels differ"
		}
		var err error
		if n.Target, err = loadPicture(fsys, p.Picture); err != nil {
			return err
		}
		if n.Image, err = loadPicture(fsys, p.Near.Picture); err != nil {
			return err
		}
		v.Near = append(v.Near, n)
	}
	return nil
}

// factGroup is a block of the configuration.
type factGroup struct {
	Name  string
	Facts []fact
}

type fact struct{ Name, Value string }

type splitRow struct{ Name, Use, Size, SHA256 string }

type modelRow struct{ Role, Seed, Spec, Accuracy, Coverage, Size, Tau, SHA256 string }

type timingRow struct {
	Phase, Count, Time string
	Share              float64 // of the total, in percent
}

// seconds are those of a phase that can be added up.
func seconds(t result.Timing) float64 { return min(max(0, t.Seconds), drawable) }

func (g *factGroup) add(name, value string) {
	if value != "" {
		g.Facts = append(g.Facts, fact{name, value})
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func trainText(t result.Train) string {
	s := fmt.Sprintf("SGD, %s, batch %d, learning rate %s", plural(t.Epochs, "epoch"), t.Batch, general(t.LR))
	switch t.Schedule {
	case "steps":
		s += fmt.Sprintf(" × %s after epochs %s", general(t.Gamma), strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Milestones), " ", ", "), "[]"))
	case "cosine":
		s += " to 0 by a cosine"
	}
	if t.Warmup > 0 {
		s += fmt.Sprintf(", warm-up of %s", plural(t.Warmup, "epoch"))
	}
	s += ", momentum " + general(t.Momentum)
	if t.Nesterov {
		s += " (Nesterov)"
	}
	s += ", weight decay " + general(t.WeightDecay)
	if t.Shift > 0 {
		s += fmt.Sprintf(", shift ±%d", t.Shift)
		if t.Pad == "reflect" {
			s += " with reflection"
		}
	}
	if t.Flip {
		s += ", flip"
	}
	return s
}

func (v *view) facts() {
	r, c := v.R, &v.R.Config
	var attack, conf, run factGroup
	attack.Name, conf.Name, run.Name = "Attack", "Conformal prediction and models", "Run"

	attack.add("Goal", c.Goal)
	if len(c.Labels) > 0 {
		var names []string
		for _, y := range c.Labels {
			names = append(names, className(r, y))
		}
		attack.add("Labels", strings.Join(names, ", "))
	}
	attack.add("Access", c.Access)
	budget := fmt.Sprintf("%s = %s", fractionPercent(c.Budget.Fraction), plural(c.Budget.Count, "image"))
	if c.Budget.Auto {
		budget += ", found automatically"
	}
	attack.add("Budget", budget)
	attack.add("Labels", turnedText(c))
	k := &c.Craft
	if t := misclassified(r); t != "" {
		attack.add("Method", t)
	}
	if c.MovesPixels() {
		attack.add("Ball", general(c.Budget.Epsilon255)+"/255 in every pixel, on the 8-bit grid")
	}
	attack.add("Poison bases", basesOf(c))
	if t := unrolled(r); t != "" {
		attack.add("Method", t)
	} else {
		attack.add("Alignment", k.Align)
	}
	if t := secondOrder(r); t != "" {
		attack.add("Order", t)
	}
	loss := k.Loss
	if k.AdversarialLabel == "" {
		loss += ", margin " + general(k.Margin)
	}
	if k.Window > 0 {
		loss += fmt.Sprintf(", %d pairs around the rank", k.Window)
	}
	if k.Bandwidth > 0 {
		loss += ", bandwidth " + general(k.Bandwidth)
	}
	attack.add("Loss ℓ₂", loss)
	if k.SAMRho > 0 {
		attack.add("Loss ℓ₃", fmt.Sprintf("ρ = %s, p = %s, %s", general(k.SAMRho), general(k.SAMP), plural(k.SAMSteps, "ascent step")))
	}
	attack.add("Keep prediction, true label", yesNo(k.Keep)+", "+yesNo(k.KeepTrue))
	if c.MovesPixels() {
		attack.add("Crafting", fmt.Sprintf("%s, %s, signed Adam with step %s, batch %d, augmentation: %s", plural(k.Steps, "step"), plural(k.Restarts, "restart"), general(k.LR), k.Batch, yesNo(k.Augment)))
	}

	conf.add("Score", c.Score.String())
	conf.add("Miscoverage ε", c.Miscoverage)
	conf.add("Victims", strings.TrimSuffix(fmt.Sprintf("%d per repeat and condition; %s", c.Victims, c.VictimModel), "; "))
	if c.VictimCommand != nil {
		conf.add("Victim training", commandText(c.VictimCommand))
		conf.add("Training of benign models", commandText(c.ReferenceCommand))
	} else {
		conf.add("Victim training", trainText(c.VictimTrain))
	}
	conf.add("Defence", defenceText(r))
	surrogates := fmt.Sprintf("%d; ", c.Surrogates)
	if n := len(c.MoreSurrogates); n > 0 {
		surrogates = fmt.Sprintf("%d of %d kinds in turn; ", c.Surrogates, 1+n)
	}
	models, trainings := []string{c.SurrogateModel}, []string{trainText(c.SurrogateTrain)}
	for _, k := range c.MoreSurrogates {
		models, trainings = append(models, k.Model), append(trainings, trainText(k.Train))
	}
	conf.add("Surrogates", surrogates+strings.Join(models, "; "))
	conf.add("Surrogate training", strings.Join(slices.Compact(trainings), "; "))
	conf.add("Benign models", fmt.Sprintf("%d choose targets, %d others measure", c.Choosers, c.References))

	run.add("Repeats", fmt.Sprintf("%d × %s", len(r.Repeats), plural(max(1, c.Targets), "target")))
	run.add("Seed", strconv.FormatUint(c.Seed, 10))
	run.add("Precision", c.Precision)
	run.add("Device", strings.TrimSpace(r.Device.Backend+": "+r.Device.Name))
	run.add("Instructions", r.Device.ISA)
	if r.Device.Cores > 0 {
		run.add("Cores", strconv.Itoa(r.Device.Cores))
	}
	run.add("Driver", r.Device.Driver)
	run.add("Library", r.Device.Library)
	run.add("gocp", r.Version)
	run.add("Build", r.Build)
	run.add("Data", fmt.Sprintf("%s, %d×%d×%d, %s", r.Dataset.Name, r.Dataset.H, r.Dataset.W, r.Dataset.C, plural(len(r.Dataset.Classes), "class")))
	run.add("Origin", r.Dataset.Origin)
	run.add("Data SHA-256", r.Dataset.SHA256)
	if n := r.Dataset.Copies; n > 0 {
		run.add("Targets left out", plural(n, "candidate")+": exact copies of images that models train or calibrate on")
	}
	v.Facts = []factGroup{attack, conf, run}

	for _, s := range r.Dataset.Splits {
		v.Splits = append(v.Splits, splitRow{s.Name, s.Use, thousands(s.Size), s.SHA256})
	}
	for _, m := range r.Models {
		v.Models = append(v.Models, modelRow{m.Role, strconv.FormatUint(m.Seed, 10), m.Spec, num(m.Accuracy, 3), num(m.Coverage, 3), num(m.MeanSize, 2),
			num(result.Number(m.Threshold.Tau), 4), m.SHA256})
	}
	total := 0.0
	for _, t := range r.Timings {
		total += seconds(t)
	}
	for _, t := range r.Timings {
		row := timingRow{Phase: t.Phase, Time: duration(t.Seconds)}
		if t.Count > 0 {
			row.Count = thousands(t.Count)
		}
		if total > 0 {
			row.Share = math.Round(1000*(seconds(t)/total)) / 10
		}
		v.Timings = append(v.Timings, row)
	}
	v.Total = duration(total)
	if t := r.Telemetry; t != nil {
		v.Watched = watchedRows(t)
		if t.Joules > 0 {
			v.Energy = energyText(t.Joules) + fromPower(t.FromPower, t.Joules) + " in all"
		}
		if t.JoulesPerPoison > 0 {
			v.Energy += ", " + energyText(t.JoulesPerPoison) + " of crafting a poison"
		}
	}
}
