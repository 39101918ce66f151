package bench

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
)

// The three products of a convolution.
const (
	forward = iota
	backwardData
	backwardWeight
)

// A product is one launch of a convolution: which of the three, which operands have tangents, and
// which planes of the result are wanted.
type product struct {
	op              int
	g               kernel.Conv
	aDual, bDual    bool
	primal, tangent bool // of the result
	count           int  // of convolution products in it
}

func newProduct(op int, g kernel.Conv, aDual, bDual, primal, tangent bool) product {
	p := product{op: op, g: g, aDual: aDual, bDual: bDual, primal: primal, tangent: tangent}
	for _, wanted := range []bool{primal, tangent && aDual, tangent && bDual} {
		if wanted {
			p.count++
		}
	}
	return p
}

// An ordinary pass in floats; weights says whether the parameters' gradient is wanted.
func ordinary(convs []kernel.Conv, weights bool) []product {
	var ps []product
	for _, g := range convs {
		ps = append(ps, newProduct(forward, g, false, false, true, false))
	}
	for i := len(convs) - 1; i >= 0; i-- {
		if weights {
			ps = append(ps, newProduct(backwardWeight, convs[i], false, false, true, false))
		}
		if i > 0 {
			ps = append(ps, newProduct(backwardData, convs[i], false, false, true, false))
		}
	}
	return ps
}

func trainProducts(convs []kernel.Conv) []product { return ordinary(convs, true) }

func normProducts(convs []kernel.Conv) []product { return ordinary(convs, false) }

// craftProducts is an ordinary pass, then the tangents alone down to the image.
func craftProducts(convs []kernel.Conv) []product {
	ps := ordinary(convs, true)
	for i, g := range convs {
		ps = append(ps, newProduct(forward, g, i > 0, true, false, true))
	}
	for i := len(convs) - 1; i >= 0; i-- {
		ps = append(ps, newProduct(backwardData, convs[i], true, true, false, true))
	}
	return ps
}

// hvpProducts is one pass in dual numbers, without the image's gradient.
func hvpProducts(convs []kernel.Conv) []product {
	var ps []product
	for i, g := range convs {
		ps = append(ps, newProduct(forward, g, i > 0, true, true, true))
	}
	for i := len(convs) - 1; i >= 0; i-- {
		ps = append(ps, newProduct(backwardWeight, convs[i], i > 0, true, true, true))
		if i > 0 {
			ps = append(ps, newProduct(backwardData, convs[i], true, true, true, true))
		}
	}
	return ps
}

// ggnProducts are the tangents alone of a forward pass, and a backward pass in floats.
func ggnProducts(convs []kernel.Conv) []product {
	var ps []product
	for i, g := range convs {
		ps = append(ps, newProduct(forward, g, i > 0, true, false, true))
	}
	return append(ps, ordinary(convs, true)[len(convs):]...)
}

// operands of a convolution, with tangents.
type operands struct{ x, w, y tensor.Tensor }

func newOperands(s *device.Stream, g kernel.Conv) operands {
	filled := func(n int) tensor.Tensor {
		t := tensor.NewDual(s, n)
		values := make([]float32, n)
		const drawn = 1 << 20 // the rest repeats them: no time depends on it, and draws take seconds
		rng.FillNormal(seed, rng.Stream("bench operand"), 0.1, values[:min(n, drawn)])
		for i := drawn; i < n; i += drawn {
			copy(values[i:], values[:drawn])
		}
		device.Upload(s, t.P, values)
		device.Upload(s, t.T, values)
		return t
	}
	return operands{filled(g.In()), filled(g.Weights()), filled(g.Out())}
}

// launch computes p into result.
func (p product) launch(s *device.Stream, work *kernel.Workspace, m operands, result tensor.Tensor) {
	switch p.op {
	case forward:
		kernel.ConvForward(s, work, p.g, planes(m.x, true, p.aDual), planes(m.w, true, p.bDual), result)
	case backwardData:
		kernel.ConvBackwardData(s, work, p.g, planes(m.y, true, p.aDual), planes(m.w, true, p.bDual), result)
	default:
		kernel.ConvBackwardWeight(s, work, p.g, planes(m.x, true, p.aDual), planes(m.y, true, p.bDual), result)
	}
}

// convolve runs the products alone, in order, on operands of their own.
func convolve(s *device.Stream, products []product, tick func(int)) error {
	memory := map[kernel.Conv]operands{}
	largest, bytes := [3]int{}, 0
	for _, p := range products {
		if _, ok := memory[p.g]; !ok {
			memory[p.g] = newOperands(s, p.g)
		}
		bytes = max(bytes, kernel.ConvBytes(s, p.g, true))
		for i, n := range [3]int{p.g.Out(), p.g.In(), p.g.Weights()} {
			largest[i] = max(largest[i], n)
		}
	}
	// Results go elsewhere: operands keep ordinary values however often this runs.
	var result [3]tensor.Tensor
	for i, n := range largest {
		result[i] = tensor.NewDual(s, n)
	}
	work := kernel.NewWorkspace(s, bytes)
	return repeat(s, func() {
		for _, p := range products {
			to := [...]tensor.Tensor{forward: result[0].Slice(0, p.g.Out()), backwardData: result[1].Slice(0, p.g.In()),
				backwardWeight: result[2].Slice(0, p.g.Weights())}[p.op]
			p.launch(s, work, memory[p.g], planes(to, p.primal, p.tangent))
		}
	}, tick)
}

// planes keeps the planes of t that are asked for.
func planes(t tensor.Tensor, primal, tangent bool) tensor.Tensor {
	if !primal {
		t.P = 0
	}
	if !tangent {
		t.T = 0
	}
	return t
}
