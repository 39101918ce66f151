package nn

import "github.com/gocp/gocp/gocp/kernel"

// Input names the normalised image, (pixels − mean)/std, where a Node says what it reads.
const Input = "input"

// A Node is one line of a network:
//
//	h = dropout(pool(act(scale·(x ∗ w) + shift + r)))
//
// with a linear map x ∗ w, a bias or batch norm (scale and shift by channel), an output r of another
// node added before the activation, and what follows. Whatever is left zero is left out.
type Node struct {
	Name       string // of the output; and of the weights, as PyTorch's: conv1 has conv1.weight
	X          string // the node whose output is x; empty: the one before
	R          string // the node whose output is r; empty: none
	Map        Map
	Norm       string // batch norm with the parameters NORM.weight, NORM.bias and running statistics
	Activation kernel.Activation
	Pool       Pool
	Dropout    float64 // the rate, in training
}

// A Map is a linear map; the zero value is none.
type Map struct {
	Out                 int // channels of the output
	Kernel, Stride, Pad int // of a convolution; Kernel 0 is a layer that sees its whole input
	Groups              int // of a convolution's channels; 0 is 1
	Bias                bool
	Init                Init
}

// An Init is how weights and biases are drawn.
type Init int

// The Inits.
const (
	InitUniform Init = iota // both uniform in ±1/√fan_in: PyTorch's own
	InitFanOut              // weights normal with variance 2/fan_out, fan_out = channels·kernel²; biases 0
	InitNormal              // weights normal with deviation 0.01; biases 0
)

// A Pool takes the maximum over Size × Size windows, or, if H is set, averages to H × W, whose
// windows PyTorch's adaptive pooling defines. The zero value is none.
type Pool struct {
	Size, Stride, Pad int
	H, W              int
}

// conv is a convolution without a bias.
func conv(out, kernel, stride int) Map {
	return Map{Out: out, Kernel: kernel, Stride: stride, Pad: kernel / 2}
}

// linear is a layer that sees its whole input.
func linear(out int) Map { return Map{Out: out, Bias: true} }

// maxPool takes the maximum over windows that do not overlap.
func maxPool(size int) Pool { return Pool{Size: size, Stride: size} }

// averagePool averages to a fixed size; 1 × 1 is the global average.
func averagePool(h, w int) Pool { return Pool{H: h, W: w} }
