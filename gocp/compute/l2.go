package compute

import (
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// Forms of ℓ2.
const (
	Pairwise     = "pairwise"
	SoftQuantile = "softquantile"
)

// L2Options choose the form of the adversary's loss (docs/math.md §5).
type L2Options struct {
	Form        string  // pairwise (default), softquantile
	Miscoverage string  // ε as a decimal; "": 0.1
	Margin      float64 // m of the hinges
	Window      int     // pairwise: only the ranks nearest to the threshold's; 0: all
	Bandwidth   float64 // softquantile: in ranks
	KeepBeta    float64 // β of the keep-prediction term
}

func (o L2Options) withDefaults() L2Options {
	if o.Form == "" {
		o.Form = Pairwise
	}
	if o.Miscoverage == "" {
		o.Miscoverage = "0.1"
	}
	return o
}

// targets are the images whose sets the adversary wants to change, with what it wants: pair q is
// label labels[q] of image rows[q], to add (kinds +1) or to remove (−1); keep is a label for
// each image, −1 for none.
type targets struct {
	n                   int
	x                   []float32
	rows, labels, kinds []int32
	keep                []int32
	rank                int
}

func (r Request) targets(samples int) (*targets, error) {
	o := r.L2
	if err := oneOf("form of l2", o.Form, []string{Pairwise, SoftQuantile}); err != nil {
		return nil, err
	}
	if !finite(o.Margin) || !finite(o.KeepBeta) || !finite(o.Bandwidth) || o.Bandwidth < 0 || o.Window < 0 {
		return nil, usage.Errorf("compute: l2 has margin %g, beta %g, bandwidth %g and window %d; all must be finite, the last two not negative",
			o.Margin, o.KeepBeta, o.Bandwidth, o.Window)
	}
	level, err := conformal.ParseLevel(o.Miscoverage)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	rank, err := level.Rank(samples)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	t := &targets{rank: rank}
	if o.Form == SoftQuantile && t.rank > samples {
		return nil, usage.Errorf("compute: the threshold of %d calibration samples at miscoverage %s is infinite, which a soft quantile cannot be; at least %d samples are needed",
			samples, level, level.MinCalibration())
	}
	if t.n, t.x, err = r.images("target.x"); err != nil {
		return nil, err
	}
	for _, w := range []struct {
		name string
		kind int32
	}{{"target.add", 1}, {"target.remove", -1}} {
		if r.In.Get(w.name) == nil {
			continue
		}
		pairs, err := r.integers(w.name, -1, 2)
		if err != nil {
			return nil, err
		}
		for i := 0; i < len(pairs); i += 2 {
			row, label := pairs[i], pairs[i+1]
			if row < 0 || row >= int64(t.n) || label < 0 || label >= int64(r.Model.Classes) {
				return nil, usage.Errorf("tensor %q has the pair (%d, %d) in row %d; targets are 0 to %d and labels 0 to %d",
					w.name, row, label, i/2, t.n-1, r.Model.Classes-1)
			}
			t.rows, t.labels, t.kinds = append(t.rows, int32(row)), append(t.labels, int32(label)), append(t.kinds, w.kind)
		}
	}
	t.keep = make([]int32, t.n)
	for i := range t.keep {
		t.keep[i] = -1
	}
	if r.In.Get("target.keep") != nil {
		keep, err := r.integers("target.keep", t.n)
		if err != nil {
			return nil, err
		}
		for i, v := range keep {
			if v < -1 || v >= int64(r.Model.Classes) {
				return nil, usage.Errorf("tensor \"target.keep\" has the label %d at element %d; it must be -1 (none) to %d", v, i, r.Model.Classes-1)
			}
			t.keep[i] = int32(v)
		}
	}
	return t, nil
}

// probabilities runs images through the network in evaluation mode and returns their logits and
// softmax [n,K] on the device.
func (e *engine) probabilities(images []float32, n int) (z, p device.Ptr) {
	s, m := e.s, e.r.Model
	z, p = s.Alloc(4*n*m.Classes), s.Alloc(4*n*m.Classes)
	for at := 0; at < n; at += e.chunk {
		b := min(e.chunk, n-at)
		logits := e.net.Forward(e.evaluate(images, at, b))
		s.Copy(z.Add(4*at*m.Classes), logits.P, 4*b*m.Classes)
	}
	shape := []int{n, m.Classes}
	kernel.Softmax(s, n, m.Classes, tensor.Tensor{Shape: shape, P: z}, tensor.Tensor{Shape: shape, P: p})
	return z, p
}

func (e *engine) evaluate(images []float32, at, n int) nn.Pass {
	return nn.Pass{Mode: nn.Eval, Theta: e.theta.Primal(), Running: e.running, X: e.load(images, at, n)}
}

// backward adds the parameters' gradient for the gradient dz[n,K] with respect to the logits.
func (e *engine) backward(images []float32, n int, dz device.Ptr, sum []float64) error {
	for at := 0; at < n; at += e.chunk {
		b := min(e.chunk, n-at)
		e.net.Forward(e.evaluate(images, at, b))
		d := tensor.Tensor{Shape: []int{b, e.r.Model.Classes}, P: dz.Add(4 * at * e.r.Model.Classes)}
		e.net.Backward(d, e.grad.Primal(), tensor.Tensor{})
		if err := addFrom(e.s, sum, e.grad.P); err != nil {
			return err
		}
	}
	return nil
}

func upload[T device.Memory](s *device.Stream, v []T) device.Ptr {
	p := s.Alloc(max(4*len(v), 4))
	device.Upload(s, p, v)
	return p
}

// l2 computes the adversary's loss of the targets against the samples as calibration set.
func (e *engine) l2(out *answers) error {
	s, t, n, k, o := e.s, e.in.target, e.in.n, e.r.Model.Classes, e.r.L2
	floats := func(n int) device.Ptr { return s.Alloc(max(4*n, 4)) }
	score := e.score0()
	score.U0 = 0.5

	_, calP := e.probabilities(e.in.x, n)
	cal := kernel.ScorePairs{M: n, N: n, K: k, P: calP, Labels: upload(s, e.in.y)}
	calScores, c := floats(n), kernel.Calibration{N: n, Rank: t.rank, Sorted: floats(n), Order: floats(n)}
	kernel.PairScores(s, score, cal, calScores)
	kernel.SortScores(s, n, calScores, c.Sorted, c.Order)

	z, p := e.probabilities(t.x, t.n)
	m := len(t.rows)
	pairs := kernel.ScorePairs{M: m, N: t.n, K: k, P: p, Rows: upload(s, t.rows), Labels: upload(s, t.labels)}
	q := kernel.Wishes{M: m, Scores: floats(m), Kinds: upload(s, t.kinds)}
	kernel.PairScores(s, score, pairs, q.Scores)

	loss, dscore, dcal := floats(m), floats(m), floats(n)
	if o.Form == Pairwise {
		kernel.PairwiseHinge(s, q, c, o.Margin, o.Window, loss, dscore, dcal)
	} else {
		kernel.SoftQuantileHinge(s, q, c, o.Margin, o.Bandwidth, floats(1), loss, dscore, dcal)
	}
	dz, dzCal := floats(t.n*k), floats(n*k)
	kernel.PairScoresBackward(s, score, pairs, dscore, dz)
	kernel.PairScoresBackward(s, score, cal, dcal, dzCal)
	keep, err := e.keep(z, dz)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		to   *[]float32
		from device.Ptr
		n    int
	}{{&out.l2Terms, loss, m}, {&out.l2DPairs, dscore, m}, {&out.l2DCal, dcal, n}} {
		if err := appendFrom(s, d.to, d.from, d.n); err != nil {
			return err
		}
	}
	out.l2Terms = append(out.l2Terms, keep...)
	if err := e.backward(t.x, t.n, dz, out.l2Grad); err != nil {
		return err
	}
	return e.backward(e.in.x, n, dzCal, out.l2Grad)
}

// keep computes the keep-prediction term of each target and adds its gradient to dz.
func (e *engine) keep(z, dz device.Ptr) ([]float32, error) {
	s, t, row := e.s, e.in.target, 4*e.r.Model.Classes
	var which []int
	var labels []int32
	for i, y := range t.keep {
		if y >= 0 {
			which, labels = append(which, i), append(labels, y)
		}
	}
	terms, n := make([]float32, t.n), len(which)
	if n == 0 {
		return terms, nil
	}
	zk, dzk, loss := s.Alloc(n*row), s.Alloc(n*row), s.Alloc(4*n)
	for j, i := range which {
		s.Copy(zk.Add(j*row), z.Add(i*row), row)
		s.Copy(dzk.Add(j*row), dz.Add(i*row), row)
	}
	kernel.KeepPrediction(s, n, e.r.Model.Classes, e.r.L2.KeepBeta, 1, zk, upload(s, labels), true, loss, dzk)
	for j, i := range which {
		s.Copy(dz.Add(i*row), dzk.Add(j*row), row)
	}
	var values []float32
	if err := appendFrom(s, &values, loss, n); err != nil {
		return nil, err
	}
	for j, i := range which {
		terms[i] = values[j]
	}
	return terms, nil
}

// score0 is the score that was asked for, its draws left open.
func (e *engine) score0() kernel.Score {
	kind, _ := kernel.ScoreKindOf(e.r.Score.Kind) // checked by then
	return kernel.Score{Kind: kind, Lambda: e.r.Score.Lambda, KReg: e.r.Score.KReg}
}
