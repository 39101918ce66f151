package conformal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
)

// Votes is a table of votes: entry (i, y) counts the models, of a total that is the same for all
// rows, that predict label y for sample i. Each model is trained on one part of the training data,
// and the parts are disjoint, so a poisoned sample reaches one model only.
type Votes struct {
	N, K   int
	Models int
	counts []int
}

// NewVotes takes N·K counts whose rows all have the same sum.
func NewVotes(n, k int, counts []int) (*Votes, error) {
	if n < 0 || k < 1 || len(counts) != n*k {
		return nil, fmt.Errorf("votes: %d values are not %d rows of %d labels", len(counts), n, k)
	}
	v := &Votes{N: n, K: k, counts: counts}
	for i := range n {
		sum := 0
		for y, c := range v.Row(i) {
			if c < 0 {
				return nil, fmt.Errorf("votes: row %d has %d votes for label %d", i, c, y)
			}
			sum += c
		}
		if i == 0 {
			v.Models = sum
		}
		if sum != v.Models || sum == 0 {
			return nil, fmt.Errorf("votes: row %d has %d votes, the first row %d", i, sum, v.Models)
		}
	}
	return v, nil
}

// Row returns the votes of sample i; do not change them.
func (v *Votes) Row(i int) []int { return v.counts[i*v.K : (i+1)*v.K : (i+1)*v.K] }

// Part is the part, of k, that a sample belongs to: by a hash of its bytes alone, so that adding,
// removing or changing other samples never moves it.
func Part(sample []byte, k int) int {
	h := sha256.Sum256(sample)
	return int(binary.LittleEndian.Uint64(h[:]) % uint64(max(1, k)))
}

// VoteScore is the smoothed score of RPS, in the package's direction (small conforms):
//
//	S(x, y) = 1 − exp(π_y)/Σ_j exp(π_j),   π_y the share of the votes for y
func VoteScore(dst []float64, votes []int, models int) {
	sum := 0.0
	for y, c := range votes {
		dst[y] = math.Exp(float64(c) / float64(models))
		sum += dst[y]
	}
	for y := range dst {
		dst[y] = 1 - dst[y]/sum
	}
}

// VoteBounds returns the least and the largest score of label y when an adversary rules over the
// votes of b models. Both are reached: for the least, votes are taken one by one from the strongest
// other label and given to y; for the largest, all go to the strongest other label, from y first or
// from the weakest others, whichever is worse, since Σ exp is convex.
func VoteBounds(votes []int, models, y, b int) (low, high float64) {
	k := len(votes)
	b = max(0, min(b, models))
	score := func(v []int) float64 {
		sum := 0.0
		own := math.Exp(float64(v[y]) / float64(models))
		for _, c := range v {
			sum += math.Exp(float64(c) / float64(models))
		}
		return 1 - own/sum
	}
	down := slices.Clone(votes)
	for range b {
		from := -1
		for j, c := range down {
			if j != y && c > 0 && (from < 0 || c > down[from]) {
				from = j
			}
		}
		if from < 0 {
			break
		}
		down[from]--
		down[y]++
	}
	low = score(down)
	if k == 1 {
		return low, low
	}
	to := -1
	for j, c := range votes {
		if j != y && (to < 0 || c > votes[to]) {
			to = j
		}
	}
	others := make([]int, 0, k)
	for j := range votes {
		if j != y && j != to {
			others = append(others, j)
		}
	}
	slices.SortFunc(others, func(a, b int) int { return votes[a] - votes[b] })
	high = math.Inf(-1)
	for own := 0; own <= min(b, votes[y]); own++ {
		up := slices.Clone(votes)
		up[y] -= own
		up[to] += own
		left := b - own
		for _, j := range others {
			take := min(left, up[j])
			up[j] -= take
			up[to] += take
			left -= take
		}
		high = max(high, score(up))
	}
	return low, high
}

// VoteRule says when calibration parts have voted a label in.
type VoteRule string

const (
	// VoteBinomial is the published rule: each part calibrates at ε, and a label needs more than
	// NeededVotes. The parts share the test sample, so they do not cover it independently, and where
	// their thresholds spread the coverage falls somewhat below 1−ε.
	VoteBinomial VoteRule = "binomial"
	// VoteMajority needs more than half of the k parts, m = ⌊k/2⌋, each calibrated at ε(k−m)/k.
	// The true label is out only if k−m parts miss it, which by Markov's inequality has probability
	// at most ε, however the parts depend on each other.
	VoteMajority VoteRule = "majority"
)

// RPS makes prediction sets that are certified against poisoned data (Scholten, Günnemann, ICLR
// 2025): scores are votes of models trained on disjoint parts of the training data, and sets are
// voted on by disjoint parts of the calibration data. A label enters when more than Needed of the
// k_c calibration parts have it in their own set.
type RPS struct {
	level  Level // of one part
	k      int
	parts  int
	needed int
	models int
	votes  [][]int // calibration rows of each part, flattened
	labels [][]int
	taus   []float64
}

// NewRPS calibrates on votes, labels and the calibration part of each sample (see Part), counted
// from 0; parts may be empty, and then vote for every label. An empty rule is VoteBinomial.
func NewRPS(v *Votes, labels, part []int, parts int, level Level, rule VoteRule) (*RPS, error) {
	if err := checkLabels(labels, v.N, v.K); err != nil {
		return nil, fmt.Errorf("rps: %w", err)
	}
	if parts < 1 || len(part) != v.N {
		return nil, fmt.Errorf("rps: %d calibration parts, and the parts of %d samples for %d rows", parts, len(part), v.N)
	}
	if level.eps == nil {
		return nil, errors.New("the miscoverage is not set")
	}
	r := &RPS{level: level, k: v.K, parts: parts, models: v.Models, votes: make([][]int, parts), labels: make([][]int, parts)}
	switch rule {
	case "", VoteBinomial:
		r.needed = NeededVotes(parts, level)
	case VoteMajority:
		r.needed = parts / 2
		r.level = level.times(int64(parts-r.needed), int64(parts))
	default:
		return nil, fmt.Errorf("rps: unknown rule %q: known are binomial, majority", clip(string(rule)))
	}
	for i, p := range part {
		if p < 0 || p >= parts {
			return nil, fmt.Errorf("rps: part of row %d is %d: it must lie in [0, %d)", i, p, parts)
		}
		r.votes[p] = append(r.votes[p], v.Row(i)...)
		r.labels[p] = append(r.labels[p], labels[i])
	}
	for p := range parts {
		low, _, err := r.thresholds(p, 0)
		if err != nil {
			return nil, err
		}
		r.taus = append(r.taus, low)
	}
	return r, nil
}

// NeededVotes is τ̂ = max{ m : P(Bin(k, 1−ε) ≤ m) ≤ ε } (−1 if there is none): a label needs more
// votes than that. If the k parts' sets covered independently, each with probability 1−ε, the true
// label would have no more than τ̂ with probability at most ε. The tail is summed in integers.
func NeededVotes(k int, level Level) int {
	if level.eps == nil || k < 1 {
		return -1
	}
	// Multiplied by den^k all terms are integers: C(k, m) (den−num)^m num^(k−m).
	num, den := level.eps.Num(), level.eps.Denom()
	hit := new(big.Int).Sub(den, num)
	limit := new(big.Int).Exp(den, big.NewInt(int64(k-1)), nil)
	limit.Mul(limit, num) // ε·den^k
	sum := new(big.Int)
	for m := range k + 1 {
		term := new(big.Int).Binomial(int64(k), int64(m))
		term.Mul(term, new(big.Int).Exp(hit, big.NewInt(int64(m)), nil))
		term.Mul(term, new(big.Int).Exp(num, big.NewInt(int64(k-m)), nil))
		if sum.Add(sum, term).Cmp(limit) > 0 {
			return m - 1
		}
	}
	return k
}

// Needed is the number of votes that a label must exceed.
func (r *RPS) Needed() int { return r.needed }

// Level is the miscoverage of one calibration part.
func (r *RPS) Level() Level { return r.level }

// thresholds returns the range of τ of one calibration part when b training parts are poisoned.
func (r *RPS) thresholds(part, b int) (low, high float64, err error) {
	lows, highs := make([]float64, len(r.labels[part])), make([]float64, len(r.labels[part]))
	for i, y := range r.labels[part] {
		lows[i], highs[i] = VoteBounds(r.votes[part][i*r.k:(i+1)*r.k], r.models, y, b)
	}
	l, err := Calibrate(lows, r.level)
	if err != nil {
		return 0, 0, err
	}
	h, err := Calibrate(highs, r.level)
	if err != nil {
		return 0, 0, err
	}
	return l.Tau, h.Tau, nil
}

// RPSResult is what RPS says of test samples.
type RPSResult struct {
	Sets *Sets
	// Certain holds the labels that are in the set for every attack within the radii, Possible those
	// that are in it for some (or that the bounds cannot exclude): Certain ⊆ any poisoned set ⊆
	// Possible.
	Certain, Possible *Sets
	// Thresholds of the calibration parts without attack.
	Thresholds []float64
}

// CoverageReliable tells whether no attack within the radii takes a label out of set i.
func (r *RPSResult) CoverageReliable(i int) bool {
	return slices.Equal(r.Sets.Bits(i), r.Certain.Bits(i))
}

// SizeReliable tells whether no attack within the radii puts a label into set i.
func (r *RPSResult) SizeReliable(i int) bool {
	return slices.Equal(r.Sets.Bits(i), r.Possible.Bits(i))
}

// Predict returns sets with certificates against an adversary that rules over training models and
// calibration parts, as many as given. Inserting, deleting or relabelling one sample reaches one of
// each; changing its image moves it from a part to another and reaches two.
func (r *RPS) Predict(v *Votes, training, calibration int) (*RPSResult, error) {
	if v.K != r.k || v.N > 0 && v.Models != r.models {
		return nil, fmt.Errorf("rps: votes of %d models on %d labels; calibration had %d models and %d labels", v.Models, v.K, r.models, r.k)
	}
	if training < 0 || calibration < 0 {
		return nil, fmt.Errorf("rps: radii %d and %d: both must be at least 0", training, calibration)
	}
	lows, highs := make([]float64, r.parts), make([]float64, r.parts)
	for p := range r.parts {
		var err error
		if lows[p], highs[p], err = r.thresholds(p, training); err != nil {
			return nil, err
		}
	}
	out := &RPSResult{Sets: NewSets(v.N, v.K), Certain: NewSets(v.N, v.K), Possible: NewSets(v.N, v.K), Thresholds: slices.Clone(r.taus)}
	count := func(score float64, taus []float64) int {
		m := 0
		for _, t := range taus {
			if score <= t {
				m++
			}
		}
		return m
	}
	for i := range v.N {
		for y := range v.K {
			// The score without attack is its bound at radius 0: one formula, one rounding.
			score, _ := VoteBounds(v.Row(i), v.Models, y, 0)
			low, high := VoteBounds(v.Row(i), v.Models, y, training)
			if count(score, r.taus) > r.needed {
				out.Sets.Add(i, y)
			}
			if count(high, lows)-calibration > r.needed {
				out.Certain.Add(i, y)
			}
			if count(low, highs)+calibration > r.needed {
				out.Possible.Add(i, y)
			}
		}
	}
	return out, nil
}
