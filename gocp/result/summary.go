package result

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Estimate is a mean over repeats with its standard error.
type Estimate struct {
	Mean Number `json:"mean"`
	SE   Number `json:"se"` // sample standard deviation / √n; NaN for fewer than two repeats
	N    int    `json:"n"`  // repeats that have the quantity
}

// Ratio is a set size change against the reference benign models, both ways of averaging.
// Positive is the direction of its name.
type Ratio struct {
	OfMeans Estimate `json:"of_means"` // 1 − Σ|C_victim| / Σ|C_benign|; SE by linearisation
	Mean    Estimate `json:"mean"`     // mean over repeats of (|C_benign| − |C_victim|)/|C_benign|
}

// Neg returns r with the sign turned: reduction ↔ expansion.
func (r Ratio) Neg() Ratio {
	return Ratio{OfMeans: r.OfMeans.neg(), Mean: r.Mean.neg()}
}

func (e Estimate) neg() Estimate {
	if e.Mean != 0 { // no −0 in the output
		e.Mean = -e.Mean
	}
	return e
}

// Row sums up one condition. Every estimate first averages a repeat's victims and targets, then
// takes mean and standard error over repeats: victims of one repeat share their poisons and are
// not independent.
type Row struct {
	Condition Condition `json:"condition"`
	Repeats   int       `json:"repeats"`
	Outcomes  int       `json:"outcomes"` // targets × victims

	SetSize   Estimate `json:"set_size"`
	SetSize1  Estimate `json:"set_size_max1"`  // max(1, size): empty sets do not count as small
	Reduction Ratio    `json:"reduction"`      // (benign − victim)/benign
	Reduce1   Ratio    `json:"reduction_max1"` // the same with max(1, size) above and below
	Expansion Ratio    `json:"expansion"`      // (victim − benign)/benign
	Expand1   Ratio    `json:"expansion_max1"`

	Prob   Estimate `json:"prob"`   // probability of the benign predicted label
	Margin Estimate `json:"margin"` // S − τ of the attacked labels; ≤ 0 is inside
	Inside Estimate `json:"inside"` // attacked labels in the set, as a share of them
	Kept   Estimate `json:"kept"`   // predicted label = benign predicted label
	TrueIn Estimate `json:"true_in"`
	Empty  Estimate `json:"empty"`

	Coverage Estimate `json:"coverage"` // on test data
	Accuracy Estimate `json:"accuracy"`
	TestSize Estimate `json:"test_size"`
	Agree    Estimate `json:"agreement"` // predicted label as the reference models' mean, on test data

	// Subgroup is of the test images of the subgroup that a repeat attacks, which are no targets, and of all others; nil: there
	// are no subgroups.
	Subgroup *Divided `json:"subgroup,omitempty"`

	Classes   []Estimate `json:"classes"`   // test coverage by true class
	Histogram []int      `json:"histogram"` // outcomes by set size 0…K
}

// Divided is what is measured inside and outside of the attacked subgroup.
type Divided struct {
	Coverage     Estimate `json:"coverage"` // of members
	Accuracy     Estimate `json:"accuracy"`
	Size         Estimate `json:"set_size"`
	RestCoverage Estimate `json:"rest_coverage"` // of others
	RestAccuracy Estimate `json:"rest_accuracy"`
}

// Paired is a difference between two conditions, taken within each repeat.
type Paired struct {
	Quantity string    `json:"quantity"` // a key of Quantities
	A        Condition `json:"a"`
	B        Condition `json:"b"`
	Mean     Number    `json:"mean"` // A − B
	SE       Number    `json:"se"`
	Z        Number    `json:"z"` // mean / SE; 0 when the mean is 0, ±inf when all repeats agree
	P        Number    `json:"p"` // two-sided Student t with n−1 degrees of freedom; sign test when all agree
	N        int       `json:"n"`
}

// Benign describes the reference benign models on the targets: the denominators.
type Benign struct {
	SetSize   Estimate `json:"set_size"`
	SetSize1  Estimate `json:"set_size_max1"`
	Histogram []int    `json:"histogram"` // target × reference model by set size 0…K
}

// Crafting sums up what crafting saw on the surrogates.
type Crafting struct {
	Phi        Estimate `json:"phi"`
	StepAttack Estimate `json:"step_attack"` // Δℓ3 after one SGD step on the poisons
	StepRandUn Estimate `json:"step_randun"` // Δℓ3 after one SGD step on RandUn poisons
	StepPaired Paired   `json:"step_paired"` // attack − RandUn
}

// Summary is the aggregate of all repeats.
type Summary struct {
	Benign   Benign   `json:"benign"`
	Rows     []Row    `json:"rows"` // in the order of Conditions, those that were run
	Paired   []Paired `json:"paired"`
	Crafting Crafting `json:"crafting"`
}

// Row returns the row of a condition, nil if it was not run.
func (s *Summary) Row(c Condition) *Row {
	for i := range s.Rows {
		if s.Rows[i].Condition == c {
			return &s.Rows[i]
		}
	}
	return nil
}

// Noise is the condition that the attack is held against: random labels where these were run, else uniform noise.
func (s *Summary) Noise() Condition {
	if s.Row(RandLabel) != nil {
		return RandLabel
	}
	return RandUn
}

// Difference returns the paired difference a − b of a quantity, nil if it is not there.
func (s *Summary) Difference(quantity string, a, b Condition) *Paired {
	for i := range s.Paired {
		if p := &s.Paired[i]; p.Quantity == quantity && p.A == a && p.B == b {
			return p
		}
	}
	return nil
}

// Quantities of paired differences.
const (
	QSize          = "set_size"
	QSize1         = "set_size_max1"
	QReduction     = "reduction"      // mean of ratios
	QReduction1    = "reduction_max1" // with max(1, size)
	QReductionOfM  = "reduction_of_means"
	QReductionOfM1 = "reduction_of_means_max1"
	QExpansion     = "expansion"
	QExpansion1    = "expansion_max1"
	QExpansionOfM  = "expansion_of_means"
	QExpansionOfM1 = "expansion_of_means_max1"
	QProb          = "prob"
	QMargin        = "margin"
	QInside        = "inside"
	QKept          = "kept"
	QEmpty         = "empty"
	QCoverage      = "coverage"
	QAccuracy      = "accuracy"
	QTestSize      = "test_size"
	QAgreement     = "agreement"

	// Of the subgroup that a repeat attacks, where there are subgroups.
	QMembers  = "subgroup_coverage"
	QMembersA = "subgroup_accuracy"
	QRest     = "rest_coverage"
	QRestA    = "rest_accuracy"
)

// cell holds the means of one repeat under one condition. A quantity without data is NaN.
type cell struct {
	outcomes                               int
	size, size1, prob, margin, inside      float64
	kept, trueIn, empty                    float64
	coverage, accuracy, testSize, agree    float64
	ratio, ratio1                          float64 // mean over targets of 1 − size/benign
	benign, benign1, denomSize, denomSize1 float64 // over the targets with both
	divided                                *divided
	classes                                []float64
	histogram                              []int
}

// divided is a repeat's test data, of one subgroup and of the others, mean over victims.
type divided struct{ coverage, accuracy, size, restCoverage, restAccuracy float64 }

func newDivided(r *Repeat, cond Condition) *divided {
	if r.Subgroup == nil {
		return nil
	}
	var coverage, accuracy, size, restCoverage, restAccuracy mean
	for v := range r.Victims {
		if r.Victims[v].Condition != cond {
			continue
		}
		var in, out PerGroup
		for g, p := range r.Victims[v].Test.Groups {
			to := &out
			if g == *r.Subgroup {
				to = &in
			}
			to.N += p.N
			to.Covered += p.Covered
			to.Correct += p.Correct
			to.Size += p.Size
		}
		share := func(k int, p PerGroup) float64 { return float64(k) / float64(p.N) } // NaN of none
		coverage.add(share(in.Covered, in))
		accuracy.add(share(in.Correct, in))
		size.add(share(in.Size, in))
		restCoverage.add(share(out.Covered, out))
		restAccuracy.add(share(out.Correct, out))
	}
	return &divided{coverage.value(), accuracy.value(), size.value(), restCoverage.value(), restAccuracy.value()}
}

// inGroup is a column of what is divided; NaN where nothing is.
func inGroup(f func(*divided) float64) func(*cell) float64 {
	return func(c *cell) float64 {
		if c.divided == nil {
			return math.NaN()
		}
		return f(c.divided)
	}
}

// Summarise aggregates repeats into the table that is reported. It is pure: the same repeats give
// the same bits. classes is K; repeats and victims without outcomes are skipped.
func Summarise(repeats []Repeat, classes int) Summary {
	var s Summary
	s.Benign = benign(repeats, classes)
	cells := map[Condition][]*cell{}
	for _, c := range Conditions {
		row := make([]*cell, len(repeats))
		any := false
		for i := range repeats {
			row[i] = newCell(&repeats[i], c, classes)
			any = any || row[i] != nil
		}
		if any {
			cells[c] = row
			s.Rows = append(s.Rows, newRow(c, row, classes))
		}
	}
	for _, pair := range [...][2]Condition{{Attack, RandUn}, {Attack, RandGa}, {Attack, RandLabel}, {Attack, Clean}, {RandUn, Clean}, {RandLabel, Clean}} {
		a, b := cells[pair[0]], cells[pair[1]]
		if a != nil && b != nil {
			s.Paired = append(s.Paired, pairedAll(pair[0], pair[1], a, b)...)
		}
	}
	s.Crafting = crafting(repeats)
	return s
}

// mean is a running mean that is NaN over nothing.
type mean struct {
	sum float64
	n   int
}

func (m *mean) add(x float64) {
	if !math.IsNaN(x) {
		m.sum += x
		m.n++
	}
}
func (m *mean) value() float64 { return m.sum / float64(m.n) }

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// refSize is the benign set size of a target: mean over the reference models; floor is 0 or 1.
func (t *Target) refSize(floor int) float64 {
	var m mean
	for _, n := range t.Benign {
		m.add(float64(max(floor, n)))
	}
	return m.value()
}

func newCell(r *Repeat, cond Condition, classes int) *cell {
	var size, size1, prob, margin, inside, kept, trueIn, empty mean
	var coverage, accuracy, testSize, agree mean
	perClass := make([]mean, classes)
	hist := make([]int, classes+1)
	tsize := make([]mean, len(r.Targets))
	tsize1 := make([]mean, len(r.Targets))
	n := 0
	for v := range r.Victims {
		vic := &r.Victims[v]
		if vic.Condition != cond {
			continue
		}
		coverage.add(vic.Test.Coverage.Float())
		accuracy.add(vic.Test.Accuracy.Float())
		testSize.add(vic.Test.MeanSize.Float())
		agree.add(vic.Test.Agreement.Float())
		for k, pc := range vic.Test.Classes {
			if k < classes && pc.N > 0 {
				perClass[k].add(float64(pc.Covered) / float64(pc.N))
			}
		}
		for t := range vic.Outcomes {
			if t >= len(r.Targets) {
				break
			}
			o, tgt := &vic.Outcomes[t], &r.Targets[t]
			k := len(o.Set)
			n++
			size.add(float64(k))
			size1.add(float64(max(1, k)))
			tsize[t].add(float64(k))
			tsize1[t].add(float64(max(1, k)))
			prob.add(o.Prob.Float())
			for a, at := range tgt.Attacked {
				inside.add(indicator(slices.Contains(o.Set, at.Label)))
				if a < len(o.Margins) {
					margin.add(o.Margins[a].Float())
				}
			}
			kept.add(indicator(o.Predicted == tgt.Predicted))
			trueIn.add(indicator(slices.Contains(o.Set, tgt.Label)))
			empty.add(indicator(k == 0))
			if k <= classes {
				hist[k]++
			}
		}
	}
	if n == 0 {
		return nil
	}
	c := &cell{
		outcomes: n, size: size.value(), size1: size1.value(), prob: prob.value(),
		margin: margin.value(), inside: inside.value(), kept: kept.value(),
		trueIn: trueIn.value(), empty: empty.value(), coverage: coverage.value(),
		accuracy: accuracy.value(), testSize: testSize.value(), agree: agree.value(), histogram: hist,
	}
	c.divided = newDivided(r, cond)
	for k := range perClass {
		c.classes = append(c.classes, perClass[k].value())
	}
	var ratio, ratio1, den, den1, num, num1 mean
	for t := range r.Targets {
		if tsize[t].n == 0 || len(r.Targets[t].Benign) == 0 {
			continue
		}
		b, b1 := r.Targets[t].refSize(0), r.Targets[t].refSize(1)
		den.add(b)
		num.add(tsize[t].value())
		den1.add(b1)
		num1.add(tsize1[t].value())
		if b > 0 { // an always-empty benign set has no ratio
			ratio.add(1 - tsize[t].value()/b)
		}
		ratio1.add(1 - tsize1[t].value()/b1)
	}
	c.ratio, c.ratio1 = ratio.value(), ratio1.value()
	c.benign, c.benign1 = den.value(), den1.value()
	c.denomSize, c.denomSize1 = num.value(), num1.value()
	return c
}

func benign(repeats []Repeat, classes int) Benign {
	var b Benign
	b.Histogram = make([]int, classes+1)
	var size, size1 []float64
	for i := range repeats {
		var m, m1 mean
		for t := range repeats[i].Targets {
			tgt := &repeats[i].Targets[t]
			m.add(tgt.refSize(0))
			m1.add(tgt.refSize(1))
			for _, n := range tgt.Benign {
				if n >= 0 && n <= classes {
					b.Histogram[n]++
				}
			}
		}
		size, size1 = append(size, m.value()), append(size1, m1.value())
	}
	b.SetSize, b.SetSize1 = estimate(size), estimate(size1)
	return b
}

func newRow(cond Condition, cells []*cell, classes int) Row {
	row := Row{Condition: cond, Histogram: make([]int, classes+1)}
	for _, c := range cells {
		if c == nil {
			continue
		}
		row.Repeats++
		row.Outcomes += c.outcomes
		for k, n := range c.histogram {
			row.Histogram[k] += n
		}
	}
	of := func(f func(*cell) float64) Estimate { return estimate(column(cells, f)) }
	row.SetSize = of(func(c *cell) float64 { return c.size })
	row.SetSize1 = of(func(c *cell) float64 { return c.size1 })
	row.Prob = of(func(c *cell) float64 { return c.prob })
	row.Margin = of(func(c *cell) float64 { return c.margin })
	row.Inside = of(func(c *cell) float64 { return c.inside })
	row.Kept = of(func(c *cell) float64 { return c.kept })
	row.TrueIn = of(func(c *cell) float64 { return c.trueIn })
	row.Empty = of(func(c *cell) float64 { return c.empty })
	row.Coverage = of(func(c *cell) float64 { return c.coverage })
	row.Accuracy = of(func(c *cell) float64 { return c.accuracy })
	row.TestSize = of(func(c *cell) float64 { return c.testSize })
	row.Agree = of(func(c *cell) float64 { return c.agree })
	row.Reduction = Ratio{
		OfMeans: ratioOfMeans(cells, nil, sizeReduced),
		Mean:    of(func(c *cell) float64 { return c.ratio }),
	}
	row.Reduce1 = Ratio{
		OfMeans: ratioOfMeans(cells, nil, sizeReduced1),
		Mean:    of(func(c *cell) float64 { return c.ratio1 }),
	}
	row.Expansion, row.Expand1 = row.Reduction.Neg(), row.Reduce1.Neg()
	if coverage := of(inGroup(func(d *divided) float64 { return d.coverage })); coverage.N > 0 {
		row.Subgroup = &Divided{
			Coverage:     coverage,
			Accuracy:     of(inGroup(func(d *divided) float64 { return d.accuracy })),
			Size:         of(inGroup(func(d *divided) float64 { return d.size })),
			RestCoverage: of(inGroup(func(d *divided) float64 { return d.restCoverage })),
			RestAccuracy: of(inGroup(func(d *divided) float64 { return d.restAccuracy })),
		}
	}
	for k := range classes {
		row.Classes = append(row.Classes, of(func(c *cell) float64 { return c.classes[k] }))
	}
	return row
}

// column reads one quantity of every repeat; NaN where there is none.
func column(cells []*cell, f func(*cell) float64) []float64 {
	x := make([]float64, len(cells))
	for i, c := range cells {
		x[i] = math.NaN()
		if c != nil {
			x[i] = f(c)
		}
	}
	return x
}

// estimate is mean and standard error of the entries that are numbers.
func estimate(x []float64) Estimate {
	var m mean
	for _, v := range x {
		m.add(v)
	}
	mu := m.value()
	return Estimate{Mean: Number(mu), SE: Number(stdErr(x, mu, m.n)), N: m.n}
}

// stdErr is √(Σ(x−μ)²/(n−1)/n) over the entries that are numbers. Equal entries give exactly 0,
// whatever rounding left in their mean.
func stdErr(x []float64, mu float64, n int) float64 {
	if n < 2 {
		return math.NaN()
	}
	var ss, largest float64
	for _, v := range x {
		if !math.IsNaN(v) {
			ss += (v - mu) * (v - mu)
			largest = math.Max(largest, math.Abs(v))
		}
	}
	if math.Sqrt(ss) <= 1e-12*largest {
		return 0
	}
	return math.Sqrt(ss / float64(n-1) / float64(n))
}

// sizeReduced and sizeReduced1 give numerator and denominator of 1 − Σsize/Σbenign.
func sizeReduced(c *cell) (num, den float64)  { return c.benign - c.denomSize, c.benign }
func sizeReduced1(c *cell) (num, den float64) { return c.benign1 - c.denomSize1, c.benign1 }

// ratioOfMeans is Σnum/Σden over repeats with the linearised standard error: the residuals
// e_i = num_i − R·den_i have mean 0, and se(R) ≈ se(e)/mean(den). With b given it is the paired
// difference of the two ratios, whose numerators are subtracted over the common denominators.
func ratioOfMeans(a, b []*cell, f func(*cell) (num, den float64)) Estimate {
	num, den := differences(a, b, f)
	return linearised(num, den)
}

func differences(a, b []*cell, f func(*cell) (num, den float64)) (num, den []float64) {
	for i := range a {
		if a[i] == nil || (b != nil && b[i] == nil) {
			continue
		}
		n, d := f(a[i])
		if b != nil {
			nb, _ := f(b[i])
			n -= nb
		}
		if !math.IsNaN(n) && !math.IsNaN(d) {
			num, den = append(num, n), append(den, d)
		}
	}
	return num, den
}

func linearised(num, den []float64) Estimate {
	n := len(num)
	var sn, sd float64
	for i := range num {
		sn += num[i]
		sd += den[i]
	}
	if n == 0 || sd == 0 {
		return Estimate{Mean: Number(math.NaN()), SE: Number(math.NaN()), N: 0}
	}
	r := sn / sd
	e := make([]float64, n)
	for i := range num {
		e[i] = num[i] - r*den[i]
	}
	return Estimate{Mean: Number(r), SE: Number(stdErr(e, 0, n) / (sd / float64(n))), N: n}
}

func pairedAll(ca, cb Condition, a, b []*cell) []Paired {
	var out []Paired
	plain := func(q string, f func(*cell) float64) Paired {
		x, y := column(a, f), column(b, f)
		for i := range x {
			x[i] -= y[i]
		}
		return test(q, ca, cb, estimate(x))
	}
	turned := func(p Paired, q string) Paired {
		e := Estimate{Mean: p.Mean, SE: p.SE, N: p.N}
		return test(q, ca, cb, e.neg())
	}
	red := plain(QReduction, func(c *cell) float64 { return c.ratio })
	red1 := plain(QReduction1, func(c *cell) float64 { return c.ratio1 })
	rom := test(QReductionOfM, ca, cb, ratioOfMeans(a, b, sizeReduced))
	rom1 := test(QReductionOfM1, ca, cb, ratioOfMeans(a, b, sizeReduced1))
	out = append(out,
		plain(QSize, func(c *cell) float64 { return c.size }),
		plain(QSize1, func(c *cell) float64 { return c.size1 }),
		red, red1, rom, rom1,
		turned(red, QExpansion), turned(red1, QExpansion1),
		turned(rom, QExpansionOfM), turned(rom1, QExpansionOfM1),
		plain(QProb, func(c *cell) float64 { return c.prob }),
		plain(QMargin, func(c *cell) float64 { return c.margin }),
		plain(QInside, func(c *cell) float64 { return c.inside }),
		plain(QKept, func(c *cell) float64 { return c.kept }),
		plain(QEmpty, func(c *cell) float64 { return c.empty }),
		plain(QCoverage, func(c *cell) float64 { return c.coverage }),
		plain(QAccuracy, func(c *cell) float64 { return c.accuracy }),
		plain(QTestSize, func(c *cell) float64 { return c.testSize }),
		plain(QAgreement, func(c *cell) float64 { return c.agree }),
	)
	for _, q := range []struct {
		key string
		of  func(*divided) float64
	}{
		{QMembers, func(d *divided) float64 { return d.coverage }}, {QMembersA, func(d *divided) float64 { return d.accuracy }},
		{QRest, func(d *divided) float64 { return d.restCoverage }}, {QRestA, func(d *divided) float64 { return d.restAccuracy }},
	} {
		if p := plain(q.key, inGroup(q.of)); p.N > 0 {
			out = append(out, p)
		}
	}
	return out
}

// test turns a paired estimate into z and p.
func test(q string, a, b Condition, e Estimate) Paired {
	p := Paired{Quantity: q, A: a, B: b, Mean: e.Mean, SE: e.SE, N: e.N,
		Z: Number(math.NaN()), P: Number(math.NaN())}
	if e.N < 2 || !e.Mean.Finite() || !e.SE.Finite() {
		return p
	}
	m, se := e.Mean.Float(), e.SE.Float()
	switch {
	case m == 0:
		p.Z, p.P = 0, 1
	case se == 0: // all repeats agree; the t-test has no scale, the sign test has
		p.Z, p.P = Number(math.Copysign(math.Inf(1), m)), Number(math.Exp2(float64(1-e.N)))
	default:
		z := m / se
		t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(e.N - 1)}
		p.Z, p.P = Number(z), Number(2*t.CDF(-math.Abs(z)))
	}
	return p
}

func crafting(repeats []Repeat) Crafting {
	var phi, att, run, diff []float64
	for i := range repeats {
		p := &repeats[i].Poisons
		phi = append(phi, p.Phi.Float())
		att = append(att, p.StepAttack.Float())
		run = append(run, p.StepRandUn.Float())
		diff = append(diff, (p.StepAttack - p.StepRandUn).Float())
	}
	return Crafting{
		Phi: estimate(phi), StepAttack: estimate(att), StepRandUn: estimate(run),
		StepPaired: test("step", Attack, RandUn, estimate(diff)),
	}
}
