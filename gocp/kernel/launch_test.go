package kernel_test

import (
	"context"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/tensor"
)

// What cannot be launched fails the stream with a sentence that names the launcher and the shape.
func TestLaunchersRefuse(t *testing.T) {
	d := testkit.Open(t)
	var none tensor.Tensor
	a := kernel.Act{N: 2, H: 4, W: 4, C: 3, Activation: kernel.ReLU, Pool: 2}
	for _, c := range []struct {
		want string
		run  func(s *device.Stream)
	}{
		{"kernel Softmax: p has shape [2 4], want 6 elements", func(s *device.Stream) {
			kernel.Softmax(s, 2, 3, tensor.New(s, 2, 3), tensor.New(s, 2, 4))
		}},
		{"kernel Softmax: negative extent in [-1 3]", func(s *device.Stream) { kernel.Softmax(s, -1, 3, none, none) }},
		{"kernel SoftmaxXent: labels are absent", func(s *device.Stream) {
			kernel.SoftmaxXent(s, 2, 3, tensor.New(s, 2, 3), 0, tensor.New(s, 2), none)
		}},
		{"kernel SoftmaxXent: no classes", func(s *device.Stream) { kernel.SoftmaxXent(s, 2, 0, none, 0, tensor.New(s, 2), none) }},
		{"kernel ActForward: z is absent", func(s *device.Stream) { kernel.ActForward(s, a, none, none, none, none, tensor.New(s, 24), 0) }},
		{"kernel ActForward: pooling by 16, stride 0, padding 0; windows are 1 to 15 wide", func(s *device.Stream) {
			kernel.ActForward(s, kernel.Act{N: 1, H: 3, W: 3, C: 1, Pool: 16}, none, none, none, none, none, 0)
		}},
		{"kernel ActForward: pooling by 3 with padding 2; at most half of the window", func(s *device.Stream) {
			kernel.ActForward(s, kernel.Act{N: 1, H: 3, W: 3, C: 1, Pool: 3, Pad: 2}, none, none, none, none, none, 0)
		}},
		{"kernel ActForward: no window of 3 fits", func(s *device.Stream) {
			kernel.ActForward(s, kernel.Act{N: 1, H: 2, W: 3, C: 1, Pool: 3}, none, none, none, none, none, 0)
		}},
		{"kernel ActBackward: idx is absent", func(s *device.Stream) {
			kernel.ActBackward(s, a, tensor.New(s, 24), none, none, none, none, 0, tensor.New(s, 96), none)
		}},
		{"kernel ActBackward: z is absent", func(s *device.Stream) {
			p := tensor.New(s, 3)
			kernel.ActBackward(s, a, tensor.New(s, 24), none, none, p, p, s.Alloc(24), tensor.New(s, 96), none)
		}},
		{"kernel ActBackwardReduce: workspace has 8 bytes, wants", func(s *device.Stream) {
			kernel.ActBackwardReduce(s, kernel.NewWorkspace(s, 8), a, tensor.New(s, 24), none, s.Alloc(24), none, tensor.New(s, 3))
		}},
		{"kernel BNStats: no workspace", func(s *device.Stream) {
			kernel.BNStats(s, nil, 5, 3, tensor.New(s, 5, 3), tensor.New(s, 3), tensor.New(s, 3))
		}},
		{"kernel BNRunning: 1 rows", func(s *device.Stream) { kernel.BNRunning(s, 1, 3, 0.1, 1, 1, 1, 1) }},
		{"kernel Gather: src is absent", func(s *device.Stream) { kernel.Gather(s, 0, 0, kernel.Augmentation{}, 1, 2, 2, 1, tensor.New(s, 4)) }},
		{"3 and 4 channels are not 2 groups", func(s *device.Stream) {
			kernel.ConvForward(s, nil, kernel.Conv{N: 1, H: 1, W: 1, C: 3, K: 4, R: 1, S: 1, Stride: 1, Groups: 2}, none, none, none)
		}},
		{"4 and 3 channels are not 2 groups", func(s *device.Stream) {
			kernel.PersampleSqNorm(s, kernel.Conv{N: 1, H: 1, W: 1, C: 4, K: 3, R: 1, S: 1, Stride: 1, Groups: 2}, 1, 1, 1, nil)
		}},
		{"kernel AugmentDraw: step is absent", func(s *device.Stream) { kernel.AugmentDraw(s, 1, 0, 1, 4, true, s.Alloc(12)) }},
	} {
		err := d.Do(context.Background(), 1, func(s *device.Stream) error {
			c.run(s)
			return s.Err()
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

// Empty problems are no launch, and sums over nothing are zero.
func TestEmptyLaunches(t *testing.T) {
	onDevice(t, func(s *device.Stream) {
		var none tensor.Tensor
		kernel.Softmax(s, 0, 3, none, none)
		kernel.Gather(s, 0, 0, kernel.Augmentation{}, 0, 2, 2, 1, none)
		a := kernel.Act{N: 0, H: 4, W: 4, C: 3, Activation: kernel.ReLU, Pool: 2}
		kernel.ActForward(s, a, none, none, none, none, none, 0)
		kernel.ActBackward(s, a, none, none, none, none, none, 0, none, none)
		sum := tensor.Tensor{Shape: []int{3}, P: upload(s, []float32{1, 2, 3})}
		kernel.ActBackwardReduce(s, nil, a, none, none, 0, none, sum)
		for _, v := range download[float32](t, s, sum.P, 3) {
			if v != 0 {
				t.Errorf("a sum over nothing is %v", v)
			}
		}
	})
}
