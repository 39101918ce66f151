package kernel

import "testing"

// The 3×3 convolutions of a ResNet-18 on 32×32 images.
var resnet = []Conv{
	{N: 128, H: 32, W: 32, C: 64, K: 64, R: 3, S: 3, Stride: 1, Pad: 1},
	{N: 128, H: 32, W: 32, C: 64, K: 128, R: 3, S: 3, Stride: 2, Pad: 1},
	{N: 128, H: 16, W: 16, C: 128, K: 128, R: 3, S: 3, Stride: 1, Pad: 1},
	{N: 128, H: 16, W: 16, C: 128, K: 256, R: 3, S: 3, Stride: 2, Pad: 1},
	{N: 128, H: 8, W: 8, C: 256, K: 256, R: 3, S: 3, Stride: 1, Pad: 1},
	{N: 128, H: 8, W: 8, C: 256, K: 512, R: 3, S: 3, Stride: 2, Pad: 1},
	{N: 128, H: 4, W: 4, C: 512, K: 512, R: 3, S: 3, Stride: 1, Pad: 1},
}

// What goes to memory is within 1.3 times the least there is, in every pass and precision.
func TestGPUTraffic(t *testing.T) {
	for _, g := range resnet {
		for _, g.Precision = range []Precision{F32, TF32, BF16} {
			for _, dual := range []bool{false, true} {
				forward, data, weight := g.GPUTraffic(dual)
				for i, x := range []Traffic{forward, data, weight} {
					name := []string{"forward", "data", "weight"}[i]
					t.Logf("%+v dual %v %s: minimum %.1f MB, memory %.2f of it, second-level cache %.2f",
						g, dual, name, x.Minimum/1e6, x.Memory/x.Minimum, x.Cache/x.Minimum)
					if !(x.Memory <= 1.3*x.Minimum) || x.Memory < x.Minimum || x.Cache < x.Memory {
						t.Errorf("%+v dual %v %s: %+v", g, dual, name, x)
					}
				}
			}
		}
	}
}
