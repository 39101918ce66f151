package kernel

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// AvgPool is the average of images [N,H,W,C] over windows that cover them, OutH × OutW of them: window
// i of a dimension takes places ⌊i·H/OutH⌋ to ⌈(i+1)·H/OutH⌉ − 1, as PyTorch's AdaptiveAvgPool2d does.
// 1 × 1 is the global average.
type AvgPool struct {
	N, H, W, C int
	OutH, OutW int
}

// In and Out return the numbers of elements before and after.
func (a AvgPool) In() int  { return a.N * a.H * a.W * a.C }
func (a AvgPool) Out() int { return a.N * a.OutH * a.OutW * a.C }

// AvgPoolForward computes the averages y[N,OutH,OutW,C] of x[N,H,W,C].
func AvgPoolForward(s *device.Stream, a AvgPool, x, y tensor.Tensor) {
	const name = "AvgPoolForward"
	if a.check(s, name) && checkTensors(s, name, operand{"x", x, a.In(), false}, operand{"y", y, a.Out(), false}) {
		a.launch(s, "avgpool_forward", x, y, a.Out())
	}
}

// AvgPoolBackward computes dx[N,H,W,C], the adjoint of AvgPoolForward applied to dy[N,OutH,OutW,C].
func AvgPoolBackward(s *device.Stream, a AvgPool, dy, dx tensor.Tensor) {
	const name = "AvgPoolBackward"
	if a.check(s, name) && checkTensors(s, name, operand{"dy", dy, a.Out(), false}, operand{"dx", dx, a.In(), false}) {
		a.launch(s, "avgpool_backward", dy, dx, a.In())
	}
}

func (a AvgPool) check(s *device.Stream, name string) bool {
	if !check(s, name, a.N, a.H, a.W, a.C) {
		return false
	}
	if a.In() > 0 && (a.OutH < 1 || a.OutW < 1) {
		fail(s, name, "%+v has no output", a)
		return false
	}
	return a.In() > 0
}

// launch applies a linear kernel to each plane that the result has.
func (a AvgPool) launch(s *device.Stream, kernel string, from, to tensor.Tensor, n int) {
	for _, plane := range [][2]device.Ptr{{from.P, to.P}, {from.T, to.T}} {
		switch {
		case plane[1] == 0:
		case plane[0] == 0:
			zero(s, plane[1], n)
		default:
			s.Launch(kernel, blocks(a.In()+a.Out(), perBlock), threads,
				device.I32(a.N), device.I32(a.H), device.I32(a.W), device.I32(a.C), device.I32(a.OutH), device.I32(a.OutW),
				device.P(plane[0]), device.P(plane[1]))
		}
	}
}
