package nn

import (
	"strconv"

	"github.com/gocp/gocp/gocp/kernel"
)

// Stems of the ConvNet.
const (
	StemPool   = "pool"   // 3×3, and the maximum over 2×2
	StemStride = "stride" // 5×5 with stride 2
)

// convnet is three convolutions of width, 2·width and 4·width channels and two linear layers.
var convnet = Architecture{
	Name: "convnet", Width: 16, Stems: []string{StemStride, StemPool}, Norm: NormOptional,
	Nodes: func(s Spec) []Node {
		var nodes []Node
		for i := range 3 {
			number := strconv.Itoa(i + 1)
			n := Node{Name: "conv" + number, Map: conv(s.Width<<i, 3, 1), Activation: kernel.ReLU, Pool: maxPool(2)}
			if i == 0 && s.Stem == StemStride {
				n.Map, n.Pool = conv(s.Width, 5, 2), Pool{}
			}
			if n.Map.Bias = !s.BatchNorm; s.BatchNorm {
				n.Norm = "bn" + number
			}
			nodes = append(nodes, n)
		}
		return append(nodes,
			Node{Name: "fc1", Map: linear(4 * s.Width), Activation: kernel.ReLU},
			Node{Name: "fc2", Map: linear(s.Classes)})
	},
}
