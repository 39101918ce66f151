package bench

import (
	"fmt"
	"io"
	"math"

	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/kernel/cases"
	"github.com/gocp/gocp/gocp/nn"
)

// BoundNote says what a bound is, wherever bounds are written.
const BoundNote = "lower bounds in time, from counts and data sheets; nothing here was measured on a GPU"

// A GPU is the peak rates that its data sheet states.
type GPU struct {
	Name   string  `json:"name"`
	Memory float64 `json:"memory_bytes_s"`
	FP32   float64 `json:"fp32_flop_s"`
	TF32   float64 `json:"tf32_flop_s"` // tensor cores, dense matrices
	BF16   float64 `json:"bf16_flop_s"` // likewise
	Source string  `json:"source"`
}

// GPUs are those that bounds are given for. Data sheets since Hopper state tensor cores with
// sparsity; dense is half of that. Where two of NVIDIA's documents differ the faster rate is taken,
// so that a bound stays one.
func GPUs() []GPU {
	const giga, tera = 1e9, 1e12
	return []GPU{
		{"A100", 2039 * giga, 19.5 * tera, 156 * tera, 312 * tera,
			"NVIDIA A100 Tensor Core GPU data sheet, A100 80GB SXM: 2,039 GB/s; FP32 19.5, TF32 156, BF16 312 TFLOPS"},
		{"H100", 3350 * giga, 67 * tera, 494.5 * tera, 989.5 * tera,
			"NVIDIA H100 Tensor Core GPU data sheet, H100 SXM: 3.35 TB/s; FP32 67, TF32 989, BF16 1,979 teraFLOPS, the last two with sparsity"},
		{"H200", 4800 * giga, 67 * tera, 494.5 * tera, 989.5 * tera,
			"NVIDIA H200 Tensor Core GPU data sheet, H200 SXM: 4.8 TB/s; FP32 67, TF32 989, BF16 1,979 TFLOPS, the last two with sparsity"},
		{"B200", 8000 * giga, 80 * tera, 1100 * tera, 2250 * tera,
			"NVIDIA Blackwell Architecture Technical Brief, HGX B200, a GPU: up to 8 TB/s; FP32 80, TF32 2,200, BF16 4,500 TFLOPS, the last two with sparsity (the later data sheet says FP32 75)"},
	}
}

// rate is that of the unit which makes products of a precision; "" is arithmetic outside tensor
// cores. float32 products are three of TF32.
func (g GPU) rate(precision string) float64 {
	switch precision {
	case "bf16":
		return g.BF16
	case "tf32":
		return g.TF32
	case "f32":
		return max(g.TF32/3, g.FP32)
	}
	return g.FP32
}

// work is a launch as the bound sees it.
type work struct {
	cases.Cost
	precision string // of products on tensor cores; else ""
}

// memory and arithmetic are the seconds that g needs at least for each.
func (w work) memory(g GPU) float64     { return w.Bytes / g.Memory }
func (w work) arithmetic(g GPU) float64 { return w.FLOPs / g.rate(w.precision) }
func (w work) seconds(g GPU) float64    { return math.Max(w.memory(g), w.arithmetic(g)) }

// What a RooflineRow is of.
const (
	GroupStep   = "step"   // a crafting step: its launches one after another
	GroupLayer  = "layer"  // a convolution of ResNet-18
	GroupKernel = "kernel" // a case at a shape that gocp bench kernels times
)

// Groups are the groups in the order in which they are given.
func Groups() []string { return []string{GroupStep, GroupLayer, GroupKernel} }

// A RooflineRow is the bound of a launch, or of a step.
type RooflineRow struct {
	Group     string  `json:"group"`
	Name      string  `json:"name"`
	Shape     string  `json:"shape"`
	Precision string  `json:"precision"` // of products; "dual" before it: in dual numbers, every tangent present
	Bytes     float64 `json:"bytes"`     // that must move: operands read once, results written once
	FLOPs     float64 `json:"flops"`     // that must be done, without zeros of the padding
	Bounds    []Bound `json:"bounds"`
}

// A Bound is the time below which a GPU cannot be.
type Bound struct {
	GPU     string  `json:"gpu"`
	Seconds float64 `json:"seconds"`
	Limit   string  `json:"limit"`           // what sets it, in a step what sets most of it: memory or arithmetic
	Convs   float64 `json:"convs,omitempty"` // of a step: the seconds of its convolutions and linear layers
}

// bounds of launches that run one after another; the first convs of them are convolutions.
func bounds(gpus []GPU, launches []work, convs int) []Bound {
	var all []Bound
	for _, g := range gpus {
		b := Bound{GPU: g.Name, Limit: "memory"}
		arithmetic := 0.0
		for i, w := range launches {
			s := w.seconds(g)
			b.Seconds += s
			if w.arithmetic(g) > w.memory(g) {
				arithmetic += s
			}
			if i < convs {
				b.Convs += s
			}
		}
		if 2*arithmetic > b.Seconds {
			b.Limit = "arithmetic"
		}
		all = append(all, b)
	}
	return all
}

func row(group, name, shape, precision string, gpus []GPU, launches []work, convs int) RooflineRow {
	r := RooflineRow{Group: group, Name: name, Shape: shape, Precision: precision, Bounds: bounds(gpus, launches, convs)}
	for _, w := range launches {
		r.Bytes += w.Bytes
		r.FLOPs += w.FLOPs
	}
	return r
}

// work of a convolution product: every plane that it needs is read once, every result written once.
func (p product) work() work {
	a, b, out := p.g.LeastIn(), p.g.Weights(), p.g.Out()
	switch p.op {
	case backwardData:
		a, b, out = p.g.Out(), p.g.Weights(), p.g.In()
	case backwardWeight:
		a, b, out = p.g.LeastIn(), p.g.Out(), p.g.Weights()
	}
	n := 0
	for _, plane := range []struct {
		needed bool
		len    int
	}{
		{p.primal || p.tangent && p.bDual, a}, {p.tangent && p.aDual, a},
		{p.primal || p.tangent && p.aDual, b}, {p.tangent && p.bDual, b},
		{p.primal, out}, {p.tangent, out},
	} {
		if plane.needed {
			n += plane.len
		}
	}
	return work{cases.Cost{Bytes: 4 * float64(n), FLOPs: float64(p.count) * float64(p.g.LeastFLOPs())}, p.g.Precision.String()}
}

// craftWork is the launches of a crafting step of gocp/attack with one surrogate and a batch of
// poisons, no augmentation: convs convolutions first, then what is around them.
func craftWork(s nn.Spec, precision kernel.Precision) (all []work, convs int) {
	for _, p := range craftProducts(s.Convs(Batch, precision)) {
		all = append(all, p.work())
	}
	convs = len(all)
	around := func(bytes, flops int) {
		all = append(all, work{Cost: cases.Cost{Bytes: float64(bytes), FLOPs: float64(flops)}})
	}
	layers, pixels := s.Convs(Batch, precision), Batch*s.H*s.W*s.C
	around(12*pixels, pixels)  // base + δ
	around(8*pixels, 2*pixels) // normalised
	for i, g := range layers {
		z, h, index := g.Out(), g.Out(), 1
		if i+1 < len(layers) {
			h = layers[i+1].In()
		} else {
			index = 0 // the logits: neither ReLU nor pooling
		}
		around(4*z+(4+index)*h, 2*z) // bias, ReLU, pool
		around((4+index)*h, h)       // gradient of the bias
		around((8+index)*h, h)       // tangents, at the places chosen
		if index > 0 {
			around((4+index)*h+4*z, h) // back to z
			around((4+index)*h+4*z, h) // and its tangents
		}
	}
	logits := Batch * s.Classes
	around(12*logits, 8*logits) // loss and its gradient
	around(16*logits, 8*logits) // their tangents
	n := s.NumParams()
	around(8*n, 2*n)              // ⟨u, g⟩
	around(4*n, 2*n)              // ‖u‖²
	around(4*n, 2*n)              // ‖g‖²
	around(12*n, 4*n)             // v = ∂Φ/∂g
	around(8*pixels, pixels)      // gradient of the pixels before the normalisation
	around(8*pixels, pixels)      // added up
	around(8*4*pixels, 12*pixels) // signed Adam
	return all, convs
}

// A Layer is a convolution of a network that others time too.
type Layer struct {
	Name string
	Conv kernel.Conv
}

// ResNet18 lists the different convolutions of ResNet-18 on 224×224 images, for a batch of n.
func ResNet18(n int, precision kernel.Precision) []Layer {
	conv := func(name string, side, c, k, filter, stride int) Layer {
		return Layer{name, kernel.Conv{N: n, H: side, W: side, C: c, K: k, R: filter, S: filter, Stride: stride, Pad: filter / 2, Precision: precision}}
	}
	return []Layer{
		conv("conv1", 224, 3, 64, 7, 2),
		conv("layer1", 56, 64, 64, 3, 1),
		conv("layer2.0", 56, 64, 128, 3, 2),
		conv("layer2.0.down", 56, 64, 128, 1, 2),
		conv("layer2", 28, 128, 128, 3, 1),
		conv("layer3.0", 28, 128, 256, 3, 2),
		conv("layer3", 14, 256, 256, 3, 1),
		conv("layer4.0", 14, 256, 512, 3, 2),
		conv("layer4", 7, 512, 512, 3, 1),
	}
}

func shapeOf(g kernel.Conv) string {
	return fmt.Sprintf("n=%d h=%d w=%d c=%d k=%d r=%d stride=%d pad=%d", g.N, g.H, g.W, g.C, g.K, g.R, g.Stride, g.Pad)
}

var passNames = [...]string{forward: "forward", backwardData: "backward data", backwardWeight: "backward weight"}

// Roofline gives the bounds of a group on the GPUs.
func Roofline(gpus []GPU, group string) []RooflineRow {
	var rows []RooflineRow
	precisions := []kernel.Precision{kernel.F32, kernel.TF32, kernel.BF16}
	switch group {
	case GroupStep:
		for _, s := range Shapes() {
			for _, p := range precisions {
				launches, convs := craftWork(s.Spec, p)
				rows = append(rows, row(group, "craft", fmt.Sprintf("%s n=%d", s.Name, Batch), p.String(), gpus, launches, convs))
			}
		}
	case GroupLayer:
		for i := range ResNet18(Batch, kernel.F32) {
			for op, name := range passNames {
				for _, p := range precisions {
					l := ResNet18(Batch, p)[i]
					for _, dual := range []bool{false, true} {
						label := p.String()
						if dual {
							label = "dual " + label
						}
						w := newProduct(op, l.Conv, dual, dual, true, dual).work()
						rows = append(rows, row(group, l.Name+" "+name, shapeOf(l.Conv), label, gpus, []work{w}, 0))
					}
				}
			}
		}
	case GroupKernel:
		for _, c := range cases.All() {
			for _, sh := range c.Benches {
				for i, cost := range cases.Costs(c, sh) {
					label := c.Precision
					if label == "" {
						label = "f32"
					}
					if i > 0 {
						label = "dual " + label
					}
					rows = append(rows, row(group, c.Name, c.Label(sh), label, gpus, []work{{cost, c.Precision}}, 0))
				}
			}
		}
	}
	return rows
}

// RooflineTable writes GPUs with their sources, then rows in columns: microseconds, with m where
// memory sets the bound and a where arithmetic does.
func RooflineTable(w io.Writer, gpus []GPU, rows []RooflineRow) error {
	out := &printer{w: w}
	out.printf("%s\n", BoundNote)
	for _, g := range gpus {
		out.printf("%s: %s\n", g.Name, g.Source)
	}
	group := ""
	for _, r := range rows {
		if r.Group != group {
			group = r.Group
			out.printf("\n%-28s %-46s %-9s %9s %9s", group, "shape", "precision", "MB", "GFLOP")
			for _, g := range gpus {
				out.printf(" %11s", g.Name+" µs ≥")
			}
			out.printf("\n")
		}
		out.printf("%-28s %-46s %-9s %9.3g %9.3g", r.Name, r.Shape, r.Precision, r.Bytes*1e-6, r.FLOPs*1e-9)
		for _, b := range r.Bounds {
			out.printf(" %9.4g %c", b.Seconds*1e6, b.Limit[0])
		}
		out.printf("\n")
	}
	return out.err
}

// A printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
