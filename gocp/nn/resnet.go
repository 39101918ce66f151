package nn

import (
	"fmt"

	"github.com/gocp/gocp/gocp/kernel"
)

// Stems of the published architectures: torchvision's, and the usual change for images of 32×32.
const (
	StemImageNet = "imagenet"
	StemCIFAR    = "cifar"
)

// resnet is torchvision's ResNet of basic blocks, so many in each of four stages of w, 2w, 4w and 8w
// channels (He et al., 2016). Its CIFAR stem is 3×3 with stride 1, and nothing is pooled.
func resnet(name string, blocks [4]int) Architecture {
	return Architecture{
		Name: name, Width: 64, Stems: []string{StemCIFAR, StemImageNet}, Norm: NormAlways,
		Nodes: func(s Spec) []Node {
			stem := Node{Name: "conv1", Map: fanOut(conv(s.Width, 7, 2)), Norm: "bn1", Activation: kernel.ReLU, Pool: Pool{Size: 3, Stride: 2, Pad: 1}}
			if s.Stem == StemCIFAR {
				stem.Map, stem.Pool = fanOut(conv(s.Width, 3, 1)), Pool{}
			}
			nodes, x, in := []Node{stem}, stem.Name, s.Width
			for stage, count := range blocks {
				for b := range count {
					block, out, stride := fmt.Sprintf("layer%d.%d.", stage+1, b), s.Width<<stage, 1
					if stage > 0 && b == 0 {
						stride = 2
					}
					shortcut := x
					if stride != 1 || in != out {
						shortcut = block + "downsample.0"
						nodes = append(nodes, Node{Name: shortcut, X: x, Map: fanOut(conv(out, 1, stride)), Norm: block + "downsample.1"})
					}
					nodes = append(nodes,
						Node{Name: block + "conv1", X: x, Map: fanOut(conv(out, 3, stride)), Norm: block + "bn1", Activation: kernel.ReLU},
						Node{Name: block + "conv2", R: shortcut, Map: fanOut(conv(out, 3, 1)), Norm: block + "bn2", Activation: kernel.ReLU})
					x, in = block+"conv2", out
				}
			}
			return append(nodes, Node{Name: "avgpool", Pool: averagePool(1, 1)}, Node{Name: "fc", Map: linear(s.Classes)})
		},
	}
}

// fanOut is m with the weights that torchvision's networks begin with.
func fanOut(m Map) Map {
	m.Init = InitFanOut
	return m
}
