package kernel

import (
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// How a convolution is laid out on a GPU: which of the kernels of kernels/conv.cuh, on how many
// blocks, with how much shared memory and workspace. The host engine has no such choices.

const (
	convThreads = 128 // conv::kThreads
	convDepth   = 32  // mma::kDepth
	convTaps    = 15  // conv::kMaxTaps
	convBlocks  = 264 // that a split sum aims at: two for each of an H100's multiprocessors
	convPart    = 8   // depths of a tile that a part of a split sum has at least
)

// onGPU reports whether s's launches go to a GPU.
func onGPU(s *device.Stream) bool { return s.Device().Info().Backend == "cuda" }

// A convMode is conv::Mode: which planes of the operands are read, and which results are made.
type convMode struct {
	name  string
	a, b  int // planes
	plain bool
}

var (
	convOne     = convMode{"one", 1, 1, true}
	convDualA   = convMode{"dual_a", 2, 1, false}
	convDualB   = convMode{"dual_b", 1, 2, false}
	convDual    = convMode{"dual", 2, 2, false}
	convTangent = convMode{"tangent", 2, 2, false}
)

// A convTile is a block's tile of the result and the depth of its pipeline.
type convTile struct {
	name         string
	m, n, stages int
}

// shared is the dynamic shared memory of a block.
func (t convTile) shared(m convMode) int {
	return 4 * convDepth * t.stages * (t.m*m.a + t.n*m.b)
}

// matrix is the product that a pass is: [m,n], sums of depth terms.
type matrix struct{ m, n, depth int }

func (g Conv) matrix(pass convPass) matrix {
	pixels := g.N * g.OutH() * g.OutW()
	switch pass {
	case convForward:
		return matrix{pixels, g.K, g.R * g.S * g.C}
	case convBackwardData:
		return matrix{g.N * g.H * g.W, g.C, g.R * g.S * g.K}
	}
	return matrix{g.K, g.R * g.S * g.C, pixels}
}

// tile picks the tile of a product: the wide one where it loses no more than the small one to
// what hangs over the edges, and leaves enough blocks.
func (x matrix) tile(p Precision, mode convMode, aligned bool) convTile {
	if !aligned {
		return convTile{"any", 64, 64, 3}
	}
	small := convTile{"small", 64, 64, 3}
	wide := convTile{"wide", 128, 64, 2}
	if mode.plain {
		wide.stages = 3
		if p != F32 {
			wide.n = 128
		}
	}
	covered := func(t convTile) int { return roundUp(x.m, t.m) * roundUp(x.n, t.n) }
	if p == F32 && !mode.plain || 8*covered(wide) > 9*covered(small) {
		return small
	}
	return wide
}

func (x matrix) blocks(t convTile) int { return (x.m + t.m - 1) / t.m * ((x.n + t.n - 1) / t.n) }

// parts is the number of parts that the sum over pixels of the weights' gradient is split into.
func (x matrix) parts(t convTile) int {
	return max(1, min(convBlocks/x.blocks(t), x.depth/(convDepth*convPart)))
}

// ConvBackwardWeightBytes is the workspace that ConvBackwardWeight wants on s at this geometry and
// at smaller batches.
func ConvBackwardWeightBytes(s *device.Stream, g Conv, dual bool) int {
	if !onGPU(s) || g.N == 0 || g.Stride < 1 || g.OutH() < 1 || g.OutW() < 1 {
		return 0
	}
	x := g.matrix(convBackwardWeight)
	modes, planes := []convMode{convOne}, 1
	if dual {
		modes, planes = []convMode{convOne, convDual}, 2
	}
	parts := 1
	for _, mode := range modes {
		parts = max(parts, x.parts(x.tile(g.Precision, mode, false)), x.parts(x.tile(g.Precision, mode, true)))
	}
	if parts == 1 {
		return 0
	}
	return 4 * planes * parts * g.Weights()
}

// planesOf returns the kernel's mode for the planes that are there, with the operands as it wants
// them. One product of a tangent is convOne on that plane.
func planesOf(a, b, out tensor.Tensor) (convMode, tensor.Tensor, tensor.Tensor, tensor.Tensor) {
	switch {
	case out.T == 0:
		return convOne, a.Primal(), b.Primal(), out
	case a.T != 0 && b.T != 0 && out.P != 0:
		return convDual, a, b, out
	case a.T != 0 && b.T != 0:
		return convTangent, a, b, out
	case out.P == 0 && a.T != 0:
		return convOne, tensor.Tensor{P: a.T}, b.Primal(), tensor.Tensor{P: out.T}
	case out.P == 0:
		return convOne, a.Primal(), tensor.Tensor{P: b.T}, tensor.Tensor{P: out.T}
	case a.T != 0:
		return convDualA, a, b, out
	}
	return convDualB, a, b, out
}

// vectors reports whether operands of these channels can be copied 16 bytes at a time.
func vectors(a, b tensor.Tensor, channels ...int) bool {
	bits := a.P | a.T | b.P | b.T
	for _, c := range channels {
		bits |= device.Ptr(4 * c)
	}
	return bits%16 == 0
}

func launchConvGPU(s *device.Stream, pass convPass, g Conv, ws *Workspace, a, b, out tensor.Tensor) {
	if g.R > convTaps || g.S > convTaps || max(g.In(), g.Out(), g.Weights()) > math.MaxInt32 {
		s.Fail(fmt.Errorf("kernel %s: geometry %+v: more than %d taps or 2³¹ elements", pass, g, convTaps))
		return
	}
	x := g.matrix(pass)
	if x.m == 0 || x.n == 0 {
		return
	}
	if out.T != 0 && a.T == 0 && b.T == 0 {
		s.Memset32(out.T, 0, x.m*x.n)
		out.T = 0
		if out.P == 0 {
			return
		}
	}
	aligned := vectors(a, b, g.C, g.K)
	if pass == convForward { // dy's channels are not read
		aligned = vectors(a, b, g.C)
	}
	if !aligned && out.P != 0 && out.T != 0 && (a.T == 0 || b.T == 0) { // without a kernel of its own
		launchConvGPU(s, pass, g, ws, a.Primal(), b.Primal(), out.Primal())
		launchConvGPU(s, pass, g, ws, a, b, out.TangentOnly())
		return
	}
	if pass == convBackwardWeight {
		a, b = b, a // the result's rows are dy's channels
	}
	var mode convMode
	mode, a, b, out = planesOf(a, b, out)
	tile := x.tile(g.Precision, mode, aligned)
	to, parts := out, 1
	if pass == convBackwardWeight {
		parts = x.parts(tile)
	}
	if parts > 1 {
		plane := 4 * parts * x.m * x.n
		p := ws.take(s, string(pass), plane*(mode.outs()))
		if p == 0 {
			return
		}
		if to.P != 0 {
			to.P, p = p, p.Add(plane)
		}
		if to.T != 0 {
			to.T = p
		}
	}
	name := fmt.Sprintf("%s_%s_%s_%s", pass, g.Precision, mode.name, tile.name)
	s.LaunchShared(name, parts*x.blocks(tile), convThreads, tile.shared(mode),
		device.P(a.P), device.P(a.T), device.P(b.P), device.P(b.T), device.P(to.P), device.P(to.T),
		device.I32(g.N), device.I32(g.H), device.I32(g.W), device.I32(g.C),
		device.I32(g.K), device.I32(g.R), device.I32(g.S), device.I32(g.Stride), device.I32(g.Pad),
		device.I32(g.OutH()), device.I32(g.OutW()), device.I32(parts), device.I64(x.m*x.n))
	if parts == 1 {
		return
	}
	for _, plane := range [2][2]device.Ptr{{to.P, out.P}, {to.T, out.T}} {
		if plane[1] != 0 {
			n := x.m * x.n
			s.Launch("conv_sum", blocks(n, perBlock), threads,
				device.P(plane[0]), device.I32(parts), device.I64(n), device.P(plane[1]))
		}
	}
}

// outs is the number of planes of the result.
func (m convMode) outs() int {
	if m == convOne || m == convTangent {
		return 1
	}
	return 2
}
