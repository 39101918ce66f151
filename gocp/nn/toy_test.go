package nn

import (
	"github.com/gocp/gocp/gocp/kernel"
)

// toy is a network that nobody would train: every kind of node, residuals with and without an activation
// and pooling, outputs with several readers, and nodes without a linear map. It is all that the tests here
// need to take its passes, files and options, on every device, as they take the others'.
var toy = Architecture{
	Name: "toy", Width: 4, Stems: []string{"only"}, Norm: NormAlways,
	Dropout: func(Spec) float64 { return 0.25 },
	Nodes: func(s Spec) []Node {
		biased := func(m Map) Map { m.Bias = true; return m }
		depthwise := conv(s.Width, 3, 1)
		depthwise.Groups = s.Width
		grouped := conv(2*s.Width, 3, 2)
		grouped.Groups = 2
		return []Node{
			{Name: "a", Map: biased(conv(s.Width, 3, 1)), Activation: kernel.ReLU6},
			{Name: "b", Map: depthwise, Norm: "b.bn", R: "a", Activation: kernel.ReLU, Pool: Pool{Size: 3, Stride: 2, Pad: 1}},
			{Name: "c", Norm: "c.bn", Activation: kernel.ReLU},                  // before the map, of what others read too
			{Name: "d", X: "c", R: "b", Map: biased(conv(s.Width, 3, 1))},       // a sum without an activation
			{Name: "e", X: "d", R: "d", Map: conv(s.Width, 1, 1), Norm: "e.bn"}, // x is r
			{Name: "f", X: "e", R: "c"}, // a sum and nothing else
			{Name: "g", X: "f", R: "b", Activation: kernel.ReLU, Pool: maxPool(2)},            // no map, both of it from others
			{Name: "h", X: "g", Map: biased(grouped), Norm: "h.bn", Activation: kernel.ReLU6}, // a bias in front of batch norm
			{Name: "i", Pool: averagePool(3, 3), Dropout: s.Dropout},                          // to more than there is
			{Name: "j", Map: linear(s.Width), Activation: kernel.ReLU, Dropout: s.Dropout},
			{Name: "k", Map: linear(s.Classes)},
		}
	},
}

func init() { Register(toy) }

func toySpec(dropout float64) Spec {
	return Spec{Arch: "toy", Width: 4, Stem: "only", Classes: 5, C: 3, H: 11, W: 9, BatchNorm: true, Dropout: dropout,
		Mean: []float64{.47, .48, .49}, Std: []float64{.25, .24, .23}}
}
