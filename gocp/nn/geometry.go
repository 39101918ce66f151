package nn

import "github.com/gocp/gocp/gocp/kernel"

// Convs lists the network's convolutions and linear layers, in order, for a batch of n.
func (s Spec) Convs(n int, precision kernel.Precision) []kernel.Conv {
	var out []kernel.Conv
	for _, b := range s.blocks() {
		out = append(out, kernel.Conv{N: n, H: b.inH, W: b.inW, C: b.inC, K: b.outC, R: b.kernel, S: b.kernel,
			Stride: b.stride, Pad: b.pad, Precision: precision})
	}
	h, w, c := s.features()
	for _, l := range [][2]int{{h * w * c, 4 * s.Width}, {4 * s.Width, s.Classes}} {
		out = append(out, kernel.Conv{N: n, H: 1, W: 1, C: l[0], K: l[1], R: 1, S: 1, Stride: 1, Precision: precision})
	}
	return out
}
