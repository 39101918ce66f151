package nn

import (
	"fmt"

	"github.com/gocp/gocp/gocp/kernel"
)

// mobilenetV2 is torchvision's MobileNetV2 (Sandler et al., 2018). The CIFAR stem has stride 1 in
// features.0 and features.2.
var mobilenetV2 = Architecture{
	Name: "mobilenet_v2", Width: 32, Stems: []string{StemCIFAR, StemImageNet}, Norm: NormAlways,
	Dropout: func(Spec) float64 { return 0.2 },
	Nodes: func(s Spec) []Node {
		factor := float64(s.Width) / 32
		unit := func(name string, out, kernelSize, stride, groups int) Node { // convolution, batch norm, ReLU6
			m := fanOut(conv(out, kernelSize, stride))
			m.Groups = groups
			return Node{Name: name + ".0", Map: m, Norm: name + ".1", Activation: kernel.ReLU6}
		}
		stride := func(published int, at int) int {
			if s.Stem == StemCIFAR && (at == 0 || at == 2) {
				return 1
			}
			return published
		}
		nodes := []Node{unit("features.0", s.Width, 3, stride(2, 0), 1)}
		x, in, at := nodes[0].Name, s.Width, 1
		for _, stage := range []struct{ expand, channels, blocks, stride int }{
			{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
		} {
			out := divisible(float64(stage.channels) * factor)
			for b := range stage.blocks {
				block, step, part := fmt.Sprintf("features.%d.conv", at), 1, 0
				if b == 0 {
					step = stride(stage.stride, at)
				}
				next := func() string { part++; return fmt.Sprintf("%s.%d", block, part-1) }
				hidden := in * stage.expand
				if stage.expand != 1 {
					nodes = append(nodes, unit(next(), hidden, 1, 1, 1))
				}
				nodes = append(nodes, unit(next(), hidden, 3, step, hidden))
				narrow := Node{Name: next(), Map: fanOut(conv(out, 1, 1)), Norm: next()}
				if step == 1 && in == out {
					narrow.R = x
				}
				nodes = append(nodes, narrow)
				x, in = narrow.Name, out
				at++
			}
		}
		last := divisible(1280 * max(1, factor))
		classifier := Node{Name: "classifier.1", Map: linear(s.Classes)}
		classifier.Map.Init = InitNormal
		return append(nodes, unit(fmt.Sprintf("features.%d", at), last, 1, 1, 1),
			Node{Name: "avgpool", Pool: averagePool(1, 1), Dropout: s.Dropout}, classifier)
	},
}

// divisible is the multiple of 8 that torchvision takes for v channels.
func divisible(v float64) int {
	d := max(8, int(v+4)/8*8)
	if float64(d) < 0.9*v {
		d += 8
	}
	return d
}
