package attack

import (
	"math"
	"sort"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/train"
)

// rank orders the pool's images m of class y, the best bases first.
func (v *Solver) rank(y int, m []int) ([]int, error) {
	switch v.cfg.Bases {
	case BasesRandom:
		out := make([]int, len(m))
		for i, j := range rng.New(v.p.Seed, rng.Stream("bases", uint64(y))).Perm(len(m)) {
			out[i] = m[j]
		}
		return out, nil
	case BasesGradNorm:
		norms, err := v.gradientNorms(m)
		if err != nil {
			return nil, err
		}
		return sortBy(m, func(i int) float64 { return -norms[i] }), nil
	case BasesAlignment:
		cos, err := v.alignments(m)
		if err != nil {
			return nil, err
		}
		return sortBy(m, func(i int) float64 { return -cos[i] }), nil
	default:
		d, err := v.distances(m)
		if err != nil {
			return nil, err
		}
		return sortBy(m, func(i int) float64 { return d[i] }), nil
	}
}

// sortBy returns m with m[i] in rising order of key(i), ties in their old order.
func sortBy(m []int, key func(i int) float64) []int {
	at := make([]int, len(m))
	for i := range at {
		at[i] = i
	}
	sort.SliceStable(at, func(a, b int) bool { return key(at[a]) < key(at[b]) })
	out := make([]int, len(m))
	for i, j := range at {
		out[i] = m[j]
	}
	return out
}

// distances returns how far the images m are from the nearest attacked target in penultimate
// features: squared Euclidean, in units of the mean over m, so that surrogates weigh the same, and
// averaged over surrogates.
func (v *Solver) distances(m []int) ([]float64, error) {
	images := v.p.Pool.Select(m).Pixels
	targets := 0
	for _, t := range v.p.Targets {
		if !t.Bystander {
			images = append(images, t.Image...)
			targets++
		}
	}
	out := make([]float64, len(m))
	for _, f := range v.fields {
		p, err := train.Predict(v.s, f.Model, images, v.p.Precision)
		if err != nil {
			return nil, err
		}
		dim := len(p.Features) / (len(m) + targets)
		row := func(i int) []float32 { return p.Features[i*dim : (i+1)*dim] }
		d := make([]float64, len(m))
		var mean float64
		for i := range m {
			for t := range targets {
				if e := squaredDistance(row(i), row(len(m)+t)); t == 0 || e < d[i] {
					d[i] = e
				}
			}
			mean += d[i] / float64(len(m))
		}
		if mean == 0 {
			continue // all the same: nothing to tell them apart by
		}
		for i := range d {
			out[i] += d[i] / mean
		}
	}
	return out, nil
}

func squaredDistance(a, b []float32) float64 {
	var s float64
	for i := range a {
		d := float64(a[i]) - float64(b[i])
		s += d * d
	}
	return s
}

// gradientNorms returns ‖∇_θ l(x, y)‖ of the pool's images m, mean over surrogates.
func (v *Solver) gradientNorms(m []int) ([]float64, error) {
	images, out := v.p.Pool.Select(m), make([]float64, len(m))
	for _, f := range v.fields {
		norms, err := v.norms(f, images)
		if err != nil {
			return nil, err
		}
		for i, n := range norms {
			out[i] += n / float64(len(v.fields))
		}
	}
	return out, nil
}

// norms returns ‖∇_θ l(x, y)‖ of images on surrogate f.
func (v *Solver) norms(f *field, images Images) ([]float64, error) {
	s, n := v.s, images.Len()
	defer s.Scope()()
	pixels, labels := uploaded(s, images.Pixels), uploaded(s, images.Labels)
	batch := min(craftBatch, n)
	x := tensor.New(s, batch, images.H, images.W, images.C)
	squares := s.Alloc(4 * n)
	net := nn.NewNet(s, f.Model.Spec, batch, nn.Options{Precision: v.p.Precision, Persample: true})
	each := nn.NewPersample(net)
	for at := 0; at < n; at += batch {
		b := min(batch, n-at)
		xb := x.Slice(0, b, images.H, images.W, images.C)
		kernel.Gather(s, pixels.Add(at*images.Size()), 0, kernel.Augmentation{}, b, images.H, images.W, images.C, xb)
		net.Forward(nn.Pass{Mode: nn.Eval, Theta: f.theta.Primal(), Running: f.running, X: xb})
		_, dlogits := net.Loss(labels.Add(4 * at))
		net.Backward(dlogits, tensor.Tensor{}, tensor.Tensor{})
		each.SqNorm(dlogits, squares.Add(4*at))
	}
	square, out := make([]float32, n), make([]float64, n)
	if err := device.Download(s, square, squares); err != nil {
		return nil, err
	}
	for i, q := range square {
		out[i] = math.Sqrt(float64(q))
	}
	return out, nil
}
