package nn

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// gaussNewton is Gv: after a pass in floats and a replay of its forward half, or after one in dual numbers.
func (f *fixture) gaussNewton(t *testing.T, v []float32, replay bool) []float32 {
	t.Helper()
	pass, dtheta := f.pass(), tensor.New(f.s, len(f.host))
	if replay {
		f.net.Forward(pass)
	}
	device.Upload(f.s, f.theta.T, v)
	pass.Theta.T, pass.Replay = f.theta.T, replay
	f.net.Forward(pass)
	_, dlogits := f.net.Loss(f.labels)
	f.net.BackwardGaussNewton(dlogits, dtheta)
	return download(t, f.s, dtheta)
}

// logits64 are the logits of the float64 reference, with their derivatives along u and v.
func (f *fixture) logits64(u, v []float32) []hyper {
	logits, _ := f.reference(hypers(f.host, u, v), hypers(f.pixels, nil, nil))
	return logits
}

// outer is Σ_n (Ju)ᵀ H_out (Jv), H_out = diag(p) − p pᵀ, of logits [n,k] with the derivatives Ju and Jv.
func outer(logits []hyper, k int) (sum float64) {
	for i := 0; i < len(logits); i += k {
		row := logits[i : i+k]
		top := slices.MaxFunc(row, func(a, b hyper) int {
			if a.a < b.a {
				return -1
			}
			return 1
		}).a
		var total, uv, pu, pv float64
		for _, z := range row {
			total += math.Exp(z.a - top)
		}
		for _, z := range row {
			p := math.Exp(z.a-top) / total
			uv, pu, pv = uv+p*z.u*z.v, pu+p*z.u, pv+p*z.v
		}
		sum += uv - pu*pv
	}
	return sum
}

// uᵀGv of every network is that of the float64 reference, G is symmetric, and vᵀGv is not negative.
func TestGaussNewton(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		gv, k := f.gaussNewton(t, f.v, true), f.net.spec.Classes
		norm := func(x []float32) float64 { return math.Sqrt(dot(x, x)) }
		tol := 4 * apart[kernel.F32].second // deep networks are here too
		params := f.net.spec.Params()
		for i, p := range params {
			each := (len(params) + 11) / 12
			if i%each != 0 {
				continue
			}
			lo, hi := p.Off, end(params[:min(i+each, len(params))])
			u := make([]float32, len(f.u))
			copy(u[lo:hi], f.u[lo:hi])
			want := outer(f.logits64(u, f.v), k)
			if e := math.Abs(dot(u, gv)-want) / (5 * (norm(gv[lo:hi]) + 1e-3*norm(gv))); !(e <= tol) {
				t.Errorf("%s: uᵀGv is %.2g from float64, allowed %.2g", p.Name, e, tol)
			}
		}
		gu := f.gaussNewton(t, f.u, true)
		if a, b := dot(f.u, gv), dot(f.v, gu); !(math.Abs(a-b) <= 1e-5*norm(f.u)*norm(gv)) {
			t.Errorf("uᵀGv = %g, vᵀGu = %g", a, b)
		}
		for _, v := range []struct{ v, gv []float32 }{{f.v, gv}, {f.u, gu}} {
			if c := dot(v.v, v.gv); !(c > 0) {
				t.Errorf("vᵀGv = %g", c)
			}
		}
		if e := testkit.Relative(f.gaussNewton(t, f.v, false), gv); !(e <= 2e-6) {
			t.Errorf("without a replay: relative difference %g", e)
		}
	})
}

// Products that follow each other on the same primals have the bits of the first, and a Hessian-vector
// product may stand between them.
func TestGaussNewtonAgain(t *testing.T) {
	eachFixture(t, func(t *testing.T, f *fixture) {
		want := f.gaussNewton(t, f.v, true)
		pass, dtheta := f.pass(), tensor.NewDual(f.s, len(f.host))
		f.net.Forward(pass)
		_, dlogits := f.net.Loss(f.labels)
		f.net.Backward(dlogits, dtheta, tensor.Tensor{})
		product := func(v []float32) {
			device.Upload(f.s, f.theta.T, v)
			pass.Theta.T, pass.Replay = f.theta.T, true
			f.net.Forward(pass)
			_, dlogits = f.net.Loss(f.labels)
		}
		product(f.v)
		f.net.Backward(dlogits, dtheta, tensor.Tensor{})
		hv := download(t, f.s, dtheta.Tangent())
		for range 2 {
			f.net.BackwardGaussNewton(dlogits, dtheta)
			if !slices.Equal(download(t, f.s, dtheta), want) {
				t.Fatal("other bits after a Hessian-vector product, or the second time")
			}
			product(f.u)
			f.net.BackwardGaussNewton(dlogits, dtheta)
			product(f.v)
		}
		if full, err := f.run(f.v, false); err != nil || !(testkit.Relative(hv, full.thetaDot) <= 2e-6) {
			t.Errorf("Hv beside it is not Hv: %v", err)
		}
	})
}

// The whole matrix of a network with few parameters, entry by entry, is that of J and H_out in float64.
func TestGaussNewtonDense(t *testing.T) {
	spec := Spec{Arch: "convnet", Stem: StemStride, Width: 1, Classes: 3, C: 1, H: 16, W: 16, Mean: []float64{.5}, Std: []float64{.25}}
	err := testkit.Open(t).Do(context.Background(), 1, func(s *device.Stream) error {
		f := newFixture(s, spec, Eval, 6, kernel.F32)
		if f == nil {
			return s.Err()
		}
		size := len(f.host)
		if size > 300 {
			t.Fatalf("%d parameters", size)
		}
		unit := func(i int) []float32 {
			e := make([]float32, size)
			e[i] = 1
			return e
		}
		jacobian := make([][]hyper, size)
		for i := range jacobian {
			jacobian[i] = f.logits64(unit(i), nil)
		}
		var got, want []float32
		for j := range size {
			got = append(got, f.gaussNewton(t, unit(j), true)...)
			for i := range size {
				both := slices.Clone(jacobian[i])
				for r := range both {
					both[r].v = jacobian[j][r].u
				}
				want = append(want, float32(outer(both, spec.Classes)))
			}
		}
		if e := testkit.Relative(got, want); !(e <= 2e-6) || dot(want, want) == 0 {
			t.Errorf("G of %d parameters: relative difference %g from float64", size, e)
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestGaussNewtonRefusals(t *testing.T) {
	err := testkit.Open(t).Do(context.Background(), 1, func(s *device.Stream) error {
		f := newFixture(s, toySpec(0), Eval, 2, kernel.F32)
		f.net.Forward(f.pass())
		_, dlogits := f.net.Loss(f.labels)
		f.net.BackwardGaussNewton(dlogits, tensor.New(s, len(f.host)))
		return s.Err()
	})
	if err == nil || !strings.Contains(err.Error(), "dual numbers") {
		t.Errorf("after a pass in floats: %v", err)
	}
}
