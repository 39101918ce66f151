package kernel

import (
	"fmt"
	"slices"

	"github.com/gocp/gocp/gocp/device"
)

// ScoreKind is a nonconformity score over softmax probabilities.
type ScoreKind int

// The scores; kernels/scores.cu has their formulas.
const (
	HPS  ScoreKind = iota // 1 − p_y
	APS                   // the mass before y, and u·p_y
	RAPS                  // APS + λ·max(0, rank(y) − k_reg)
)

var scoreNames = [...]string{HPS: "hps", APS: "aps", RAPS: "raps"}

func (k ScoreKind) String() string {
	if k < 0 || int(k) >= len(scoreNames) {
		return fmt.Sprintf("ScoreKind(%d)", int(k))
	}
	return scoreNames[k]
}

// ScoreNames are the names of the scores, in the order of their kinds.
func ScoreNames() []string { return slices.Clone(scoreNames[:]) }

// ScoreKindOf returns the kind of a name, and whether there is one.
func ScoreKindOf(name string) (ScoreKind, bool) {
	i := slices.Index(scoreNames[:], name)
	return ScoreKind(i), i >= 0
}

// Score is a score in full. In losses U is absent and U0 = ½; without randomisation U0 = 1.
type Score struct {
	Kind   ScoreKind
	Lambda float64    // RAPS
	KReg   int        // RAPS
	U      device.Ptr // float32, one for each row of p; absent: U0
	U0     float64
}

func (f Score) check(s *device.Stream, name string) bool {
	if f.Kind < HPS || f.Kind > RAPS {
		fail(s, name, "unknown score %v", f.Kind)
		return false
	}
	return true
}

func (f Score) args() []device.Arg {
	return []device.Arg{device.I32(int(f.Kind)), device.F32(f.Lambda), device.I32(f.KReg), device.P(f.U), device.F32(f.U0)}
}

// Scores writes out[n,k], the score of every label, from the probabilities p[n,k].
func Scores(s *device.Stream, f Score, n, k int, p, out device.Ptr) {
	const name = "Scores"
	if !check(s, name, n, k) || n*k == 0 || !f.check(s, name) ||
		!checkPresent(s, name, pointer{"p", p}, pointer{"out", out}) {
		return
	}
	args := append([]device.Arg{device.I64(n), device.I32(k)}, f.args()...)
	s.Launch("scores_all", blocks(n, scoreRows(k*k)), threads, append(args, device.P(p), device.P(out))...)
}

// scoreRows keeps a block of scores at some ten thousand comparisons.
func scoreRows(comparisons int) int { return max(1, 16384/max(comparisons, 1)) }

// ScorePairs are m (row, label) pairs of probabilities P[N,K]: int32 Rows[m] and Labels[m]. Rows
// may be absent; pair q is then row q.
type ScorePairs struct {
	M, N, K      int
	P            device.Ptr
	Rows, Labels device.Ptr
}

func (q ScorePairs) check(s *device.Stream, name string, f Score, pointers ...pointer) bool {
	if !check(s, name, q.M, q.N, q.K) || !f.check(s, name) {
		return false
	}
	if q.Rows == 0 && q.M > q.N {
		fail(s, name, "%d pairs without rows for %d rows", q.M, q.N)
		return false
	}
	if q.M > 0 && !checkPresent(s, name, pointer{"labels", q.Labels}) {
		return false
	}
	if q.N*q.K > 0 && !checkPresent(s, name, pointer{"p", q.P}) {
		return false
	}
	return checkPresent(s, name, pointers...)
}

// PairScores writes the scores of the pairs to out[m]; a pair outside P scores NaN.
func PairScores(s *device.Stream, f Score, q ScorePairs, out device.Ptr) {
	const name = "PairScores"
	if q.M == 0 || !q.check(s, name, f, pointer{"out", out}) {
		return
	}
	args := append([]device.Arg{device.I64(q.M), device.I64(q.N), device.I32(q.K)}, f.args()...)
	s.Launch("scores_pairs", blocks(q.M, scoreRows(q.K)), threads,
		append(args, device.P(q.P), device.P(q.Rows), device.P(q.Labels), device.P(out))...)
}

// PairScoresBackward writes dz[n,k], the gradient to the logits behind P = softmax(z) of a loss
// whose gradient to the pairs' scores is ds[m], with ranks held fixed. Rows without a pair get
// zeros.
func PairScoresBackward(s *device.Stream, f Score, q ScorePairs, ds, dz device.Ptr) {
	const name = "PairScoresBackward"
	if q.N*q.K == 0 || !q.check(s, name, f, pointer{"dz", dz}) ||
		q.M > 0 && !checkPresent(s, name, pointer{"ds", ds}) {
		return
	}
	s.Launch("scores_pairs_backward", blocks(q.N, scoreRows(q.K)), threads,
		device.I64(q.M), device.I64(q.N), device.I32(q.K), device.I32(int(f.Kind)), device.P(f.U), device.F32(f.U0),
		device.P(q.P), device.P(q.Rows), device.P(q.Labels), device.P(ds), device.P(dz))
}
