package conformalio

import (
	"maps"
	"math"
	"slices"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/usage"
)

// EvaluateJob holds the sets of labelled rows against their labels.
type EvaluateJob struct {
	Run
	Calibration *Calibration
	Input       Input
	Labels      string
	Groups      string // for a threshold by group, and for coverage by group in any case
	Features    string // for the worst slice; optional
}

// Evaluation is what labelled rows show of a threshold.
type Evaluation struct {
	Score       conformal.Variant `json:"score"`
	Miscoverage conformal.Level   `json:"miscoverage"`
	Accuracy    float64           `json:"accuracy"`
	conformal.Metrics
	// Expected is the law of the number covered under exchangeability, for a marginal threshold.
	Expected *Expected `json:"expected,omitempty"`
	// SizeQuantiles are those at 0.1, 0.25, 0.5, 0.75, 0.9 and 1.
	SizeQuantiles []int               `json:"size_quantiles"`
	BySize        []conformal.Stratum `json:"by_size"`
	Violation     float64             `json:"sscv"` // of strata with 20 rows at least
	ByDifficulty  []conformal.Stratum `json:"by_difficulty"`
	ByGroup       []conformal.Stratum `json:"by_group,omitempty"`
	WorstSlice    *conformal.Slab     `json:"worst_slice,omitempty"`
	// Notes are those of the threshold and of these rows.
	Notes []string `json:"notes,omitempty"`
}

// Expected is where coverage should lie.
type Expected struct {
	Mean   float64 `json:"mean"`
	Low    float64 `json:"low"` // of the band that holds 95 % of the Beta–binomial law
	High   float64 `json:"high"`
	Inside bool    `json:"inside"`
	// ByTies tells that coverage lies above the band, and would not if the Tied scores that are equal to τ
	// were outside.
	ByTies bool `json:"by_ties,omitempty"`
	Tied   int  `json:"tied,omitempty"`
}

// sizeQuantiles are the shares of Evaluation.SizeQuantiles.
var sizeQuantiles = []float64{0.1, 0.25, 0.5, 0.75, 0.9, 1}

// leastStratum is the number of rows from which a stratum counts in Violation.
const leastStratum = 20

// rankRanges are the strata by difficulty.
var rankRanges = []conformal.Range{{Low: 1, High: 1}, {Low: 2, High: 3}, {Low: 4, High: 6}, {Low: 7, High: 10}, {Low: 11, High: 100}, {Low: 101, High: math.MaxInt}}

// tally counts rows by some whole number.
type tally map[int]*struct{ n, in, size int }

func (t tally) add(key, size int, in bool) {
	c := t[key]
	if c == nil {
		c = new(struct{ n, in, size int })
		t[key] = c
	}
	c.n++
	c.size += size
	if in {
		c.in++
	}
}

func (t tally) strata(ranges []conformal.Range) []conformal.Stratum {
	var out []conformal.Stratum
	for _, r := range ranges {
		n, in, size := 0, 0, 0
		for key, c := range t {
			if r.Low <= key && key <= r.High {
				n, in, size = n+c.n, in+c.in, size+c.size
			}
		}
		if n > 0 {
			out = append(out, conformal.Stratum{Low: r.Low, High: r.High,
				Coverage: conformal.NewProportion(in, n, conformal.Confidence), MeanSize: float64(size) / float64(n)})
		}
	}
	return out
}

// account gathers what an Evaluation tells, row by row.
type account struct {
	k                               int
	bySize, byRank, byClass, byKey  tally
	covered                         []bool
	n, in, total, right, filledSets int
}

func newAccount(k int) *account {
	return &account{k: k, bySize: tally{}, byRank: tally{}, byClass: tally{}, byKey: tally{}}
}

func (a *account) row(size int, in bool, label, rank int) {
	a.n++
	a.total += size
	if in {
		a.in++
	}
	if rank == 1 {
		a.right++
	}
	a.bySize.add(size, size, in)
	a.byRank.add(rank, size, in)
	a.byClass.add(label, size, in)
	a.covered = append(a.covered, in)
}

func (a *account) evaluation(score conformal.Variant, level conformal.Level) *Evaluation {
	e := &Evaluation{Score: score, Miscoverage: level}
	e.N, e.Filled = a.n, a.filledSets
	e.Coverage = conformal.NewProportion(a.in, a.n, conformal.Confidence)
	e.Sizes = make([]int, a.k+1)
	for size, c := range a.bySize {
		e.Sizes[size] = c.n
	}
	e.Empty, e.Singleton = e.Sizes[0], e.Sizes[1]
	if a.n > 0 {
		e.MeanSize = float64(a.total) / float64(a.n)
		e.Accuracy = float64(a.right) / float64(a.n)
	}
	for y := range a.k {
		n, in := 0, 0
		if c := a.byClass[y]; c != nil {
			n, in = c.n, c.in
		}
		e.Classes = append(e.Classes, conformal.NewProportion(in, n, conformal.Confidence))
	}
	for _, q := range sizeQuantiles {
		need, seen, size := max(1, int(math.Ceil(q*float64(a.n)))), 0, 0
		for s, n := range e.Sizes {
			if seen += n; seen >= need {
				size = s
				break
			}
		}
		e.SizeQuantiles = append(e.SizeQuantiles, size)
	}
	e.BySize = a.bySize.strata(conformal.SizeRanges)
	e.Violation = conformal.Violation(e.BySize, level, leastStratum)
	e.ByDifficulty = a.byRank.strata(rankRanges)
	var keys []conformal.Range
	for _, key := range slices.Sorted(maps.Keys(a.byKey)) {
		keys = append(keys, conformal.Range{Low: key, High: key})
	}
	e.ByGroup = a.byKey.strata(keys)
	return e
}

// Evaluate runs the job.
func (j EvaluateJob) Evaluate() (*Evaluation, error) {
	c := j.Calibration
	t, err := c.open(j.Run, j.Input)
	if err != nil {
		return nil, err
	}
	defer t.m.Close()
	labels, err := j.labelsOf(t, j.Labels)
	if err != nil {
		return nil, err
	}
	groups, err := j.groups(j.Groups, t.m.N)
	if err != nil {
		return nil, err
	}
	if groups == nil && c.Thresholds.Conditioning.By == conformal.ByGroup {
		return nil, usage.Errorf("groups are needed, since the threshold is conditioned by group")
	}
	scorer, err := conformal.NewScorer(c.Score)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	type block struct {
		sets  *conformal.Sets
		ranks []int
	}
	a := newAccount(t.m.K)
	o, task := j.stream("sets", t.m.N, c.Seed)
	defer task.Done()
	err = conformal.Each(scorer, t, o, func(b conformal.Block) (block, error) {
		var g []int
		if c.Thresholds.Conditioning.By == conformal.ByGroup {
			g = groups[b.First : b.First+b.P.N]
		}
		sets, err := scorer.PredictCells(b.P, b.U, c.Thresholds, g)
		out := block{sets: sets, ranks: make([]int, b.P.N)}
		for i := range out.ranks {
			out.ranks[i] = conformal.RankOf(b.P.Row(i), labels[b.First+i])
		}
		return out, err
	}, func(b conformal.Block, r block) error {
		a.filledSets += r.sets.Filled
		for i, rank := range r.ranks {
			y := labels[b.First+i]
			size, in := r.sets.Size(i), r.sets.Has(i, y)
			a.row(size, in, y, rank)
			if groups != nil {
				a.byKey.add(groups[b.First+i], size, in)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.sums.say(j.Progress, matrix.Base(j.Input.File))
	e := a.evaluation(c.Score, c.Miscoverage)
	e.Notes = slices.Concat(c.known(), c.unseenGroups(groups), c.unseenClasses(labels))
	if th := c.Thresholds; th.Conditioning.By == conformal.Marginal && e.N > 0 && c.Method == "" {
		law := conformal.CoverageLaw{N: th.All.N, Rank: th.All.Rank, M: e.N}
		low, high := law.Band(conformal.Confidence)
		e.Expected = &Expected{Mean: law.Mean(), Low: float64(low) / float64(e.N), High: float64(high) / float64(e.N),
			Inside: low <= e.Coverage.K && e.Coverage.K <= high}
		if e.Coverage.K > high {
			scores, err := scorer.LabelledTable(t, labels, conformal.Stream{Context: j.Context, Workers: j.Workers, Seed: c.Seed})
			if err != nil {
				return nil, err
			}
			for _, s := range scores {
				if s == th.All.Tau {
					e.Expected.Tied++
				}
			}
			if e.Expected.ByTies = e.Coverage.K-e.Expected.Tied <= high; e.Expected.ByTies {
				e.Notes = append(e.Notes, tiesNote("coverage lies above the band", float64(th.Ties)/float64(th.All.N), float64(e.Expected.Tied)/float64(e.N), c.Score))
			}
		}
	}
	if j.Features != "" {
		if e.WorstSlice, err = worstSlice(j.Run, j.Features, a.covered, j.Seed); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func worstSlice(run Run, name string, covered []bool, seed uint64) (*conformal.Slab, error) {
	m, err := matrix.Open(name, matrix.Options{Header: run.Header, Rows: len(covered)})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if m.N != len(covered) {
		return nil, usage.Errorf("%s: there are %d rows of features for %d rows", name, m.N, len(covered))
	}
	x, err := m.All()
	if err != nil {
		return nil, err
	}
	slab, err := conformal.WorstSlice(x, m.K, covered, conformal.SliceOptions{Seed: seed})
	if err != nil {
		return nil, usage.Wrap(err)
	}
	return slab, nil
}
