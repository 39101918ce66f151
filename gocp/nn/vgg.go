package nn

import (
	"fmt"

	"github.com/gocp/gocp/gocp/kernel"
)

// Heads of VGG.
const (
	HeadLinear = "linear" // global average and one layer
	HeadMLP    = "mlp"    // average to 7×7 and three layers with dropout, of 64·width values: torchvision's
)

// vgg is torchvision's VGG, with so many convolutions before each of five maxima (Simonyan and Zisserman,
// 2015). Under batch norm the convolutions keep their biases.
func vgg(name string, convs [5]int) Architecture {
	return Architecture{
		Name: name, Width: 64, Stems: []string{StemCIFAR, StemImageNet}, Heads: []string{HeadLinear, HeadMLP}, Norm: NormOptional,
		Dropout: func(s Spec) float64 {
			if s.Head == HeadMLP {
				return 0.5
			}
			return 0
		},
		Nodes: func(s Spec) []Node {
			var nodes []Node
			at := 0 // in torchvision's list of modules
			for stage, count := range convs {
				for i := range count {
					m := fanOut(conv(s.Width<<min(stage, 3), 3, 1))
					m.Bias = true
					n := Node{Name: fmt.Sprintf("features.%d", at), Map: m, Activation: kernel.ReLU}
					if at += 2; s.BatchNorm {
						n.Norm = fmt.Sprintf("features.%d", at-1)
						at++
					}
					if i == count-1 {
						n.Pool = maxPool(2)
						at++
					}
					nodes = append(nodes, n)
				}
			}
			layer := func(name string, out int) Node {
				n := Node{Name: name, Map: linear(out)}
				n.Map.Init = InitNormal
				return n
			}
			if s.Head == HeadLinear {
				return append(nodes, Node{Name: "avgpool", Pool: averagePool(1, 1)}, layer("classifier", s.Classes))
			}
			nodes = append(nodes, Node{Name: "avgpool", Pool: averagePool(7, 7)})
			for _, name := range []string{"classifier.0", "classifier.3"} {
				n := layer(name, 64*s.Width)
				n.Activation, n.Dropout = kernel.ReLU, s.Dropout
				nodes = append(nodes, n)
			}
			return append(nodes, layer("classifier.6", s.Classes))
		},
	}
}
