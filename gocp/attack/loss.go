package attack

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// lossBatch is how many images one pass of the loss takes at most.
const lossBatch = 256

// A loss is ℓ2 and ℓ3 of one surrogate, as functions of its parameters.
type loss struct {
	s       *device.Stream
	cfg     Config
	spec    nn.Spec
	options nn.Options
	net     *nn.Net // while it is open, as are grad, chunk and moved
	running device.Ptr
	form    kernel.Score
	rank    int // r of the threshold
	k, n    int // classes, calibration images
	rows    int // calibration images, then targets

	pixels device.Ptr    // uint8 [rows,H,W,C]
	x      tensor.Tensor // [batch,H,W,C]
	logits tensor.Tensor // [rows,K]
	dz     tensor.Tensor // [rows,K], of ℓ2
	probs  tensor.Tensor

	// Pairs (row, label) whose scores enter: one for each calibration image, then one for each
	// label that an aim names.
	pairs       kernel.ScorePairs
	m           int           // of the latter
	kind        device.Ptr    // int32 [m]: +1 into the set, −1 out of it
	weight      tensor.Tensor // [m]
	scores, ds  tensor.Tensor // [n+m]
	sorted      tensor.Tensor // [n]
	order       device.Ptr    // int32 [n]
	held        bool          // compare with the calibration scores that were sorted last
	pairLoss    tensor.Tensor // [m]
	keeps       []keep
	keepLoss    tensor.Tensor // [targets]
	wished      float64       // Σ pairLoss at the last value
	tau         tensor.Tensor
	adversarial device.Ptr    // int32 [rows]: the labels of a cross entropy, which is then all there is
	grad, chunk tensor.Tensor // [|θ|]
	moved       device.Ptr    // θ* + ζ̂
	work        *kernel.Workspace
	dot         device.Ptr
}

// A keep is a run of targets whose predicted label is to stay.
type keep struct {
	row, n int
	labels device.Ptr
	weight float64
}

// uOf is u inside the loss: fixed, so that one gradient has one set of scores.
func uOf(v conformal.Variant) float64 {
	if v.Randomized() {
		return 0.5
	}
	return 1
}

// ScoreNames are the scores whose sets can be attacked: those with a gradient here.
func ScoreNames() []string { return kernel.ScoreNames() }

// CheckScore reports a score that is none of them.
func CheckScore(v conformal.Variant) error {
	_, err := scoreForm(v)
	return err
}

func scoreForm(v conformal.Variant) (kernel.Score, error) {
	kind, ok := kernel.ScoreKindOf(v.Name)
	if !ok {
		return kernel.Score{}, usage.Errorf("sets of the score %q can't be attacked here (known: %s)", v.Name, strings.Join(ScoreNames(), ", "))
	}
	return kernel.Score{Kind: kind, Lambda: v.Lambda, KReg: v.KReg, U0: uOf(v)}, nil
}

// A lossMaker puts the loss of one surrogate on a device.
type lossMaker func(s *device.Stream, p *Problem, cfg Config, sur Surrogate, running device.Ptr) (*loss, error)

func newLoss(s *device.Stream, p *Problem, cfg Config, sur Surrogate, running device.Ptr) (*loss, error) {
	form, err := scoreForm(p.Score)
	if err != nil {
		return nil, err
	}
	n := sur.Calibration.Len()
	l := &loss{s: s, cfg: cfg, running: running, form: form, k: sur.Model.Classes, n: n, rows: n + len(p.Targets)}
	if l.rank, err = p.Level.Rank(n); err != nil {
		return nil, err
	}

	// Targets in an order in which those whose prediction is to stay lie together, by weight.
	attacked, spared := 0, 0
	for _, t := range p.Targets {
		if t.Bystander {
			spared++
		} else {
			attacked++
		}
	}
	spare := 1.0
	if attacked > 0 && spared > 0 {
		spare = float64(attacked) / float64(spared)
	}
	pixels := append([]uint8(nil), sur.Calibration.Pixels...)
	var pairRows, pairLabels, kind []int32
	var weight []float32
	for i, y := range sur.Calibration.Labels {
		pairRows, pairLabels = append(pairRows, int32(i)), append(pairLabels, y)
	}
	row := n
	for _, bystander := range []bool{false, true} {
		w := 1.0
		if bystander {
			w = spare
		}
		for _, keeps := range []bool{true, false} {
			first, labels := row, []int32(nil)
			for _, t := range p.Targets {
				if t.Bystander != bystander || (t.Aim.Keep >= 0) != keeps {
					continue
				}
				pixels = append(pixels, t.Image...)
				labels = append(labels, int32(t.Aim.Keep))
				pair := func(y int, k int32) {
					pairRows, pairLabels = append(pairRows, int32(row)), append(pairLabels, int32(y))
					kind, weight = append(kind, k), append(weight, float32(w))
				}
				for _, y := range t.Aim.Add {
					pair(y, 1)
				}
				if t.Aim.Inside >= 0 {
					pair(t.Aim.Inside, 1)
				}
				for _, y := range t.Aim.Remove {
					pair(y, -1)
				}
				row++
			}
			if keeps && len(labels) > 0 {
				l.keeps = append(l.keeps, keep{row: first, n: len(labels), labels: uploaded(s, labels), weight: w})
			}
		}
	}
	l.m = len(kind)

	m := sur.Model
	batch := share(l.rows, (l.rows+lossBatch-1)/lossBatch)[0]
	l.spec, l.options = m.Spec, nn.Options{Precision: p.Precision}
	l.pixels = uploaded(s, pixels)
	l.x = tensor.New(s, batch, m.H, m.W, m.C)
	l.logits, l.probs, l.dz = tensor.New(s, l.rows, l.k), tensor.New(s, l.rows, l.k), tensor.New(s, l.rows, l.k)
	l.pairs = kernel.ScorePairs{M: n + l.m, N: l.rows, K: l.k, P: l.probs.P, Rows: uploaded(s, pairRows), Labels: uploaded(s, pairLabels)}
	l.kind = uploaded(s, kind)
	l.weight = tensor.Tensor{Shape: []int{l.m}, P: uploaded(s, weight)}
	l.scores, l.ds = tensor.New(s, n+l.m), tensor.New(s, n+l.m)
	l.sorted, l.order, l.pairLoss, l.keepLoss = tensor.New(s, n), s.Alloc(4*n), tensor.New(s, l.m), tensor.New(s, len(p.Targets))
	l.tau = tensor.New(s, 1)
	l.dot = s.Alloc(8)
	l.work = kernel.NewWorkspace(s, kernel.VectorBytes)
	return l, s.Err()
}

// uploaded copies x to new memory of s.
func uploaded[T device.Memory](s *device.Stream, x []T) device.Ptr {
	var zero [1]T
	p := s.Alloc(max(len(x), 1) * sizeof(zero[0]))
	if len(x) > 0 {
		device.Upload(s, p, x)
	}
	return p
}

func sizeof(v any) int {
	switch v.(type) {
	case uint8:
		return 1
	case float64, uint64:
		return 8
	}
	return 4
}

// open gives the loss its network and what else is as large as the model, until it is closed.
func (l *loss) open() (closing func()) {
	free := l.s.Scope()
	n := l.spec.NumParams()
	l.net = nn.NewNet(l.s, l.spec, l.x.Shape[0], l.options)
	l.grad, l.chunk, l.moved = tensor.New(l.s, n), tensor.New(l.s, n), l.s.Alloc(4*n)
	return func() {
		free()
		l.net = nil
	}
}

// forward runs rows [at,at+b) of calibration images and targets through the network.
func (l *loss) forward(theta device.Ptr, at, b int) tensor.Tensor {
	x := l.x.Slice(0, append([]int{b}, l.x.Shape[1:]...)...)
	h, w, c := l.x.Shape[1], l.x.Shape[2], l.x.Shape[3]
	kernel.Gather(l.s, l.pixels.Add(at*h*w*c), 0, kernel.Augmentation{}, b, h, w, c, x)
	return l.net.Forward(nn.Pass{Mode: nn.Eval, Theta: tensor.Tensor{Shape: l.grad.Shape, P: theta}, Running: l.running, X: x})
}

// value computes ℓ2 at theta and its gradient to all logits.
func (l *loss) value(theta device.Ptr) (float64, error) {
	s := l.s
	batch := l.x.Shape[0]
	for at := 0; at < l.rows; at += batch {
		b := min(batch, l.rows-at)
		z := l.forward(theta, at, b)
		s.Copy(l.logits.P.Add(4*at*l.k), z.P, 4*b*l.k)
	}
	if l.adversarial != 0 {
		return l.crossEntropy()
	}
	kernel.Softmax(s, l.rows, l.k, l.logits, l.probs)
	kernel.PairScores(s, l.form, l.pairs, l.scores.P)
	if !l.held {
		kernel.SortScores(s, l.n, l.scores.P, l.sorted.P, l.order)
	}
	wishes := kernel.Wishes{M: l.m, Scores: l.scores.P.Add(4 * l.n), Kinds: l.kind, Weights: l.weight.P}
	cal := kernel.Calibration{N: l.n, Rank: l.rank, Sorted: l.sorted.P, Order: l.order}
	dCal, dWish := l.ds.P, l.ds.P.Add(4*l.n)
	if l.cfg.Threshold == ThresholdFixed {
		s.Memset32(dCal, 0, l.n)
		dCal = 0
	}
	if l.cfg.Loss == LossSoftQuantile {
		kernel.SoftQuantileHinge(s, wishes, cal, l.cfg.margin(), l.cfg.Bandwidth*float64(l.n), l.tau.P, l.pairLoss.P, dWish, dCal)
	} else {
		kernel.PairwiseHinge(s, wishes, cal, l.cfg.margin(), l.cfg.Window, l.pairLoss.P, dWish, dCal)
	}
	kernel.PairScoresBackward(s, l.form, l.pairs, l.ds.P, l.dz.P)
	at := 0
	for _, k := range l.keeps {
		kernel.KeepPrediction(s, k.n, l.k, l.cfg.KeepBeta, k.weight, l.logits.P.Add(4*k.row*l.k), k.labels, true,
			l.keepLoss.P.Add(4*at), l.dz.P.Add(4*k.row*l.k))
		at += k.n
	}
	terms := make([]float32, l.m+at)
	if l.m > 0 {
		if err := device.Download(s, terms[:l.m], l.pairLoss.P); err != nil {
			return 0, err
		}
	}
	if at > 0 {
		if err := device.Download(s, terms[l.m:], l.keepLoss.P); err != nil {
			return 0, err
		}
	}
	l.wished = 0
	for _, t := range terms[:l.m] {
		l.wished += float64(t)
	}
	sum := l.wished
	for _, t := range terms[l.m:] {
		sum += float64(t)
	}
	return sum, s.Err()
}

// gradient computes ℓ2 at theta, ∇ℓ2 into grad, and its norm.
func (l *loss) gradient(theta device.Ptr, grad tensor.Tensor) (value, norm float64, err error) {
	if value, err = l.value(theta); err != nil {
		return 0, 0, err
	}
	s, batch := l.s, l.x.Shape[0]
	for at := 0; at < l.rows; at += batch {
		b := min(batch, l.rows-at)
		if l.rows > batch { // else the network still holds this very pass
			l.forward(theta, at, b)
		}
		out := grad
		if at > 0 {
			out = l.chunk
		}
		l.net.Backward(l.dz.Slice(at*l.k, b, l.k), out, tensor.Tensor{})
		if at > 0 {
			kernel.Axpby(s, kernel.Coef{Value: 1}, l.chunk.P, kernel.Coef{Value: 1}, grad.P, grad.Len())
		}
	}
	kernel.Norm2(s, grad.P, grad.Len(), l.dot, l.work)
	var square [1]float64
	err = device.Download(s, square[:], l.dot)
	return value, math.Sqrt(square[0]), err
}

var errZero = errors.New("the adversary's gradient is zero")

// judge refuses a gradient that no poison can be aligned with, and says why there is none.
func (l *loss) judge(value, norm float64) error {
	switch {
	case math.IsNaN(norm) || math.IsInf(norm, 0) || math.IsNaN(value) || math.IsInf(value, 0):
		return fmt.Errorf("the adversary's loss is %v and its gradient has norm %v: the model's outputs are not finite", value, norm)
	case norm > 0:
		return nil
	case l.adversarial != 0:
		return usage.Errorf("the adversary's gradient is zero, its loss %.4g: this model takes the targets for the adversarial label with certainty; choose other targets", value)
	case l.rank > l.n:
		return usage.Errorf("%w: %d calibration images are too few for a finite threshold (rank %d)", errZero, l.n, l.rank)
	case l.wished > 0:
		return usage.Errorf("%w, its loss %.4g: the labels that are to move have no probability at all on this model, its softmax is saturated; train it for fewer epochs or choose other targets", errZero, value)
	}
	return usage.Errorf("%w, its loss %.4g: on this model the sets are as wanted already, by more than the margin %.3g; raise the margin or choose other targets", errZero, value, l.cfg.margin())
}

// worst computes ℓ2 at theta, and ℓ3, its value at the worst point of the ball around theta, with
// the gradient there. A gradient that is zero or not finite is an error.
func (l *loss) worst(theta device.Ptr, grad tensor.Tensor) (l2, l3 float64, err error) {
	l2, l3, norm, err := l.measure(theta, grad)
	if err == nil {
		err = l.judge(l3, norm)
	}
	return l2, l3, err
}

// measure is worst for those who want the values, whatever the gradient.
func (l *loss) measure(theta device.Ptr, grad tensor.Tensor) (l2, l3, norm float64, err error) {
	if l2, norm, err = l.gradient(theta, grad); err != nil || l.cfg.Plain {
		return l2, l2, norm, err
	}
	l3 = l2
	for range l.cfg.SAMSteps {
		if !(norm > 0) || math.IsInf(norm, 0) {
			return l2, l3, norm, nil // no way up, or none to be trusted
		}
		kernel.SAMPerturb(l.s, theta, grad.P, l.cfg.SAMRho, float64(l.cfg.SAMP), l.moved, grad.Len(), l.work)
		if l3, norm, err = l.gradient(l.moved, grad); err != nil {
			return 0, 0, 0, err
		}
	}
	return l2, l3, norm, nil
}
