package checkpoint

import "github.com/gocp/gocp/gocp/nn"

// torchvision's names (0.28) are gocp's. The ConvNet, which no library has, and VGG with one layer for a
// head are named alike.
var torchvision = library{
	name:   "torchvision",
	has:    func(s nn.Spec) error { return nil },
	module: func(_ nn.Spec, module string) string { return module },
}
