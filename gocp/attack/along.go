package attack

import (
	"math"
	"slices"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
)

// A wish of a surrogate is the vector v that crafting goes along: ∇ℓ3, of second order (C + λI)⁻¹∇ℓ3.

// tangents are logits z [N,K] of images on a surrogate and their derivatives ż along its wish.
type tangents struct {
	k     int
	z, zd []float32
}

// along makes one pass of images in dual numbers θ* + κv through surrogate f.
func (v *Solver) along(f *field, images Images) (tangents, error) {
	s, n := v.s, f.grad.Len()
	defer s.Range("along the wish").End()
	defer s.Scope()()
	t := tangents{k: f.Model.Classes}
	t.z, t.zd = make([]float32, images.Len()*t.k), make([]float32, images.Len()*t.k)
	if images.Len() == 0 {
		return t, nil
	}
	batch := min(craftBatch, images.Len())
	s.Copy(f.theta.T, f.grad.P, 4*n)
	net := nn.NewNet(s, f.Model.Spec, batch, nn.Options{Precision: v.p.Precision, Dual: true, Forward: true})
	pixels, x := uploaded(s, images.Pixels), tensor.New(s, batch, images.H, images.W, images.C)
	for at := 0; at < images.Len(); at += batch {
		b := min(batch, images.Len()-at)
		xb := x.Slice(0, b, images.H, images.W, images.C)
		kernel.Gather(s, pixels.Add(at*images.Size()), 0, kernel.Augmentation{}, b, images.H, images.W, images.C, xb)
		z := net.Forward(nn.Pass{Mode: nn.Eval, Theta: f.theta, Running: f.running, X: xb})
		for _, part := range []struct {
			dst []float32
			src device.Ptr
		}{{t.z, z.P}, {t.zd, z.T}} {
			if err := device.Download(s, part.dst[at*t.k:(at+b)*t.k], part.src); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// slope is ⟨v, ∇_θ l(x_i, y)⟩ = Σ_j p_j (ż_j − ż_y), in which nothing cancels where p_y is near 1.
func (t tangents) slope(i, y int) float64 {
	return t.mean(i, func(j int) float64 { return float64(t.zd[i*t.k+j]) - float64(t.zd[i*t.k+y]) })
}

// miss is 1 − p_y of image i.
func (t tangents) miss(i, y int) float64 {
	return t.mean(i, func(j int) float64 {
		if j == y {
			return 0
		}
		return 1
	})
}

// mean is Σ_j p_j f(j) of image i.
func (t tangents) mean(i int, f func(j int) float64) float64 {
	z := t.z[i*t.k : (i+1)*t.k]
	top := float64(slices.Max(z))
	var sum, mean float64
	for j, a := range z {
		e := math.Exp(float64(a) - top)
		sum += e
		mean += e * f(j)
	}
	return mean / sum
}

// gain is ⟨v, ∇_θ l(x_i, to) − ∇_θ l(x_i, from)⟩ = ż_from − ż_to: how much further down the wish a step of training goes on
// image i once its label is turned.
func (t tangents) gain(i, from, to int) float64 {
	return float64(t.zd[i*t.k+from]) - float64(t.zd[i*t.k+to])
}

// wishNorm is ‖v‖ of surrogate f.
func (v *Solver) wishNorm(f *field) (float64, error) {
	defer v.s.Scope()()
	dot := v.s.Alloc(8)
	kernel.Norm2(v.s, f.grad.P, f.grad.Len(), dot, kernel.NewWorkspace(v.s, kernel.VectorBytes))
	var square [1]float64
	err := device.Download(v.s, square[:], dot)
	return math.Sqrt(square[0]), err
}

// leastMiss is the least 1 − p_y at which a gradient in float32 has a direction: below it p_y − 1 is rounding.
const leastMiss = 1e-5

// alignments returns the cosine of the wish and ∇_θ l(x, y) of the pool's images m, mean over surrogates. Where an image's
// gradient is zero or rounding it is 0.
func (v *Solver) alignments(m []int) ([]float64, error) {
	images, out := v.p.Pool.Select(m), make([]float64, len(m))
	for _, f := range v.fields {
		t, err := v.along(f, images)
		if err != nil {
			return nil, err
		}
		wish, err := v.wishNorm(f)
		if err != nil {
			return nil, err
		}
		norms, err := v.norms(f, images)
		if err != nil {
			return nil, err
		}
		for i, y := range images.Labels {
			if norms[i] > 0 && t.miss(i, int(y)) >= leastMiss {
				out[i] += t.slope(i, int(y)) / norms[i] / wish / float64(len(v.fields))
			}
		}
	}
	return out, nil
}
