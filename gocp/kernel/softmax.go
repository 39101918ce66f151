package kernel

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// rowsPerBlock keeps a block of softmax at a few thousand exponentials.
func rowsPerBlock(k int) int { return max(1, 1024/max(k, 1)) }

// Softmax writes p[n,k] = softmax of the rows of z[n,k].
func Softmax(s *device.Stream, n, k int, z, p tensor.Tensor) {
	const name = "Softmax"
	if !check(s, name, n, k) || n*k == 0 ||
		!checkTensors(s, name, operand{"z", z, n * k, false}, operand{"p", p, n * k, false}) {
		return
	}
	grid := blocks(n, rowsPerBlock(k))
	if p.T != 0 {
		s.Launch("softmax_dual", grid, threads, device.I64(n), device.I32(k),
			device.P(z.P), device.P(z.T), device.P(p.P), device.P(p.T))
		return
	}
	s.Launch("softmax_f32", grid, threads, device.I64(n), device.I32(k),
		device.P(z.P), device.P(p.P))
}

// SoftmaxXent writes the cross entropy loss[n] of the logits z[n,k] against int32 labels[n], and
// the gradient dz[n,k] of the summed loss. Either output may be absent. A label outside 0 … k-1
// makes its row NaN.
func SoftmaxXent(s *device.Stream, n, k int, z tensor.Tensor, labels device.Ptr, loss, dz tensor.Tensor) {
	const name = "SoftmaxXent"
	if !check(s, name, n, k) || n == 0 || !checkTensors(s, name, operand{"z", z, n * k, false},
		operand{"loss", loss, n, true}, operand{"dz", dz, n * k, true}) {
		return
	}
	switch {
	case k == 0:
		fail(s, name, "no classes")
		return
	case labels == 0:
		fail(s, name, "labels are absent")
		return
	case loss.Absent() && dz.Absent():
		return
	}
	grid := blocks(n, rowsPerBlock(k))
	if loss.T != 0 || dz.T != 0 {
		s.Launch("softmax_xent_dual", grid, threads, device.I64(n), device.I32(k),
			device.P(z.P), device.P(z.T), device.P(labels),
			device.P(loss.P), device.P(loss.T), device.P(dz.P), device.P(dz.T))
		return
	}
	s.Launch("softmax_xent_f32", grid, threads, device.I64(n), device.I32(k),
		device.P(z.P), device.P(labels), device.P(loss.P), device.P(dz.P))
}
