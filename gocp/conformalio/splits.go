package conformalio

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/usage"
)

// SplitsJob calibrates and tests on many random splits of the same labelled rows, which it holds in
// memory.
type SplitsJob struct {
	Run
	Input       Input
	Labels      string
	Scores      []conformal.Variant
	Miscoverage conformal.Level
	Splits      int
	// Share of the rows that calibrates in each split; 0 stands for one half.
	Share float64
	// TuneShare of the rows is set aside once, for scores with Auto; they take part in no split.
	TuneShare float64
	Auto      bool
	// Temperature of logits; 0 for none.
	Temperature float64
}

// SplitsResult is what the splits show of one score.
type SplitsResult struct {
	Score       conformal.Variant `json:"score"`
	Miscoverage conformal.Level   `json:"miscoverage"`
	Splits      int               `json:"splits"`
	Calibration int               `json:"calibration"` // rows that calibrate in a split
	Test        int               `json:"test"`
	Coverage    Spread            `json:"coverage"`
	// Expected is the mean and standard deviation of coverage by the Beta–binomial law, and Outside
	// the share of splits beyond its central 95 %. Ties raise coverage above the law.
	Expected   float64 `json:"expected"`
	ExpectedSD float64 `json:"expected_sd"`
	Outside    float64 `json:"outside"`
	// Above is the share of splits above it, and Ties that of test scores that are equal to τ.
	Above     float64 `json:"above"`
	Ties      float64 `json:"ties"`
	MeanSize  Spread  `json:"mean_size"`
	Empty     Spread  `json:"empty"`     // share of sets
	Singleton Spread  `json:"singleton"` // share of sets
	Violation Spread  `json:"sscv"`
	Tau       Spread  `json:"tau"`

	Notes []string `json:"notes,omitempty"`
}

// Spread is a mean and a standard deviation over splits.
type Spread struct {
	Mean float64 `json:"mean"`
	SD   float64 `json:"sd"`
}

func spread(values []float64) Spread {
	mean, sum := 0.0, 0.0
	for _, v := range values {
		mean += v / float64(len(values))
	}
	for _, v := range values {
		sum += (v - mean) * (v - mean)
	}
	if len(values) < 2 {
		return Spread{Mean: mean}
	}
	return Spread{mean, math.Sqrt(sum / float64(len(values)-1))}
}

// Evaluate runs the splits for every score; all scores see the same splits.
func (j SplitsJob) Evaluate() ([]SplitsResult, error) {
	if j.Splits < 1 {
		return nil, usage.Errorf("the number of splits is %d; it must be at least 1", j.Splits)
	}
	if j.Share == 0 {
		j.Share = 0.5
	}
	if !(j.Share > 0 && j.Share < 1) {
		return nil, usage.Errorf("the calibration share is %g; it must lie between 0 and 1", j.Share)
	}
	if !(j.TuneShare >= 0 && j.TuneShare < 1) || j.Auto && j.TuneShare == 0 {
		return nil, usage.Errorf("the tuning share is %g; it must lie between 0 and 1, and above 0 if something is tuned", j.TuneShare)
	}
	if j.Input.Form == FormProbabilities && j.Temperature != 0 {
		return nil, usage.Errorf("a temperature applies to logits, not to probabilities")
	}
	t, err := j.open(j.Input)
	if err != nil {
		return nil, err
	}
	defer t.m.Close()
	t.temperature = j.Temperature
	labels, err := j.labelsOf(t, j.Labels)
	if err != nil {
		return nil, err
	}
	order := rand.New(rand.NewPCG(j.Seed, 0x7475)).Perm(t.m.N)
	tune, rest := order[:int(j.TuneShare*float64(t.m.N))], order[int(j.TuneShare*float64(t.m.N)):]
	p, err := load(rows{t, rest})
	if err != nil {
		return nil, err
	}
	var tuned *conformal.Probs
	switch {
	case j.Auto && len(tune) == 0:
		return nil, usage.Errorf("a tuning share of %g of %d rows holds none; give a larger one", j.TuneShare, t.m.N)
	case len(tune) > 0:
		if tuned, err = load(rows{t, tune}); err != nil {
			return nil, err
		}
	}
	if n := int(j.Share * float64(p.N)); n < 1 || n >= p.N {
		return nil, usage.Errorf("%d rows leave nothing to calibrate or nothing to test on", p.N)
	}
	task := progress.Or(j.Progress).Phase("splits", len(j.Scores)*j.Splits)
	defer task.Done()
	var out []SplitsResult
	for _, v := range j.Scores {
		if j.Auto && (v.Name == "raps" || v.Name == "saps") {
			f := conformal.TuneRAPS
			if v.Name == "saps" {
				f = conformal.TuneSAPS
			}
			u := v.RowUniforms(j.Seed, tuned)
			if v, _, err = f(v, tuned, pick(labels, tune), u, j.Miscoverage); err != nil {
				return nil, usage.Wrap(err)
			}
		}
		r, err := j.score(v, p, pick(labels, rest), task)
		if err != nil {
			return nil, err
		}
		out = append(out, *r)
	}
	return out, nil
}

func (j SplitsJob) score(v conformal.Variant, p *conformal.Probs, labels []int, task progress.Task) (*SplitsResult, error) {
	s, err := conformal.NewScorer(v)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	scores, err := s.All(p, v.RowUniforms(j.Seed, p))
	if err != nil {
		return nil, err
	}
	own := make([]float64, p.N)
	for i, y := range labels {
		own[i] = scores[i*p.K+y]
		// Sorted rows make a set's size a search; an empty set needs no more than its least score.
		slices.Sort(scores[i*p.K : (i+1)*p.K])
	}
	n := int(j.Share * float64(p.N))
	m := p.N - n
	rank, err := j.Miscoverage.Rank(n)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	law := conformal.CoverageLaw{N: n, Rank: rank, M: m}
	low, high := law.Band(conformal.Confidence)
	type split struct{ coverage, size, empty, single, violation, tau, outside, above, ties, tiedAbove float64 }
	results := make([]split, j.Splits)
	one := func(number int) error {
		order := rand.New(rand.NewPCG(j.Seed, uint64(number))).Perm(p.N)
		cal := make([]float64, n)
		for i, at := range order[:n] {
			cal[i] = own[at]
		}
		th, err := conformal.Calibrate(cal, j.Miscoverage)
		if err != nil {
			return err
		}
		in, total, empty, single, tied := 0, 0, 0, 0, 0
		bySize := tally{}
		for _, at := range order[n:] {
			size, _ := slices.BinarySearchFunc(scores[at*p.K:(at+1)*p.K], th.Tau, func(a, b float64) int {
				if a <= b {
					return -1
				}
				return cmp.Compare(a, b)
			})
			covered := own[at] <= th.Tau
			if own[at] == th.Tau {
				tied++
			}
			if size == 0 && v.Nonempty {
				size, covered = 1, p.Top(at) == labels[at]
			}
			switch size {
			case 0:
				empty++
			case 1:
				single++
			}
			total += size
			if covered {
				in++
			}
			bySize.add(size, size, covered)
		}
		r := split{coverage: float64(in) / float64(m), size: float64(total) / float64(m), empty: float64(empty) / float64(m),
			single: float64(single) / float64(m), tau: th.Tau,
			violation: conformal.Violation(bySize.strata(conformal.SizeRanges), j.Miscoverage, leastStratum)}
		if in < low || in > high {
			r.outside = 1
		}
		if r.ties = float64(tied) / float64(m); in > high {
			r.above = 1
			if in-tied <= high {
				r.tiedAbove = 1
			}
		}
		results[number] = r
		return nil
	}
	if err := j.parallel(j.Splits, one, task); err != nil {
		return nil, err
	}
	over := func(f func(split) float64) Spread {
		values := make([]float64, len(results))
		for i, r := range results {
			values[i] = f(r)
		}
		return spread(values)
	}
	r := &SplitsResult{Score: s.Variant(), Miscoverage: j.Miscoverage, Splits: j.Splits, Calibration: n, Test: m,
		Expected: law.Mean(), ExpectedSD: law.StdDev(), Outside: over(func(r split) float64 { return r.outside }).Mean,
		Coverage: over(func(r split) float64 { return r.coverage }), MeanSize: over(func(r split) float64 { return r.size }),
		Empty: over(func(r split) float64 { return r.empty }), Singleton: over(func(r split) float64 { return r.single }),
		Violation: over(func(r split) float64 { return r.violation }), Tau: over(func(r split) float64 { return r.tau }),
		Above: over(func(r split) float64 { return r.above }).Mean, Ties: over(func(r split) float64 { return r.ties }).Mean}
	if rank > n {
		r.Notes = append(r.Notes, tooFew(n, "calibration samples of a split", j.Miscoverage))
	}
	if byTies := over(func(r split) float64 { return r.tiedAbove }).Mean; byTies > leastByTies {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: in %.3g %% of the splits coverage lies above the band by ties: %.3g %% of the test scores are equal to τ, and all of those are inside; this is no sign against exchangeability; %s", r.Score, 100*byTies, 100*r.Ties, breakTies(r.Score)))
	}
	return r, nil
}

// leastByTies is the share of splits above the band from which ties are spoken of; without ties it is 0.025.
const leastByTies = 0.1

// parallel calls f with 0 … n−1 from several goroutines and returns the first error.
func (r Run) parallel(n int, f func(i int) error, task progress.Task) error {
	ctx := r.context()
	workers := r.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	next := make(chan int)
	var (
		mu   sync.Mutex
		errs []error
		wait sync.WaitGroup
	)
	for range min(workers, n) {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for i := range next {
				err := f(i)
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				}
				task.Add(1)
				mu.Unlock()
			}
		}()
	}
feed:
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
			break feed
		}
	}
	close(next)
	wait.Wait()
	return errors.Join(errors.Join(errs...), ctx.Err())
}
