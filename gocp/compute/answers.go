package compute

import (
	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/safetensors"
)

// answers gathers results in the device's layouts: images NHWC, parameters as one flat vector.
type answers struct {
	m  *nn.Model
	in *inputs

	logits, loss, inputGrad   []float32
	grad                      []float64
	sqNorm, persample         []float32
	directional, mixed        []float32
	hvp, ggnvp                []float64
	ihvp                      []float32
	factors                   []curvature.Factor
	scores                    []float32
	l2Terms, l2DPairs, l2DCal []float32
	l2Grad                    []float64
	sam                       []float32
}

func newAnswers(m *nn.Model, in *inputs) *answers {
	vector := func() []float64 { return make([]float64, m.NumParams()) }
	return &answers{m: m, in: in, grad: vector(), hvp: vector(), ggnvp: vector(), l2Grad: vector()}
}

// file writes what was asked for, and nothing else, in PyTorch's layouts.
func (a *answers) file() *safetensors.File {
	f := &safetensors.File{Meta: map[string]string{}}
	n, m := a.in.n, a.m
	add := func(name string, values []float32, shape ...int) {
		f.Tensors = append(f.Tensors, safetensors.FromFloat32(name, values, shape...))
	}
	params := func(prefix string, flat []float32) {
		for _, p := range m.Params() {
			add(prefix+p.Name, p.ToTorch(flat), p.Torch...)
		}
	}
	images := func(name string, v []float32) {
		add(name, toNCHW(v, n, m.C, m.H, m.W), n, m.C, m.H, m.W)
	}
	for _, what := range Quantities() {
		if !a.in.want[what] {
			continue
		}
		switch what {
		case Logits:
			add("logits", a.logits, n, m.Classes)
		case Loss:
			add("loss", a.loss, n)
		case Grad:
			params("grad.", narrow(a.grad))
		case InputGrad:
			images("input_grad", a.inputGrad)
		case PersampleSqNorm:
			add("persample_sqnorm", a.sqNorm, n)
		case PersampleGrad:
			a.persampleGrads(add)
		case Directional:
			add("directional", a.directional, n)
		case HVP:
			params("hvp.", narrow(a.hvp))
		case Mixed:
			images("mixed", a.mixed)
		case GGNVP:
			params("ggnvp.", narrow(a.ggnvp))
		case IHVP:
			params("ihvp.", a.ihvp)
		case KFAC:
			for _, f := range a.factors {
				a.factor(f, add)
			}
		case Scores:
			add("scores", a.scores, n, m.Classes)
		case L2:
			sum := 0.0
			for _, v := range a.l2Terms {
				sum += float64(v)
			}
			add("l2", []float32{float32(sum)}, 1)
			add("l2_terms", a.l2Terms, len(a.l2Terms))
			add("l2_dpairs", a.l2DPairs, len(a.l2DPairs))
			add("l2_dcal", a.l2DCal, n)
			params("l2_grad.", narrow(a.l2Grad))
		case SAM:
			params("sam.", a.sam)
		}
	}
	return f
}

// factor writes one parameter's factors in PyTorch's order of a weight's inputs.
func (a *answers) factor(f curvature.Factor, add func(string, []float32, ...int)) {
	name := f.Param.Name
	switch {
	case f.D != nil:
		flat := make([]float32, a.m.NumParams())
		copy(flat[f.Param.Off:], f.D)
		add("kfac."+name, f.Param.ToTorch(flat), f.Param.Torch...)
		return
	case f.In == 0:
		add("kfac."+name, f.G, f.Out, f.Out)
		return
	case f.ADiag != nil:
		out := make([]float32, f.In)
		for i, v := range f.ADiag {
			out[f.Param.InputOf(i)] = v
		}
		add("kfac.A."+name, out, f.In)
	default:
		out := make([]float32, f.In*f.In)
		for i := range f.In {
			for j := range f.In {
				out[f.Param.InputOf(i)*f.In+f.Param.InputOf(j)] = f.A[i*f.In+j]
			}
		}
		add("kfac.A."+name, out, f.In, f.In)
	}
	add("kfac.G."+name, f.G, f.Out, f.Out)
}

// persampleGrads turns rows of the flat vector into one tensor [N,…] a parameter.
func (a *answers) persampleGrads(add func(string, []float32, ...int)) {
	n, size := a.in.n, a.m.NumParams()
	for _, p := range a.m.Params() {
		out := make([]float32, 0, n*p.Len)
		for i := 0; i < n; i++ {
			out = append(out, p.ToTorch(a.persample[i*size:(i+1)*size])...)
		}
		add("persample."+p.Name, out, append([]int{n}, p.Torch...)...)
	}
}

func narrow(x []float64) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}
