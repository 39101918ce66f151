package cases

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
)

func gathers() []Case {
	axes := []string{"n", "h", "w", "c", "index", "aug"} // aug: none, shifted with zeros, with reflection
	var tests []Shape
	for _, index := range []int{0, 1} {
		for _, aug := range []int{0, withZeros, reflected} {
			tests = append(tests, Dims(0, 4, 4, 3, index, aug), Dims(1, 1, 1, 1, index, aug), Dims(5, 7, 6, 3, index, aug),
				Dims(9, 5, 8, 1, index, aug), Dims(4, 3, 5, 17, index, aug),
				Dims(6, 2, 1, 4, index, aug))
		}
	}
	benches := []Shape{Dims(128, 32, 32, 3, 1, 1), Dims(128, 28, 28, 1, 1, 1), Dims(128, 32, 32, 3, 0, 0), Dims(128, 32, 32, 3, 1, reflected)}
	ints := []string{"n"}
	few := []Shape{Dims(0), Dims(1), Dims(13), Dims(5000)}
	return []Case{
		{Name: "Gather", Kernels: []string{"gather_u8"}, Axes: axes, Tests: tests, Benches: benches, New: newGather},
		{Name: "GatherF32", Kernels: []string{"gather_f32"}, Axes: axes, Tests: tests, Benches: benches, New: newGatherF32},
		{Name: "AugmentAdjoint", Kernels: []string{"augment_adjoint"}, Axes: axes, Tests: tests, Benches: benches, New: newAugmentAdjoint},
		{
			Name: "AugmentDraw", Kernels: []string{"augment_draw"}, Axes: []string{"n", "shift", "flip"},
			Tests: []Shape{Dims(0, 4, 1), Dims(1, 0, 0), Dims(257, 4, 1), Dims(1000, 28, 0)}, Benches: []Shape{Dims(128, 4, 1)}, New: newAugmentDraw,
		},
		{Name: "GatherInt32", Kernels: []string{"gather_i32"}, Axes: ints, Tests: few, Benches: few[2:], New: newGatherInt32},
	}
}

// A pool has more images than a batch takes.
const poolExtra = 3

// How a shape augments.
const (
	withZeros = 1 + iota // with zeros
	reflected            // with mirror images
)

func augmentation(sh Shape, b *Bound, draws *Buffer) kernel.Augmentation {
	return kernel.Augmentation{Draws: b.Ptr(draws), Reflect: sh.Dims[5] == reflected}
}

// placements makes the optional index and augmentation of a shape. Some shifts with zeros leave the
// image; those with reflection are of any size that is defined.
func placements(p *Problem, sh Shape, r *Rand) (index, aug *Buffer) {
	n, h, w := sh.Dims[0], sh.Dims[1], sh.Dims[2]
	if sh.Dims[4] == 1 {
		index = Const(p, "index", r.Ints(n, 0, n+poolExtra))
	}
	if sh.Dims[5] != 0 {
		a := make([]int32, 3*n)
		for i := range n {
			if sh.Dims[5] == reflected {
				a[3*i], a[3*i+1], a[3*i+2] = int32(r.Int(2*w-1)-w+1), int32(r.Int(2*h-1)-h+1), int32(r.Int(2))
				continue
			}
			a[3*i], a[3*i+1], a[3*i+2] = int32(r.Int(2*h+3)-h-1), int32(r.Int(2*h+3)-h-1), int32(r.Int(2))
			if r.Int(3) > 0 {
				a[3*i], a[3*i+1] = int32(r.Int(5)-2), int32(r.Int(5)-2)
			}
		}
		aug = Const(p, "aug", a)
	}
	return index, aug
}

// eachPixel calls f with every number of x and the number of src it reads, or -1.
func eachPixel(sh Shape, index, aug []float64, f func(to, from int)) {
	n, h, w, c := sh.Dims[0], sh.Dims[1], sh.Dims[2], sh.Dims[3]
	for i := range n {
		image, dx, dy, flip := i, 0, 0, false
		if index != nil {
			image = int(index[i])
		}
		if aug != nil {
			dx, dy, flip = int(aug[3*i]), int(aug[3*i+1]), aug[3*i+2] != 0
		}
		for y := range h {
			for u := range w {
				row, col := y+dy, u
				if flip {
					col = w - 1 - u
				}
				col += dx
				if sh.Dims[5] == reflected {
					row, col = mirror(row, h), mirror(col, w)
				}
				for k := range c {
					from := -1
					if row >= 0 && row < h && col >= 0 && col < w {
						from = ((image*h+row)*w+col)*c + k
					}
					f(((i*h+y)*w+u)*c+k, from)
				}
			}
		}
	}
}

// mirror is place v of n places that go on as their mirror images.
func mirror(v, n int) int {
	for v < 0 || v >= n {
		if v < 0 {
			v = -v
		} else {
			v = 2*(n-1) - v
		}
	}
	return v
}

func newGather(sh Shape, r *Rand) *Problem {
	n, h, w, c := sh.Dims[0], sh.Dims[1], sh.Dims[2], sh.Dims[3]
	size := n * h * w * c
	p := &Problem{Bytes: 5 * float64(size), FLOPs: float64(size)}
	src := Const(p, "src", r.Bytes((n+poolExtra)*h*w*c))
	index, aug := placements(p, sh, r)
	x := OutConst[float32](p, "x", Tol{Rel: 6e-8, Why: "one division"}, n, h, w, c)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.Gather(s, b.Ptr(src), b.Ptr(index), augmentation(sh, b, aug), n, h, w, c, b.Tensor(x))
	}
	p.Ref = func(v *Values) {
		eachPixel(sh, v.F(index), v.F(aug), func(to, from int) {
			if from >= 0 {
				v.F(x)[to] = v.F(src)[from] / 255
			}
		})
	}
	return p
}

func newGatherF32(sh Shape, r *Rand) *Problem {
	n, h, w, c := sh.Dims[0], sh.Dims[1], sh.Dims[2], sh.Dims[3]
	size := n * h * w * c
	p := &Problem{Bytes: 8 * float64(size), FLOPs: float64(size)}
	src := Const(p, "src", r.Normal((n+poolExtra)*h*w*c))
	var delta *Buffer
	if (n+h)%2 == 0 || n > 64 { // with and without
		delta = Const(p, "delta", r.Normal((n+poolExtra)*h*w*c))
		p.Bytes += 4 * float64(size)
	}
	index, aug := placements(p, sh, r)
	x := OutConst[float32](p, "x", Tol{Rel: 6e-8, Why: "one sum"}, n, h, w, c)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.GatherF32(s, b.Ptr(src), b.Ptr(delta), b.Ptr(index), augmentation(sh, b, aug), n, h, w, c, b.Tensor(x))
	}
	p.Ref = func(v *Values) {
		eachPixel(sh, v.F(index), v.F(aug), func(to, from int) {
			if from < 0 {
				return
			}
			v.F(x)[to] = v.F(src)[from]
			if delta != nil {
				v.F(x)[to] += v.F(delta)[from]
			}
		})
	}
	return p
}

// newAugmentAdjoint names the images as an input that no launch reads: dsrc is the gradient of
// ⟨dx, augmented images⟩ with respect to them.
func newAugmentAdjoint(sh Shape, r *Rand) *Problem {
	n, h, w, c := sh.Dims[0], sh.Dims[1], sh.Dims[2], sh.Dims[3]
	size := n * h * w * c
	p := &Problem{Replay: true, Bytes: 8 * float64(size)}
	dx, src := p.Diff("dx", r.Normal(size), n, h, w, c), p.Diff("src", r.Normal(size), n, h, w, c)
	_, aug := placements(p, sh, r)
	tol := exact
	if sh.Dims[5] == reflected {
		tol = Tol{Rel: 4e-7, Abs: 1e-6, Why: "sums of up to nine numbers"}
	}
	dsrc := p.Out("dsrc", tol, n, h, w, c)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.AugmentAdjoint(s, n, h, w, c, augmentation(sh, b, aug), b.Tensor(dx), b.Tensor(dsrc))
	}
	p.Ref = func(v *Values) {
		eachPixel(sh, nil, v.F(aug), func(to, from int) {
			if from >= 0 {
				v.F(dsrc)[from] += v.F(dx)[to]
			}
		})
	}
	p.Gradients = []Gradient{{dsrc, src, func(v *Values) float64 {
		sum := 0.0
		eachPixel(sh, nil, v.F(aug), func(to, from int) {
			if from >= 0 {
				sum += v.F(dx)[to] * v.F(src)[from]
			}
		})
		return sum
	}}}
	return p
}

func newAugmentDraw(sh Shape, r *Rand) *Problem {
	n, shift, flip := sh.Dims[0], sh.Dims[1], sh.Dims[2] == 1
	const seed, at = 0xfedcba9876543210, 1<<31 + 12345
	p := &Problem{Bytes: 12 * float64(n), FLOPs: 60 * float64(n)}
	step := Const(p, "step", []uint64{at})
	aug := OutConst[int32](p, "aug", exact, n, 3)
	p.Run = func(s *device.Stream, b *Bound) {
		kernel.AugmentDraw(s, seed, b.Ptr(step), n, shift, flip, b.Ptr(aug))
	}
	p.Ref = func(v *Values) {
		for i := range n {
			words := rng.Block(seed, 0x6175676d, at<<32|uint64(i))
			for j := range 2 {
				v.F(aug)[3*i+j] = float64(uint64(words[j])*uint64(2*shift+1)>>32) - float64(shift)
			}
			if flip {
				v.F(aug)[3*i+2] = float64(words[2] >> 31)
			}
		}
	}
	return p
}

func newGatherInt32(sh Shape, r *Rand) *Problem {
	n := sh.Dims[0]
	p := &Problem{Bytes: 12 * float64(n)}
	src, index := Const(p, "src", r.Ints(n+poolExtra, -1000, 1000)), Const(p, "index", r.Ints(n, 0, n+poolExtra))
	dst := OutConst[int32](p, "dst", exact, n)
	p.Run = func(s *device.Stream, b *Bound) { kernel.GatherInt32(s, b.Ptr(src), b.Ptr(index), n, b.Ptr(dst)) }
	p.Ref = func(v *Values) {
		for i, j := range v.F(index) {
			v.F(dst)[i] = v.F(src)[int(j)]
		}
	}
	return p
}
