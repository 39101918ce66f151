package checkpoint

import (
	"strings"

	"github.com/gocp/gocp/gocp/nn"
)

// pytorchCIFAR is github.com/kuangliu/pytorch-cifar. Its VGG has batch norm and one layer for a head; its
// MobileNetV2 is another network (ReLU, convolutions in the shortcuts).
var pytorchCIFAR = library{
	name: "pytorch-cifar",
	has: func(s nn.Spec) error {
		if s.Stem == nn.StemCIFAR && (resnet(s) || vgg(s) && s.BatchNorm && s.Head == nn.HeadLinear) {
			return nil
		}
		return lacks("pytorch-cifar", s)
	},
	module: func(s nn.Spec, module string) string {
		if !resnet(s) {
			return module
		}
		if module == "fc" {
			return "linear"
		}
		return strings.Replace(module, ".downsample.", ".shortcut.", 1)
	},
}
