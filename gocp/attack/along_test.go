package attack

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/train"
)

// gradientOf is ∇_θ l(x, y) of one image by a backward pass of its own.
func (v *Solver) gradientOf(f *field, image []uint8, y int32) ([]float32, error) {
	s, n, p := v.s, f.grad.Len(), v.p.Pool
	defer s.Scope()()
	net := nn.NewNet(s, f.Model.Spec, 1, nn.Options{Precision: v.p.Precision})
	x, g := tensor.New(s, 1, p.H, p.W, p.C), tensor.New(s, n)
	kernel.Gather(s, uploaded(s, image), 0, kernel.Augmentation{}, 1, p.H, p.W, p.C, x)
	net.Forward(nn.Pass{Mode: nn.Eval, Theta: f.theta.Primal(), Running: f.running, X: x})
	_, dlogits := net.Loss(uploaded(s, []int32{y}))
	net.Backward(dlogits, g, tensor.Tensor{})
	out := make([]float32, n)
	return out, device.Download(s, out, g.P)
}

func dot64(a, b []float32) float64 {
	var sum float64
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// Slopes of every label from one dual forward pass are the inner products, in float64, of the wish with gradients that
// backward passes made, and so are the gains of turning one label into another; alignments are their cosines.
func TestSlopesAreInnerProductsWithGradients(t *testing.T) {
	for _, batchNorm := range []bool{false, true} {
		for _, cfg := range []Config{{}, {Order: 2}} {
			onDevice(t, func(s *device.Stream) error {
				v, err := NewSolver(s, task(t, batchNorm), cfg)
				if err != nil {
					return err
				}
				m := []int{3, 0, 17, 8, 31}
				images := v.p.Pool.Select(m)
				cosines, sure := make([]float64, len(m)), 0
				for _, f := range v.fields {
					wish := make([]float32, f.grad.Len())
					if err := device.Download(s, wish, f.grad.P); err != nil {
						return err
					}
					long := math.Sqrt(dot64(wish, wish))
					slopes, err := v.along(f, images)
					if err != nil {
						return err
					}
					for i := range m {
						var inner [4]float64
						for y := range inner {
							g, err := v.gradientOf(f, images.At(i), int32(y))
							if err != nil {
								return err
							}
							size := math.Sqrt(dot64(g, g))
							inner[y] = dot64(wish, g)
							miss := slopes.miss(i, y)
							// Backward passes begin with p_y − 1 in float32, of which rounding takes 6e-8.
							if got := slopes.slope(i, y); math.Abs(got-inner[y]) > (1e-5+2e-7/miss)*long*size {
								t.Errorf("batch norm %v, order %d, image %d, label %d: slope %v, inner product %v", batchNorm, v.cfg.Order, i, y, got, inner[y])
							}
							if miss > .01 {
								sure++
							}
							if y == int(images.Labels[i]) && miss >= leastMiss {
								cosines[i] += inner[y] / long / size / float64(len(v.fields))
							}
						}
						from := int(images.Labels[i])
						for to := range inner {
							if got, want := slopes.gain(i, from, to), inner[to]-inner[from]; math.Abs(got-want) > 1e-4*(math.Abs(inner[to])+math.Abs(inner[from])) {
								t.Errorf("batch norm %v, order %d, image %d: gain of %d into %d is %v, difference of inner products %v", batchNorm, v.cfg.Order, i, from, to, got, want)
							}
						}
					}
				}
				if sure < 20 {
					t.Errorf("only %d gradients are large enough to tell", sure)
				}
				got, err := v.alignments(m)
				if err != nil {
					return err
				}
				for i, c := range cosines {
					if math.Abs(got[i]-c) > 1e-3 {
						t.Errorf("batch norm %v, order %d, image %d: alignment %v, cosine of the gradients %v", batchNorm, v.cfg.Order, i, got[i], c)
					}
				}
				return nil
			})
		}
	}
}

func TestBasesByAlignment(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		v, err := NewSolver(s, task(t, false), Config{Bases: BasesAlignment})
		if err != nil {
			return err
		}
		m := v.p.members(1)
		rank, err := v.rank(1, m)
		if err != nil {
			return err
		}
		cos, err := v.alignments(rank)
		if err != nil {
			return err
		}
		if !slices.IsSortedFunc(cos, func(a, b float64) int { return -cmp.Compare(a, b) }) || cos[0] <= cos[len(cos)-1] {
			t.Errorf("alignments of the ranked images %v", cos)
		}
		return nil
	})
}

// Each diverse base is, of the candidates, the farthest from those before it, by distances that are computed anew.
func TestDiverseBasesLieApart(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		v, err := NewSolver(s, task(t, false), Config{Diverse: true})
		if err != nil {
			return err
		}
		rank, err := v.rank(1, v.p.members(1))
		if err != nil {
			return err
		}
		const n = 3
		got, err := v.diverse(rank, n)
		if err != nil {
			return err
		}
		among := rank[:min(len(rank), diverseOf*n)]
		var rows [][][]float64 // by surrogate and candidate, in units of the root mean square distance from the mean
		for _, f := range v.fields {
			p, err := train.Predict(s, f.Model, v.p.Pool.Select(among).Pixels, v.p.Precision)
			if err != nil {
				return err
			}
			dim, pairs := len(p.Features)/len(among), 0.0
			row := func(i int) []float32 { return p.Features[i*dim : (i+1)*dim] }
			for i := range among {
				for j := range among {
					pairs += squaredDistance(row(i), row(j))
				}
			}
			unit := math.Sqrt(pairs / 2 / float64(len(among)*len(among)))
			var r [][]float64
			for i := range among {
				var x []float64
				for _, a := range row(i) {
					x = append(x, float64(a)/unit)
				}
				r = append(r, x)
			}
			rows = append(rows, r)
		}
		near := func(i int, chosen []int) float64 {
			least := math.Inf(1)
			for _, c := range chosen {
				var d float64
				for _, r := range rows {
					for k := range r[i] {
						e := r[i][k] - r[slices.Index(among, c)][k]
						d += e * e
					}
				}
				least = math.Min(least, d)
			}
			return least
		}
		if len(got) != n || got[0] != rank[0] {
			t.Fatalf("bases %v of %v", got, rank)
		}
		for k := 1; k < n; k++ {
			have := near(slices.Index(among, got[k]), got[:k])
			for i := range among {
				if d := near(i, got[:k]); d > have*(1+1e-6) {
					t.Errorf("base %d of %v lies %v from those before it, %d lies %v", k, got, have, among[i], d)
				}
			}
		}
		all, err := v.diverse(rank, len(rank)) // all there are
		if slices.Sort(all); err != nil || !slices.Equal(all, slices.Sorted(slices.Values(rank))) {
			t.Errorf("%v, %v", all, err)
		}
		return nil
	})
}
