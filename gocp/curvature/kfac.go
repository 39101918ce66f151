package curvature

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// A Factor is what stands for the curvature of one parameter, a mean over images, on the host: of a weight A ⊗ G, of a
// bias G, of what has only a diagonal D. Matrices are row by row.
type Factor struct {
	Param   nn.Param
	In, Out int       // sides of A and G: the weight is [Out,In] in the device's layout; In is 0 of a bias
	A       []float32 // [In,In], summed over the positions of an output; nil where ADiag stands for it
	ADiag   []float32 // [In], of layers wider than nn.MostSide
	G       []float32 // [Out,Out], a mean over positions; of a bias of their sums
	D       []float32 // [Param.Len]
}

// Factors are the Kronecker factors of the Gauss–Newton matrix of the mean loss over batches, in evaluation mode, which for
// the cross entropy is Fisher's matrix: gradients are of labels that the model itself predicts. With samples 0 they
// are of every label, weighed by its probability, one pass back for each class; else of so many labels drawn for each image by
// the seed.
func Factors(s *device.Stream, c Config, theta, running device.Ptr, batches []Batch, samples int, seed uint64) ([]Factor, error) {
	defer s.Range("Kronecker factors").End()
	free := s.Scope()
	defer free()
	largest, images, classes := 0, 0, c.Spec.Classes
	for _, b := range batches {
		largest, images = max(largest, b.X.Shape[0]), images+b.X.Shape[0]
	}
	n := nn.NewNet(s, c.Spec, largest, nn.Options{Precision: c.Precision, Persample: true})
	k := nn.NewKronecker(n)
	if err := s.Err(); err != nil {
		return nil, err
	}
	dlogits := tensor.New(s, largest, classes)
	draws := rng.New(seed, rng.Stream("kfac"))
	passes := samples
	if samples == 0 {
		passes = classes
	}
	for _, b := range batches {
		if err := s.Context().Err(); err != nil {
			return nil, err
		}
		rows := b.X.Shape[0]
		logits := n.Forward(nn.Pass{Mode: nn.Eval, Theta: tensor.Tensor{Shape: []int{c.Spec.NumParams()}, P: theta}, Running: running, X: b.X})
		k.Inputs()
		z := make([]float32, rows*classes)
		if err := device.Download(s, z, logits.P); err != nil {
			return nil, err
		}
		p := softmax(z, classes)
		d := dlogits.Slice(0, rows, classes)
		for pass := range passes {
			device.Upload(s, d.P, fisher(p, classes, pass, samples, draws))
			n.Backward(d, tensor.Tensor{}, tensor.Tensor{})
			k.Gradients(d)
		}
	}
	var out []Factor
	for _, b := range k.Blocks {
		f := Factor{Param: b.Param, In: b.In, Out: b.Out}
		for _, x := range []struct {
			to   *[]float32
			from device.Ptr
			n    int
			over int
		}{{&f.A, b.A, b.In * b.In, images}, {&f.ADiag, b.ADiag, b.In, images}, {&f.G, b.G, b.Out * b.Out, images * max(b.Places, 1) * max(samples, 1)}, {&f.D, b.D, b.Param.Len, images * max(samples, 1)}} {
			if x.from == 0 {
				continue
			}
			*x.to = make([]float32, x.n)
			if err := device.Download(s, *x.to, x.from); err != nil {
				return nil, err
			}
			for i := range *x.to {
				(*x.to)[i] /= float32(x.over)
			}
		}
		out = append(out, f)
	}
	return out, s.Err()
}

// softmax is that of rows of k logits, in float64.
func softmax(z []float32, k int) []float64 {
	p := make([]float64, len(z))
	for i := 0; i < len(z); i += k {
		top, sum := math.Inf(-1), 0.0
		for _, v := range z[i : i+k] {
			top = math.Max(top, float64(v))
		}
		for j, v := range z[i : i+k] {
			p[i+j] = math.Exp(float64(v) - top)
			sum += p[i+j]
		}
		for j := range k {
			p[i+j] /= sum
		}
	}
	return p
}

// fisher is dlogits of one pass: √p_c (p − onehot(c)) of class c, or p − onehot(y) of labels drawn.
func fisher(p []float64, k, pass, samples int, draws *rng.Source) []float32 {
	d := make([]float32, len(p))
	for i := 0; i < len(p); i += k {
		y, weight := pass, 1.0
		if samples == 0 {
			weight = math.Sqrt(p[i+pass])
		} else {
			y = 0
			for u := draws.Float64(); y < k-1 && u >= p[i+y]; y++ {
				u -= p[i+y]
			}
		}
		for j := range k {
			v := p[i+j]
			if j == y {
				v--
			}
			d[i+j] = float32(weight * v)
		}
	}
	return d
}

// A KFAC is the inverse of Kronecker factors with damping, on the device.
type KFAC struct {
	s      *device.Stream
	work   *kernel.Workspace
	blocks []inverse
	t      device.Ptr // [largest weight]
}

// An inverse is that of one block: of a weight V ← G⁻¹VA⁻¹, of a bias G⁻¹v, of a diagonal v/D.
type inverse struct {
	f          *Factor
	a, g, d    device.Ptr
	in, square kernel.Conv
}

// NewKFAC inverts factors with the damping λ: (A + π√λ I) ⊗ (G + √λ/π I) with π² the ratio of the mean eigenvalues of A and G
// (Martens and Grosse 2015, §6.3), and G + λI and D + λ of biases and diagonals.
func NewKFAC(s *device.Stream, factors []Factor, damping float64) (*KFAC, error) {
	k := &KFAC{s: s}
	bytes, largest := 0, 1
	root := math.Sqrt(damping)
	for i := range factors {
		f := &factors[i]
		b := inverse{f: f}
		upload := func(x []float32, err error) (device.Ptr, error) {
			if err != nil {
				return 0, fmt.Errorf("kfac of %s: %w", f.Param.Name, err)
			}
			p := s.Alloc(4 * len(x))
			device.Upload(s, p, x)
			return p, s.Err()
		}
		var err error
		switch {
		case f.D != nil:
			b.d, err = upload(reciprocal(f.D, damping), nil)
		case f.In == 0:
			b.square = kernel.Conv{N: 1, H: 1, W: 1, C: f.Out, K: f.Out, R: 1, S: 1, Stride: 1}
			b.g, err = upload(inverted(f.G, f.Out, damping))
		default:
			largest = max(largest, f.Param.Len)
			b.in = kernel.Conv{N: f.Out, H: 1, W: 1, C: f.In, K: f.In, R: 1, S: 1, Stride: 1}
			b.square = kernel.Conv{N: f.Out, H: 1, W: 1, C: f.In, K: f.Out, R: 1, S: 1, Stride: 1}
			pi := math.Sqrt(ratio(f))
			if f.A != nil {
				b.a, err = upload(inverted(f.A, f.In, pi*root))
			} else {
				b.a, err = upload(reciprocal(f.ADiag, pi*root), nil)
			}
			if err == nil {
				b.g, err = upload(inverted(f.G, f.Out, root/pi))
			}
			bytes = max(bytes, kernel.ConvBytes(s, b.in, false))
		}
		if err != nil {
			return nil, err
		}
		if b.square.N > 0 {
			bytes = max(bytes, kernel.ConvBytes(s, b.square, false))
		}
		k.blocks = append(k.blocks, b)
	}
	k.work, k.t = kernel.NewWorkspace(s, bytes), s.Alloc(4*largest)
	return k, s.Err()
}

// ratio is that of the mean eigenvalues of A and G, 1 where one of them is none.
func ratio(f *Factor) float64 {
	var a, g float64
	for i := range f.In {
		if f.A != nil {
			a += float64(f.A[i*f.In+i]) / float64(f.In)
		} else {
			a += float64(f.ADiag[i]) / float64(f.In)
		}
	}
	for i := range f.Out {
		g += float64(f.G[i*f.Out+i]) / float64(f.Out)
	}
	if !(a > 0) || !(g > 0) {
		return 1
	}
	return a / g
}

func reciprocal(d []float32, damping float64) []float32 {
	out := make([]float32, len(d))
	for i, v := range d {
		out[i] = float32(1 / (float64(v) + damping))
	}
	return out
}

// inverted is (X + damping I)⁻¹ of X[n,n], in float64.
func inverted(x []float32, n int, damping float64) ([]float32, error) {
	m := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			m.SetSym(i, j, (float64(x[i*n+j])+float64(x[j*n+i]))/2)
		}
		m.SetSym(i, i, m.At(i, i)+damping)
	}
	var c mat.Cholesky
	if !c.Factorize(m) {
		return nil, usage.Errorf("a factor of side %d is not positive definite with the damping %.2g in float32; take a larger one", n, damping)
	}
	var inv mat.SymDense
	if err := c.InverseTo(&inv); err != nil {
		return nil, usage.Errorf("a factor of side %d is singular with the damping %.2g: %w; take a larger one", n, damping, err)
	}
	out := make([]float32, n*n)
	for i := range n {
		for j := range n {
			out[i*n+j] = float32(inv.At(i, j))
		}
	}
	return out, nil
}

// Apply computes z ← M⁻¹ r of r[|θ|].
func (k *KFAC) Apply(r, z device.Ptr) {
	s := k.s
	at := func(p device.Ptr, size int) tensor.Tensor { return tensor.Tensor{Shape: []int{size}, P: p} }
	for _, b := range k.blocks {
		f := b.f
		from, to := at(r.Add(4*f.Param.Off), f.Param.Len), at(z.Add(4*f.Param.Off), f.Param.Len)
		switch {
		case f.D != nil:
			kernel.Multiply(s, from, at(b.d, f.Param.Len), to)
		case f.In == 0:
			kernel.ConvForward(s, k.work, b.square, from, at(b.g, f.Out*f.Out), to)
		default:
			t := at(k.t, f.Param.Len)
			if f.A != nil {
				kernel.ConvForward(s, k.work, b.in, from, at(b.a, f.In*f.In), t)
			} else {
				none := tensor.Tensor{}
				kernel.ActForward(s, kernel.Act{N: f.Out, H: 1, W: 1, C: f.In}, from, at(b.a, f.In), none, none, t, 0)
			}
			kernel.ConvBackwardWeight(s, k.work, b.square, t, at(b.g, f.Out*f.Out), to)
		}
	}
}
