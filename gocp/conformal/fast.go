package conformal

import (
	"fmt"
	"math"
	mathbits "math/bits"
	"slices"
)

// The fast way through float32 logits takes HPS from a single-precision Σ exp, and the sums of APS
// and RAPS in any order, each with a bound on the error. A row whose set the bound leaves open, and
// calibration scores within it of a threshold, are computed by the definition: thresholds and sets
// have the same bits either way.

// expError32 bounds the relative error of sum32 for k labels: the polynomial (4.1e-7) and its
// rounding, that of z − top (2⁻²⁴ times Σ p_j |z_j − top| ≤ ln k + 1), and k/16 additions in a lane.
func expError32(k int) float64 {
	return 2e-6 + 0x1p-24*(2+math.Log(float64(k))) + 0x1p-24*float64(k)/16
}

// sumError64 bounds the absolute error of a sum of up to k probabilities in two orders.
func sumError64(k int) float64 { return 0x1p-52 * float64(k+16) }

// narrow returns how to read a table in the fast way, nil if there is none.
func (s *Scorer) narrow(t Table) func(buf []float32, first int) ([]float32, error) {
	n, ok := t.(Narrow)
	if !ok || !vector {
		return nil
	}
	switch score := s.score.(type) {
	case HPS, APS:
	case RAPS:
		if score.Lambda < 0 {
			return nil
		}
	default:
		return nil
	}
	return n.Narrow()
}

// fast goes through rows of float32 logits.
type fast struct {
	s      *Scorer
	worker *worker
	k      int
	hps    bool
	raps   RAPS
	p      []float64 // exp(z − top), then −1 up to a multiple of 32; or probabilities
	low    float64   // where the last row's search ended
	bits   []uint64
	hash   rowHash // nil where no u is drawn
	u      []float64
}

func (s *Scorer) fast(k int) *fast {
	f := &fast{s: s, worker: s.worker(k), k: k, p: make([]float64, (k+31)&^31), low: 1e-3}
	for i := k; i < len(f.p); i++ {
		f.p[i] = -1
	}
	switch score := s.score.(type) {
	case HPS:
		f.hps = true
	case RAPS:
		f.raps = score
	}
	if s.variant.Randomized() && !f.hps {
		f.hash = newRowHash(k)
	}
	return f
}

// top is the largest logit. An error names one that is NaN or +∞; masked tells of −∞, with which bounds
// say nothing, so that such rows are computed by the definition.
func (f *fast) top(z []float32) (top float32, masked bool, err error) {
	top, odd := top32(&z[0], f.k)
	if odd != 0 {
		return top, true, SoftmaxRow(f.p[:f.k], z)
	}
	return top, false, nil
}

// sum is Σ exp(z − top) within expError32.
func (f *fast) sum(z []float32, top float32) float64 {
	var lanes [16]float32
	sum32(&z[0], f.k, top, &lanes)
	sum := 0.0
	for _, v := range lanes {
		sum += float64(v)
	}
	return sum
}

// penalty is what RAPS adds at a rank.
func (f *fast) penalty(rank int) float64 {
	return f.raps.Lambda * float64(max(0, rank-f.raps.KReg))
}

// draws are the u of a row of probabilities, nil for a score that uses none.
func (f *fast) draws(seed uint64, p []float64) []float64 {
	if f.hash == nil {
		return nil
	}
	f.u = f.s.variant.draws(f.u[:0], seed, f.hash.of(p, 1), f.k)
	return f.u
}

// draw is the u of a label of the row whose exponentials are in f.p and sum up to sum.
func (f *fast) draw(seed uint64, sum float64, y int) float64 {
	if f.hash == nil {
		return 1
	}
	return f.s.variant.draw(seed, f.hash.of(f.p[:f.k], 1/sum), y)
}

// labelled is the score of one label within f.error().
func (f *fast) labelled(z []float32, seed uint64, y int) (float64, error) {
	top, masked, err := f.top(z)
	if err != nil {
		return 0, err
	}
	if masked {
		p := f.p[:f.k]
		return f.worker.labelled(p, f.draws(seed, p), y)
	}
	if f.hps {
		return 1 - math.Exp(float64(z[y])-float64(top))/f.sum(z, top), nil
	}
	sum := expSum(f.p[:f.k], z, float64(top))
	own := f.p[y]
	before, count := above64(&f.p[0], len(f.p), own*(1+tieRange))
	if _, all := above64(&f.p[0], len(f.p), own*(1-tieRange)); all > count+1 || own < leastUntied {
		p := f.p[:f.k]
		if err := SoftmaxRow(p, z); err != nil {
			return 0, err
		}
		return f.worker.labelled(p, f.draws(seed, p), y)
	}
	u := f.draw(seed, sum, y)
	return (before+u*own)/sum + f.penalty(int(count)+1), nil
}

// Probabilities p = e/Σe tie, and go by index, when their exponentials e are within a rounding of each
// other, or when they are so small that p has fewer digits. tieRange is more than two roundings.
const (
	tieRange    = 0x1p-50
	leastUntied = 1e-290
)

// error bounds that of labelled, for a score of about the given size.
func (f *fast) error(score float64) float64 {
	if f.hps {
		return expError32(f.k)
	}
	return sumError64(f.k) + 0x1p-50*math.Abs(score)
}

// exact puts the set of a row in by the definition.
func (f *fast) exact(sets *Sets, i int, z []float32, seed uint64, tau float64) error {
	clear(sets.Bits(i))
	p := f.p[:f.k]
	if err := SoftmaxRow(p, z); err != nil {
		return err
	}
	return f.worker.add(sets, i, p, f.draws(seed, p), limits{tau: tau})
}

// add puts the labels y with S(x, y) ≤ τ into set i.
func (f *fast) add(sets *Sets, i int, z []float32, seed uint64, tau float64) error {
	top, masked, err := f.top(z)
	if err != nil {
		return err
	}
	if tau == math.Inf(1) {
		for y := range f.k {
			sets.Add(i, y)
		}
		return nil
	}
	settled := false
	switch {
	case masked:
	case f.hps:
		settled = f.addHPS(sets.Bits(i), z, top, tau)
	case f.s.variant.U != DrawLabel:
		settled = f.addAPS(sets.Bits(i), z, top, seed, tau)
	}
	if settled && (!f.s.variant.Nonempty || sets.Size(i) > 0) {
		return nil
	}
	return f.exact(sets, i, z, seed, tau)
}

// addHPS uses 1 − p_y ≤ τ ⇔ z_y ≥ top + ln(Σ exp(z − top)·(1 − τ)), and reports false when a logit is
// too near to that.
func (f *fast) addHPS(bits []uint64, z []float32, top float32, tau float64) bool {
	if 1-tau < 1e-9 { // where 1 − p_y rounds
		return false
	}
	cut := float64(top) + math.Log(f.sum(z, top)*(1-tau))
	gap := 2*expError32(f.k) + 1e-15/(1-tau) + 0x1p-22*math.Abs(cut)
	return between32(&z[0], f.k, float32(cut-gap), float32(cut+gap), &bits[0]) == 0
}

// addAPS finds the prefix of the order that is inside: with one u for all labels, scores grow along
// it. Labels are split by their probability until a few are left between those inside and those
// outside. It reports false when a score is too near to τ, or labels tie where it matters.
func (f *fast) addAPS(bits []uint64, z []float32, top float32, seed uint64, tau float64) bool {
	sum := expSum(f.p[:f.k], z, float64(top))
	doubt := sumError64(f.k) + 0x1p-49*math.Abs(tau)
	// Labels with e ≥ high are inside, of mass inMass and number inCount; those with e < low are
	// outside; count of them have e ≥ low.
	high, inMass, inCount := math.Inf(1), 0.0, 0.0
	low, count := 0.0, float64(f.k)
	mid := f.low
	for steps := 0; count-inCount > 8; steps++ {
		if steps == 80 || mid <= low || mid >= high {
			return false
		}
		mass, c := above64(&f.p[0], len(f.p), mid)
		switch s := mass / sum; {
		case s+f.penalty(int(c)) <= tau-doubt: // even with u = 1
			high, inMass, inCount = mid, mass, c
		case s+f.penalty(int(c)+1) > tau+doubt: // the next label, even with u = 0
			low, count = mid, c
		default:
			return false
		}
		switch {
		case low == 0:
			mid = high / 8
		case math.IsInf(high, 1):
			if mid = low * 8; mid > 1 {
				mid = math.Nextafter(1, 2) // above the top label
			}
		default:
			mid = math.Sqrt(low * high)
		}
	}
	if low > 0 && high <= 1 {
		f.low = math.Sqrt(low * high)
	}
	bits64(&f.p[0], len(f.p), min(high, 2), &bits[0])
	// The few that are left, in order.
	var left [8]int
	n := 0
	if count > inCount {
		n = f.between(&left, low, high)
	}
	slices.SortStableFunc(left[:n], func(a, b int) int {
		switch {
		case f.p[a] > f.p[b]:
			return -1
		case f.p[a] < f.p[b]:
			return 1
		}
		return 0
	})
	u := f.draw(seed, sum, 0)
	in := 0
	for ; in < n; in++ {
		y := left[in]
		score := (inMass+u*f.p[y])/sum + f.penalty(int(inCount)+in+1)
		if score > tau+doubt {
			break
		}
		if score > tau-doubt {
			return false
		}
		bits[y/64] |= 1 << (y % 64)
		inMass += f.p[y]
	}
	// A label inside must not tie with one outside.
	tied := func(e, want float64) bool {
		_, c := above64(&f.p[0], len(f.p), e)
		return c != want
	}
	switch {
	case n == 0:
		return low == 0 || low > leastUntied && high > low*(1+tieRange)
	case in == 0:
		first := f.p[left[0]]
		return first > leastUntied && !tied(first*(1+tieRange), inCount)
	case in == n:
		last := f.p[left[n-1]]
		return low == 0 || last > leastUntied && !tied(last*(1-tieRange), inCount+float64(n))
	}
	last := f.p[left[in-1]]
	return last > leastUntied && f.p[left[in]] < last*(1-tieRange)
}

// between lists the labels with low ≤ e < high, of which there are at most eight, in ascending order.
func (f *fast) between(left *[8]int, low, high float64) int {
	if f.bits == nil {
		f.bits = make([]uint64, 2*((f.k+63)/64))
	}
	w := len(f.bits) / 2
	bits64(&f.p[0], len(f.p), low, &f.bits[0])
	bits64(&f.p[0], len(f.p), min(high, 2), &f.bits[w])
	n := 0
	for i := range w {
		for b := f.bits[i] &^ f.bits[w+i]; b != 0 && n < len(left); b &= b - 1 {
			left[n] = 64*i + mathbits.TrailingZeros64(b)
			n++
		}
	}
	return n
}

func (s *Scorer) predictFast(t Table, read func([]float32, int) ([]float32, error), th *Thresholds, groups []int, o Stream, emit func(int, *Sets) error) error {
	_, k := t.Dims()
	of := th.limits()
	return pipeline(t, o, read, func() func(int, []float32) (*Sets, error) {
		f := s.fast(k)
		return func(first int, rows []float32) (*Sets, error) {
			sets := NewSets(len(rows)/k, k)
			for i := range sets.N {
				g := 0
				if th.Conditioning.By == ByGroup {
					g = groups[first+i]
				}
				if err := f.add(sets, i, rows[i*k:(i+1)*k], o.Seed, of(g).tau); err != nil {
					return nil, fmt.Errorf("logits of %w", &RowError{first + i, err})
				}
			}
			return sets, nil
		}
	}, func(first int, _ []float32, sets *Sets) error { return emit(first, sets) })
}

func (s *Scorer) calibrateFast(t Table, read func([]float32, int) ([]float32, error), labels, groups []int, level Level, c Conditioning, o Stream) (*Thresholds, error) {
	n, k := t.Dims()
	scores := make([]float64, n)
	err := pipeline(t, o, read, func() func(int, []float32) (struct{}, error) {
		f := s.fast(k)
		return func(first int, rows []float32) (struct{}, error) {
			for i := range len(rows) / k {
				y := labels[first+i]
				var err error
				if scores[first+i], err = f.labelled(rows[i*k:(i+1)*k], o.Seed, y); err != nil {
					return struct{}{}, fmt.Errorf("logits of %w", &RowError{first + i, err})
				}
			}
			return struct{}{}, nil
		}
	}, func(int, []float32, struct{}) error { return nil })
	if err != nil {
		return nil, err
	}
	ctx := o.context()
	th, err := calibrateCells(ctx, n, labels, groups, k, level, c, func(parts [][]uint32) ([]Threshold, error) {
		out, near, f := make([]Threshold, len(parts)), newBitmap(n), s.fast(k)
		for j, rows := range parts {
			var err error
			if out[j], err = level.threshold(n, rows); err != nil {
				return nil, err
			}
			if out[j].TooFew() {
				continue
			}
			// The true order statistic is within one error of this one; scores farther than two keep
			// their side of it.
			about, err := orderStatistic(ctx, scores, rows, out[j].Rank-1)
			if err != nil {
				return nil, err
			}
			gap, i := 2*f.error(about)*(1+0x1p-20), 0
			err = eachPart(ctx, scores, rows, func(part []float64) {
				for _, v := range part {
					if math.Abs(v-about) <= gap {
						if rows == nil {
							near.add(i)
						} else {
							near.add(int(rows[i]))
						}
					}
					i++
				}
			})
			if err != nil {
				return nil, err
			}
		}
		if err := s.exactly(t, read, labels, scores, near, o); err != nil {
			return nil, fmt.Errorf("calibration score: %w", err)
		}
		for j, rows := range parts {
			if out[j].TooFew() {
				continue
			}
			var err error
			if out[j].Tau, err = orderStatistic(ctx, scores, rows, out[j].Rank-1); err != nil {
				return nil, err
			}
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	return th, th.countTies(ctx, scores)
}

// fewExact is how many scores are not worth several goroutines.
const fewExact = 256

// byDefinition is the score of one label; p is room for the row.
func (f *fast) byDefinition(p []float64, z []float32, seed uint64, y int) (float64, error) {
	if err := SoftmaxRow(p, z); err != nil {
		return 0, err
	}
	return f.worker.labelled(p, f.draws(seed, p), y)
}

// exactly computes the scores of the rows in near by the definition.
func (s *Scorer) exactly(t Table, read func([]float32, int) ([]float32, error), labels []int, scores []float64, near bitmap, o Stream) error {
	n, k := t.Dims()
	o.Done = nil
	if near.count() <= fewExact {
		f, p, buf := s.fast(k), make([]float64, k), make([]float32, k)
		for i := range n {
			if !near.has(i) {
				continue
			}
			z, err := read(buf, i)
			if err == nil {
				scores[i], err = f.byDefinition(p, z, o.Seed, labels[i])
			}
			if err != nil {
				return &RowError{i, err}
			}
		}
		return nil
	}
	// Of a block only the rows are read that are needed, unless they are many.
	some := func(buf []float32, first int) ([]float32, error) {
		rows, wanted := len(buf)/k, 0
		for i := range rows {
			if near.has(first + i) {
				wanted++
			}
		}
		if wanted > rows/16 {
			return read(buf, first)
		}
		for i := 0; wanted > 0; i++ {
			if !near.has(first + i) {
				continue
			}
			wanted--
			row, err := read(buf[i*k:(i+1)*k], first+i)
			if err != nil {
				return nil, err
			}
			copy(buf[i*k:(i+1)*k], row) // which may be memory of the table's own
		}
		return buf, nil
	}
	return pipeline(t, o, some, func() func(int, []float32) (struct{}, error) {
		f, p := s.fast(k), make([]float64, k)
		return func(first int, rows []float32) (struct{}, error) {
			for i := range len(rows) / k {
				if !near.has(first + i) {
					continue
				}
				var err error
				if scores[first+i], err = f.byDefinition(p, rows[i*k:(i+1)*k], o.Seed, labels[first+i]); err != nil {
					return struct{}{}, &RowError{first + i, err}
				}
			}
			return struct{}{}, nil
		}
	}, func(int, []float32, struct{}) error { return nil })
}
