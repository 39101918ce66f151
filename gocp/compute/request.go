package compute

import (
	"math"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// The quantities, as they are asked for.
const (
	Logits          = "logits"
	Loss            = "loss"
	Grad            = "grad"
	InputGrad       = "input-grad"
	PersampleSqNorm = "persample-sqnorm"
	PersampleGrad   = "persample-grad"
	Directional     = "directional"
	HVP             = "hvp"
	Mixed           = "mixed"
	GGNVP           = "ggnvp"
	IHVP            = "ihvp"
	KFAC            = "kfac"
	Scores          = "scores"
	L2              = "l2"
	SAM             = "sam"
)

// Quantities lists every quantity, in the order in which they are written.
func Quantities() []string {
	return []string{Logits, Loss, Grad, InputGrad, PersampleSqNorm, PersampleGrad, Directional, HVP, Mixed, GGNVP, IHVP, KFAC, Scores, L2, SAM}
}

// A Request is one call: a model, its inputs and what is wanted. Zero values of the options
// are the defaults.
type Request struct {
	Model     *nn.Model
	In        *safetensors.File
	What      []string
	Mode      nn.Mode
	Precision kernel.Precision
	Score     ScoreOptions
	L2        L2Options
	SAM       SAMOptions
	Curvature CurvatureOptions
}

// ScoreOptions choose the non-conformity score of Scores and L2.
type ScoreOptions struct {
	Kind   string  // hps (default), aps, raps
	Lambda float64 // of raps
	KReg   int     // of raps
}

// SAMOptions choose the ball of SAM.
type SAMOptions struct {
	Of  string  // whose gradient: loss (default) or l2
	Rho float64 // radius; 0: 0.05
	P   float64 // norm, > 1, +Inf allowed; 0: 2
}

// CurvatureOptions choose the system of IHVP.
type CurvatureOptions struct {
	Kind    string  // ggn (default) or hessian
	Damping float64 // λ > 0; 0: 0.1
}

func oneOf(what, got string, known []string) error {
	if slices.Contains(known, got) {
		return nil
	}
	return usage.Errorf("compute: unknown %s %q (known: %s)", what, got, strings.Join(known, ", "))
}

// inputs is a Request's file, checked.
type inputs struct {
	n      int
	x      []float32 // [n,H,W,C]
	y      []int32   // [n], nil when nothing asked for needs it
	v      []float32 // [|θ|], device layout; nil likewise
	u      []float32 // [n]: ones when the file has none
	target *targets  // nil unless L2
	want   map[string]bool
	l2     bool // asked for, or needed for SAM
}

// withDefaults fills in what was left zero.
func (r Request) withDefaults() Request {
	if r.Score.Kind == "" {
		r.Score.Kind = "hps"
	}
	if r.SAM.Of == "" {
		r.SAM.Of = "loss"
	}
	if r.SAM.Rho == 0 {
		r.SAM.Rho = 0.05
	}
	if r.SAM.P == 0 {
		r.SAM.P = 2
	}
	if r.Curvature.Kind == "" {
		r.Curvature.Kind = curvature.GGN
	}
	if r.Curvature.Damping == 0 {
		r.Curvature.Damping = 0.1
	}
	r.L2 = r.L2.withDefaults()
	return r
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// read checks the request and its file. All errors are usage errors.
func (r Request) read() (*inputs, error) {
	in := &inputs{want: map[string]bool{}}
	if len(r.What) == 0 {
		return nil, usage.Errorf("compute: nothing is asked for (known: %s)", strings.Join(Quantities(), ", "))
	}
	for _, w := range r.What {
		if err := oneOf("quantity", w, Quantities()); err != nil {
			return nil, err
		}
		in.want[w] = true
	}
	if err := oneOf("score", r.Score.Kind, kernel.ScoreNames()); err != nil {
		return nil, err
	}
	if !finite(r.Score.Lambda) || r.Score.Lambda < 0 || r.Score.KReg < 0 {
		return nil, usage.Errorf("compute: lambda %g and k_reg %d; both must be finite and not negative", r.Score.Lambda, r.Score.KReg)
	}
	if err := oneOf("gradient for sam", r.SAM.Of, []string{"loss", "l2"}); err != nil {
		return nil, err
	}
	if !finite(r.SAM.Rho) || r.SAM.Rho <= 0 || math.IsNaN(r.SAM.P) || r.SAM.P <= 1 {
		return nil, usage.Errorf("compute: sam has radius %g and p = %g; the radius must be positive and p above 1", r.SAM.Rho, r.SAM.P)
	}
	if err := oneOf("curvature", r.Curvature.Kind, curvature.Kinds()); err != nil {
		return nil, err
	}
	if !finite(r.Curvature.Damping) || r.Curvature.Damping <= 0 {
		return nil, usage.Errorf("compute: ihvp has the damping %g; it must be a number above 0", r.Curvature.Damping)
	}
	in.l2 = in.want[L2] || in.want[SAM] && r.SAM.Of == "l2"
	if r.Mode == nn.Train {
		for _, w := range []string{PersampleSqNorm, PersampleGrad} {
			if in.want[w] && r.Model.BatchNorm {
				return nil, usage.Errorf("compute: %s has no meaning in training mode with batch norm, where samples share statistics; use evaluation mode", w)
			}
			if in.want[w] && r.Model.Dropout > 0 {
				return nil, usage.Errorf("compute: %s has no meaning in training mode with dropout, where each sample has a network of its own; use evaluation mode", w)
			}
		}
		if in.want[KFAC] && (r.Model.BatchNorm || r.Model.Dropout > 0) {
			return nil, usage.Errorf("compute: kfac has no meaning in training mode with batch norm or dropout, where no gradient belongs to one sample; use evaluation mode")
		}
		if in.l2 {
			return nil, usage.Errorf("compute: l2 is defined in evaluation mode only")
		}
	}
	known := []string{"x", "y", "u", "target.x", "target.add", "target.remove", "target.keep"}
	params := map[string]bool{}
	for _, p := range r.Model.Params() {
		params["v."+p.Name] = true
	}
	for _, t := range r.In.Tensors {
		if !slices.Contains(known, t.Name) && !params[t.Name] {
			return nil, usage.Errorf("compute: the input has a tensor %q, which is not known (known: %s, and v. before the name of a parameter)", t.Name, strings.Join(known, ", "))
		}
	}
	var err error
	if in.n, in.x, err = r.images("x"); err != nil {
		return nil, err
	}
	if in.needs(Loss, Grad, InputGrad, PersampleSqNorm, PersampleGrad, Directional, HVP, Mixed, GGNVP, IHVP, SAM) || in.l2 {
		if in.y, err = r.labels(in.n); err != nil {
			return nil, err
		}
	}
	if in.needs(Directional, HVP, Mixed, GGNVP, IHVP) {
		if in.v, err = r.direction(); err != nil {
			return nil, err
		}
	}
	if in.needs(Scores) {
		if in.u, err = r.draws(in.n); err != nil {
			return nil, err
		}
	}
	if in.l2 {
		if in.target, err = r.targets(in.n); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// needs reports whether any of the quantities is asked for.
func (in *inputs) needs(what ...string) bool {
	return slices.ContainsFunc(what, func(w string) bool { return in.want[w] })
}

// images reads pixels [N,C,H,W] into [N,H,W,C].
func (r Request) images(name string) (int, []float32, error) {
	m := r.Model
	t, x, err := r.floats(name, -1, m.C, m.H, m.W)
	if err != nil {
		return 0, nil, err
	}
	n := t.Shape[0]
	if n == 0 {
		return 0, nil, usage.Errorf("tensor %q has shape %v: no samples", name, t.Shape)
	}
	for i, v := range x {
		if !(v >= 0 && v <= 1) {
			return 0, nil, usage.Errorf("tensor %q has the value %v at element %d; pixels are in [0,1]: divide bytes by 255 first", name, v, i)
		}
	}
	return n, toNHWC(x, n, m.C, m.H, m.W), nil
}

// floats reads a tensor of any type of numbers, rounded to float32.
func (r Request) floats(name string, shape ...int) (*safetensors.Tensor, []float32, error) {
	t, err := r.In.Need(name, "", shape...)
	if err != nil {
		return nil, nil, err
	}
	if !t.Whole() {
		x, err := t.Float32s()
		return t, x, err
	}
	y, err := t.Int64s()
	x := make([]float32, len(y))
	for i, v := range y {
		x[i] = float32(v)
	}
	return t, x, err
}

// integers reads a tensor of whole numbers, of whatever type of numbers.
func (r Request) integers(name string, shape ...int) ([]int64, error) {
	t, err := r.In.Need(name, "", shape...)
	if err != nil {
		return nil, err
	}
	if t.Whole() {
		return t.Int64s()
	}
	x, err := t.Float64s()
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(x))
	for i, v := range x {
		if out[i] = int64(v); float64(out[i]) != v || math.Abs(v) > 1<<53 {
			return nil, usage.Errorf("tensor %q has the value %v at element %d; it must hold whole numbers", name, v, i)
		}
	}
	return out, nil
}

func (r Request) labels(n int) ([]int32, error) {
	y, err := r.integers("y", n)
	if err != nil {
		return nil, err
	}
	out := make([]int32, n)
	for i, v := range y {
		if v < 0 || v >= int64(r.Model.Classes) {
			return nil, usage.Errorf("tensor \"y\" has the label %d at element %d; the model has classes 0 to %d", v, i, r.Model.Classes-1)
		}
		out[i] = int32(v)
	}
	return out, nil
}

// direction reads v.<parameter> into a flat vector in the device's layout.
func (r Request) direction() ([]float32, error) {
	flat := make([]float32, r.Model.NumParams())
	for _, p := range r.Model.Params() {
		t, values, err := r.floats("v."+p.Name, p.Torch...)
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			if !finite(float64(v)) {
				return nil, usage.Errorf("tensor %q has the value %v at element %d; a direction is finite", t.Name, v, i)
			}
		}
		if err := p.FromTorch(flat, values); err != nil {
			return nil, err
		}
	}
	return flat, nil
}

// draws reads u [N], or ones: the score without randomisation.
func (r Request) draws(n int) ([]float32, error) {
	u := make([]float32, n)
	if r.In.Get("u") == nil {
		for i := range u {
			u[i] = 1
		}
		return u, nil
	}
	_, u, err := r.floats("u", n)
	if err != nil {
		return nil, err
	}
	for i, v := range u {
		if !(v >= 0 && v <= 1) {
			return nil, usage.Errorf("tensor \"u\" has the value %v at element %d; draws are in [0,1]", v, i)
		}
	}
	return u, nil
}
