package kernel

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// lineBlocks is the grid of kernels that walk n images of h lines.
func lineBlocks(n, h, w, c int) int { return blocks(n*h, max(1, 4096/max(w*c, 1))) }

// Augmentation is how a batch's images are shifted and flipped: x[i][y][u] is the source's
// [y+dy_i][u+dx_i], with w−1−u for u where flip_i. The zero value leaves them as they are.
type Augmentation struct {
	Draws device.Ptr // int32 [n,3] = dx, dy, flip; may be absent
	// Reflect continues images by their mirror images, about the outermost pixels, and not by zeros;
	// then |dx| < w and |dy| < h.
	Reflect bool
}

// At is the augmentation of the batch's images from number i on.
func (a Augmentation) At(i int) Augmentation {
	if a.Draws != 0 {
		a.Draws = a.Draws.Add(4 * 3 * i)
	}
	return a
}

// Gather writes x[n,h,w,c] = src[index]/255 of uint8 images [·,h,w,c], augmented. index, int32 [n],
// may be absent: 0 … n−1.
func Gather(s *device.Stream, src, index device.Ptr, aug Augmentation, n, h, w, c int, x tensor.Tensor) {
	const name = "Gather"
	if !check(s, name, n, h, w, c) || n*h*w*c == 0 || !present(s, name, "src", src) ||
		!checkTensors(s, name, operand{"x", x.Primal(), n * h * w * c, false}) {
		return
	}
	s.Launch("gather_u8", lineBlocks(n, h, w, c), threads,
		device.I32(n), device.I32(h), device.I32(w), device.I32(c),
		device.P(src), device.P(index), device.P(aug.Draws), device.I32(boolean(aug.Reflect)), device.P(x.P))
}

// GatherF32 is Gather of float32 images as they are, with delta, another array of the same
// layout, added before the shift; it may be absent.
func GatherF32(s *device.Stream, src, delta, index device.Ptr, aug Augmentation, n, h, w, c int, x tensor.Tensor) {
	const name = "GatherF32"
	if !check(s, name, n, h, w, c) || n*h*w*c == 0 || !present(s, name, "src", src) ||
		!checkTensors(s, name, operand{"x", x.Primal(), n * h * w * c, false}) {
		return
	}
	s.Launch("gather_f32", lineBlocks(n, h, w, c), threads,
		device.I32(n), device.I32(h), device.I32(w), device.I32(c),
		device.P(src), device.P(delta), device.P(index), device.P(aug.Draws), device.I32(boolean(aug.Reflect)), device.P(x.P))
}

// AugmentAdjoint applies the adjoint of Gather's shift and flip: from dx[n,h,w,c], the gradient with
// respect to the augmented images, to that of the images, dsrc. It acts on each plane that
// dsrc has.
func AugmentAdjoint(s *device.Stream, n, h, w, c int, aug Augmentation, dx, dsrc tensor.Tensor) {
	const name = "AugmentAdjoint"
	size := n * h * w * c
	if !check(s, name, n, h, w, c) || size == 0 || !checkTensors(s, name,
		operand{"dx", dx, size, false}, operand{"dsrc", dsrc, size, false}) {
		return
	}
	for _, plane := range [][2]device.Ptr{{dx.P, dsrc.P}, {dx.T, dsrc.T}} {
		switch {
		case plane[1] == 0:
		case plane[0] == 0:
			zero(s, plane[1], size)
		default:
			s.Launch("augment_adjoint", lineBlocks(n, h, w, c), threads,
				device.I32(n), device.I32(h), device.I32(w), device.I32(c),
				device.P(aug.Draws), device.I32(boolean(aug.Reflect)), device.P(plane[0]), device.P(plane[1]))
		}
	}
}

// AugmentDraw draws an Augmentation's, int32 [n,3], for the step that the device holds at step (uint64): dx and dy
// uniform in −maxShift … maxShift, flip a fair coin, or 0 without it. A draw depends on the
// seed, the step and the position in the batch alone.
func AugmentDraw(s *device.Stream, seed uint64, step device.Ptr, n, maxShift int, flip bool, aug device.Ptr) {
	const name = "AugmentDraw"
	if !check(s, name, n, maxShift) || n == 0 || !present(s, name, "step", step) || !present(s, name, "aug", aug) {
		return
	}
	s.Launch("augment_draw", blocks(n, 256), threads, device.I32(n), device.I64(int(seed)),
		device.P(step), device.I32(maxShift), device.I32(boolean(flip)), device.P(aug))
}

// GatherInt32 writes dst[i] = src[index_i], i < n.
func GatherInt32(s *device.Stream, src, index device.Ptr, n int, dst device.Ptr) {
	const name = "GatherInt32"
	if !check(s, name, n) || n == 0 || !present(s, name, "src", src) ||
		!present(s, name, "index", index) || !present(s, name, "dst", dst) {
		return
	}
	s.Launch("gather_i32", blocks(n, 4096), threads, device.I64(n),
		device.P(src), device.P(index), device.P(dst))
}

// present fails when a buffer that must be there is absent.
func present(s *device.Stream, name, what string, p device.Ptr) bool {
	if p == 0 {
		fail(s, name, "%s is absent", what)
	}
	return p != 0
}
