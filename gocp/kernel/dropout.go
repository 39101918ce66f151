package kernel

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// DropoutStream is the Philox stream from which a network's dropout of that number draws.
func DropoutStream(layer int) uint64 { return 0x64726f70 | uint64(layer)<<32 }

// Dropout computes y = x/(1−rate) where a draw in [0,1) is at least rate, and 0 elsewhere. It is its
// own adjoint. Element i takes word i mod 4 of Philox block step·2³² + i/4 of stream
// DropoutStream(layer), for the step that the device holds at step (uint64): as long as that is the
// same, so are the draws, in both planes and in every pass. y may be x.
func Dropout(s *device.Stream, seed uint64, layer int, step device.Ptr, rate float64, x, y tensor.Tensor) {
	const name = "Dropout"
	n := x.Len()
	if !check(s, name, n, layer) || n == 0 || !present(s, name, "step", step) ||
		!checkTensors(s, name, operand{"x", x, n, false}, operand{"y", y, n, false}) {
		return
	}
	if !(rate >= 0 && rate < 1) {
		fail(s, name, "rate %v, want 0 ≤ rate < 1", rate)
		return
	}
	if y.T != 0 && x.T == 0 {
		zero(s, y.T, n)
		y.T = 0
	}
	if y.Absent() {
		return
	}
	if y.P != 0 && x.P == 0 {
		fail(s, name, "x is absent")
		return
	}
	s.Launch("dropout", blocks(n, perBlock/4), threads, device.I64(n), device.I64(int(seed)), device.I64(int(DropoutStream(layer))),
		device.P(step), device.F32(rate), device.F32(1/(1-rate)),
		device.P(x.P), device.P(x.T), device.P(y.P), device.P(y.T))
}
