package kernel_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
)

// repetitive draws images with areas that are all one pixel, stripes and patches that come back, pixels of
// zero, and a quarter that is noise.
func repetitive(g kernel.Conv) []float32 {
	r := rng.New(21, 0)
	palette := make([][]float32, 6)
	for i := range palette {
		palette[i] = make([]float32, g.C)
		for c := range palette[i] {
			if palette[i][c] = float32(r.Normal()); i == 0 {
				palette[i][c] = 0
			}
		}
	}
	x := make([]float32, g.In())
	for n := range g.N {
		period, shift := 1+r.Intn(4), r.Intn(3)
		for y := range g.H {
			for q := range g.W {
				from := palette[1]
				switch {
				case y < g.H/2 && q < g.W/2: // patches
					from = palette[(q%period+period*(y%period)+n)%len(palette)]
				case y < g.H/2:
					from = palette[(q+shift*y)%(period+1)] // stripes
				case q < g.W/2 && r.Intn(40) == 0:
					from = palette[2+r.Intn(4)] // a spot on what is flat
				}
				to := x[((n*g.H+y)*g.W+q)*g.C:][:g.C]
				copy(to, from)
				if y >= g.H/2 && q >= g.W/2+2 {
					for c := range to {
						to[c] = float32(r.Normal())
					}
				}
			}
		}
	}
	return x
}

// windowsOf numbers the windows of image n: equal ones, of which zeros of the padding may be part, have
// the number of the first. It also returns how many have another's.
func windowsOf(g kernel.Conv, x []float32, n int) (first []int, repeats int) {
	seen := map[string]int{}
	for oy := range g.OutH() {
		for ox := range g.OutW() {
			var key []byte
			for r := range g.R {
				for s := range g.S {
					y, q := oy*g.Stride+r-g.Pad, ox*g.Stride+s-g.Pad
					for c := range g.C {
						var v float32
						if y >= 0 && y < g.H && q >= 0 && q < g.W {
							v = x[((n*g.H+y)*g.W+q)*g.C+c]
						}
						b := math.Float32bits(v)
						key = append(key, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
					}
				}
			}
			at := len(first)
			if i, ok := seen[string(key)]; ok {
				at = i
				repeats++
			} else {
				seen[string(key)] = at
			}
			first = append(first, at)
		}
	}
	return first, repeats
}

// Equal windows of an image give equal outputs, bit for bit, so that the first of equal maxima is the
// same for everyone (docs/math.md, §8): of every convolution, in floats and as primals of dual numbers.
func TestEqualWindowsGiveEqualOutputs(t *testing.T) {
	for _, g := range []kernel.Conv{
		{N: 3, H: 16, W: 16, C: 32, K: 64, R: 3, S: 3, Stride: 1, Pad: 1},
		{N: 2, H: 13, W: 10, C: 16, K: 16, R: 3, S: 3, Stride: 1, Pad: 1},
		{N: 2, H: 18, W: 17, C: 64, K: 32, R: 3, S: 3, Stride: 1, Pad: 0},
		{N: 4, H: 8, W: 8, C: 64, K: 128, R: 3, S: 3, Stride: 1, Pad: 1},
		{N: 2, H: 20, W: 20, C: 3, K: 16, R: 3, S: 3, Stride: 1, Pad: 1},
		{N: 2, H: 24, W: 24, C: 3, K: 16, R: 5, S: 5, Stride: 2, Pad: 2},
		{N: 2, H: 20, W: 19, C: 24, K: 40, R: 3, S: 3, Stride: 2, Pad: 1},
		{N: 1, H: 40, W: 37, C: 3, K: 32, R: 7, S: 7, Stride: 2, Pad: 3},
		{N: 2, H: 14, W: 14, C: 48, K: 33, R: 1, S: 1, Stride: 1, Pad: 0},
		{N: 2, H: 15, W: 15, C: 32, K: 32, R: 3, S: 3, Stride: 1, Pad: 1, Groups: 32},
		{N: 2, H: 15, W: 15, C: 32, K: 64, R: 3, S: 3, Stride: 2, Pad: 1, Groups: 2},
		{N: 2, H: 12, W: 11, C: 5, K: 7, R: 3, S: 3, Stride: 1, Pad: 1},
	} {
		x, w, dot := repetitive(g), normal(22, g.Weights()), normal(23, g.Weights())
		for _, g.Precision = range []kernel.Precision{kernel.F32, kernel.BF16, kernel.TF32} {
			for _, dual := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%dx%dx%d→%d,r=%d,stride=%d,groups=%d,dual=%v", g.Precision, g.H, g.W, g.C, g.K, g.R, g.Stride, g.Groups, dual), func(t *testing.T) {
					onDevice(t, func(s *device.Stream) {
						in := tensor.Tensor{P: upload(s, x), Shape: []int{g.In()}}
						weights := tensor.Tensor{P: upload(s, w), Shape: []int{g.Weights()}}
						out := tensor.New(s, g.Out())
						if dual {
							weights.T, out = upload(s, dot), tensor.NewDual(s, g.Out())
						}
						kernel.ConvForward(s, kernel.NewWorkspace(s, kernel.ConvBytes(s, g, dual)), g, in, weights, out)
						y := download[float32](t, s, out.P, g.Out())
						sameWindows(t, g, x, y)
						if g.OutH() < 2 || g.OutW() < 2 {
							return
						}
						a := kernel.Act{N: g.N, H: g.OutH(), W: g.OutW(), C: g.K, Pool: 2}
						picks := s.Alloc(a.Out())
						kernel.ActForward(s, a, out.Primal(), tensor.Tensor{}, tensor.Tensor{}, tensor.Tensor{}, tensor.New(s, a.Out()), picks)
						firstOfEqual(t, g, a, x, download[uint8](t, s, picks, a.Out()))
					})
				})
			}
		}
	}
}

// sameWindows fails where an output differs from that of the first window which equals its own.
func sameWindows(t *testing.T, g kernel.Conv, x, y []float32) {
	t.Helper()
	repeats, wrong := 0, 0
	for n := range g.N {
		first, again := windowsOf(g, x, n)
		repeats += again
		for at, from := range first {
			for k := range g.K {
				a, b := y[(n*len(first)+at)*g.K+k], y[(n*len(first)+from)*g.K+k]
				if a == b {
					continue
				}
				if wrong == 0 {
					t.Errorf("image %d, output %d of channel %d is %v; with the same window output %d is %v", n, at, k, a, from, b)
				}
				wrong++
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d outputs wrong", wrong)
	}
	if repeats < g.N*g.OutH()*g.OutW()/8 {
		t.Errorf("%d of %d windows repeat another: too few to see anything", repeats, g.N*g.OutH()*g.OutW())
	}
}

// firstOfEqual fails where pooling took an output although an earlier one of its window has an equal
// window of its own.
func firstOfEqual(t *testing.T, g kernel.Conv, a kernel.Act, x []float32, picks []uint8) {
	t.Helper()
	ties := 0
	for n := range g.N {
		first, _ := windowsOf(g, x, n)
		for at := range a.OutH() * a.OutW() {
			place := func(tap int) int {
				return (at/a.OutW()*2+tap/2)*a.W + at%a.OutW()*2 + tap%2
			}
			for k := range a.C {
				pick := int(picks[(n*a.OutH()*a.OutW()+at)*a.C+k])
				for tap := range pick {
					if first[place(tap)] == first[place(pick)] {
						t.Fatalf("image %d, window %d of channel %d: position %d was taken, and %d is its equal", n, at, k, pick, tap)
					}
				}
				if pick < 3 && first[place(pick)] == first[place(3)] {
					ties++
				}
			}
		}
	}
	if ties == 0 {
		t.Error("no ties")
	}
}
