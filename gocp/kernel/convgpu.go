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
	convThreads = 128      // gemm::kThreads
	convTaps    = 15       // gemm::kMaxTaps
	convBlocks  = 132      // below half of which a sum is split: the multiprocessors of an H100
	convPart    = 4        // tiles of a sum that a part has at least
	convStages  = 2        // gemm::kStages
	convCopies  = 24 << 20 // bytes of copies of activations, at most: they are to stay in a cache of 40 MB
	convL2      = 32 << 20 // bytes of workspace that stay there
)

// onGPU reports whether s's launches go to a GPU.
func onGPU(s *device.Stream) bool { return s.Device().Info().Backend == "cuda" }

// A convMode says which planes of the operands are read, and how a launch makes its results of them
// (conv.cuh): in the dual kernel, as planes of one grid, or as segments of one sum.
type convMode struct {
	a, b, outs       int // planes
	dual             bool
	planes, segments int
}

var (
	convOne     = convMode{1, 1, 1, false, 1, 1} // A B
	convDualA   = convMode{2, 1, 2, false, 2, 1} // A B, A' B
	convDualB   = convMode{1, 2, 2, false, 2, 1} // A B, A B'
	convDual    = convMode{2, 2, 2, true, 1, 1}  // A B, A' B + A B'
	convTangent = convMode{2, 2, 1, false, 1, 2} // A' B + A B'
)

// modeOf is the mode for the planes that are there, one of them at least in the result. One product
// of a tangent is convOne on that plane.
func modeOf(a, b, out tensor.Tensor) convMode {
	switch {
	case out.T == 0 || out.P == 0 && (a.T == 0 || b.T == 0):
		return convOne
	case a.T != 0 && b.T != 0 && out.P != 0:
		return convDual
	case a.T != 0 && b.T != 0:
		return convTangent
	case a.T != 0:
		return convDualA
	}
	return convDualB
}

// dualKernel reports whether a dual product is one launch: not float32 data gradients, whose
// fragments and two sums exceed the registers.
func (g Conv) dualKernel(pass convPass) bool { return pass != convBackwardData || g.Precision != F32 }

// A convTile is a block's tile of the result.
type convTile struct {
	name string
	m, n int
}

// An operand's matrix of channels: outer times rows of them, and what a copy rounds rows and
// channels up to.
type convOperand struct{ outer, rows, rowsUp, c, cUp int }

func (o convOperand) len() int { return o.outer * o.rowsUp * o.cUp }

// A convPlan is what a launch needs beyond its operands.
type convPlan struct {
	mode         convMode
	tile         convTile
	a, b         convOperand // with M and with N of the product
	copyA, copyB bool
	element      int // bytes, of the operands as the kernel reads them
	c, k         int // channels of a group there
	blocks       int // of a group
	parts        int // of a sum; at most mostParts, however few blocks there are
	mostParts    int
	images       int  // at a time
	partial      bool // results go through the workspace, and conv_sum
	out          int  // elements of a plane of the result with rows of c
	strips       bool
	m, n         int
}

// plan lays out a pass. copyA and copyB are set where the operand's addresses ask for a copy.
func (g Conv) plan(pass convPass, mode convMode, copyA, copyB bool) convPlan {
	groups := g.groups()
	c, k := g.C/groups, g.K/groups
	chunk := 4
	p := convPlan{mode: mode, element: 4, c: c, k: k, copyA: copyA, copyB: copyB}
	if g.Precision == BF16 {
		chunk, p.element, p.copyA, p.copyB = 8, 2, true, true
	}
	cUp, kUp := roundUp(c, chunk), roundUp(k, chunk)
	if pass == convForward { // where y's channels are not read
		kUp = k
	}
	x := convOperand{1, g.N * g.H * g.W * groups, 0, c, cUp}
	y := convOperand{1, g.N * g.OutH() * g.OutW() * groups, 0, k, kUp}
	x.rowsUp, y.rowsUp = x.rows, y.rows
	w := convOperand{groups, k * g.R * g.S, kUp * g.R * g.S, c, cUp}
	p.c, p.k = cUp, kUp
	pixels := g.N * g.OutH() * g.OutW()
	depth := pixels
	switch pass {
	case convForward:
		p.a, p.b, p.m, p.n, depth = x, w, pixels, k, g.R*g.S*cUp
	case convBackwardData:
		p.a, p.b, p.m, p.n = y, w, g.N*g.H*g.W, c
		depth = ((g.R + g.Stride - 1) / g.Stride) * ((g.S + g.Stride - 1) / g.Stride) * kUp
	default:
		p.a, p.b, p.m, p.n = y, x, k, g.R*g.S*cUp
		p.strips = cUp != c
	}
	p.copyA = p.copyA || p.a.cUp != p.a.c
	p.copyB = p.copyB || p.b.cUp != p.b.c || p.b.rowsUp != p.b.rows
	p.tile = p.pick(convTiles(pass, g.Precision, mode.dual), g.Layout.Tile)
	p.blocks = g.convBlocks(pass, p)
	tiles := (depth + 32*4/p.element - 1) / (32 * 4 / p.element) * mode.segments
	p.mostParts = max(1, tiles/convPart)
	p.parts = max(1, min(convBlocks/max(1, p.blocks*groups*mode.planes), p.mostParts))
	if g.Layout.Parts > 0 {
		p.parts = min(p.parts, g.Layout.Parts)
	}
	p.out = p.m * p.n * groups
	return p
}

// pick takes the tile of that name, or the one that loses the least to what hangs over the edges, the
// first of equals.
func (p convPlan) pick(tiles []convTile, name string) convTile {
	best := tiles[0]
	for _, t := range tiles {
		if t.name == name {
			return t
		}
		if t.covered(p.m, p.n) < best.covered(p.m, p.n) {
			best = t
		}
	}
	return best
}

// convBlocks is the number of tiles of a group: of data gradients, in each class of residues.
func (g Conv) convBlocks(pass convPass, p convPlan) int {
	if pass != convBackwardData {
		return p.tile.blocks(p.m, p.n)
	}
	line := func(residue, size int) int { // input pixels of that residue
		first := (residue + g.Stride - g.Pad%g.Stride) % g.Stride
		return max(0, (size-first+g.Stride-1)/g.Stride)
	}
	n := 0
	for y := range g.Stride {
		for x := range g.Stride {
			n += p.tile.blocks(g.N*line(y, g.H)*line(x, g.W), p.n)
		}
	}
	return n
}

// shared is the dynamic shared memory of a block: stages and the table of places.
func (p convPlan) shared(pass convPass) int {
	planes, table := 1, 1024
	if p.mode.dual {
		planes = 2
	}
	if pass == convBackwardWeight {
		table = 2048
	}
	return convStages*planes*128*(p.tile.m+p.tile.n) + table
}

// bytes is the workspace of a pass over all of g's batch, p.images at a time: copies of A, of B, and
// parts of the result.
func (p convPlan) bytes() (a, b, parts int) {
	align := func(n int) int { return roundUp(n, 256) }
	if p.copyA {
		a = p.mode.a * align(p.element*p.a.len())
	}
	if p.copyB {
		b = p.mode.b * align(p.element*p.b.len())
	}
	if p.partial {
		parts = p.mode.outs * align(4*p.parts*p.out)
	}
	return a, b, parts
}

// rounds lays out a pass in rounds of images: copies are made of as many at a time as the workspace
// has room for, and convCopies.
func (g Conv) rounds(pass convPass, mode convMode, copyA, copyB bool, room int) convPlan {
	for n := g.N; ; n = (n + 1) / 2 {
		h := g
		h.N = n
		p := h.plan(pass, mode, copyA, copyB)
		p.images = n
		p.partial = p.parts > 1 || p.strips || pass == convBackwardWeight && n < g.N
		a, b, parts := p.bytes()
		copies := a
		if pass == convBackwardWeight {
			copies += b
		}
		if n == 1 || a+b+parts <= room && copies <= convCopies {
			return p
		}
	}
}

// ConvBytes is the workspace that the three passes of a convolution want on s at this geometry and
// at smaller batches, whatever planes there are. Activations that do not lie on multiples of 16
// bytes want more; weights may lie anywhere.
func ConvBytes(s *device.Stream, g Conv, dual bool) int {
	if !onGPU(s) || g.N == 0 || g.check() != nil {
		return 0
	}
	modes := []convMode{convOne}
	if dual {
		modes = []convMode{convOne, convDualA, convDualB, convTangent, convDual}
	}
	if g.depthwise() {
		planes := 1
		if dual {
			planes = 2
		}
		return planes * roundUp(4*g.depthwiseParts()*g.Weights(), 256)
	}
	most := 0
	for _, pass := range []convPass{convForward, convBackwardData, convBackwardWeight} {
		for _, mode := range modes {
			if mode == convDual && !g.dualKernel(pass) {
				continue
			}
			p := g.laidOut(s, pass, mode).rounds(pass, mode, false, pass != convBackwardWeight, math.MaxInt)
			a, b, parts := p.bytes()
			if p.mostParts > 1 { // a smaller batch has fewer blocks, and so more parts
				parts = max(parts, mode.outs*roundUp(4*min(convBlocks*128*128, p.mostParts*p.out), 256))
			}
			most = max(most, a+b+parts)
		}
	}
	return most
}

// A Traffic is what a pass of a convolution moves on a GPU, in bytes.
type Traffic struct {
	Minimum float64 // each plane of its operands and results once
	// Memory is Minimum and what does not stay in the second-level cache: the workspace (copies, parts
	// of sums), written and read, where it is larger than 32 MiB. It assumes that blocks which run at
	// the same time find there what one of them has read: the tiles of one row of the result, the
	// taps of a pixel, the weights.
	Memory float64
	// Cache is all that passes between that cache and the multiprocessors.
	Cache float64
}

// GPUTraffic is what the three passes move, counted from their launches; in dual numbers with all
// planes.
func (g Conv) GPUTraffic(dual bool) (forward, data, weight Traffic) {
	var count func(pass convPass, mode convMode) Traffic
	count = func(pass convPass, mode convMode) Traffic {
		if mode == convDual && !g.dualKernel(pass) { // two launches
			one, two := count(pass, convOne), count(pass, convTangent)
			na, nb, nout := g.lens(pass)
			t := Traffic{Minimum: 8 * float64(na+nb+nout), Cache: one.Cache + two.Cache}
			t.Memory = t.Minimum
			if again := 4 * float64(na+nb); again > convL2 {
				t.Memory += again
			}
			return t
		}
		na, nb, nout := g.lens(pass)
		planes := float64(mode.a)
		t := Traffic{Minimum: 4 * (planes*float64(na+nb) + float64(mode.outs*nout))}
		p := g.rounds(pass, mode, false, false, math.MaxInt)
		a, b, parts := p.bytes()
		work := float64(a + b + parts)
		t.Memory = t.Minimum
		if work > convL2 {
			t.Memory += 2 * work * float64(g.N) / float64(p.images)
		}
		// Terms of a sum of the result in a round, on the average.
		depth := float64(g.FLOPs()) / 2 / float64(nout)
		if pass == convBackwardWeight {
			depth *= float64(p.images) / float64(g.N)
		}
		times := float64(g.N) / float64(p.images)
		tiles := float64(p.blocks*g.groups()) * times
		t.Cache = tiles*depth*float64(p.element)*planes*float64(p.tile.m+p.tile.n) + 4*float64(mode.outs*nout)
		if parts > 0 {
			t.Cache += 2 * float64(parts) * times
		}
		if p.copyA {
			t.Cache += float64(a)*times + 4*planes*float64(na)
		}
		if p.copyB {
			t.Cache += float64(b)*times + 4*planes*float64(nb)
		}
		return t
	}
	mode := convOne
	if dual {
		mode = convDual
	}
	return count(convForward, mode), count(convBackwardData, mode), count(convBackwardWeight, mode)
}

// aligned reports whether the planes that are there lie on multiples of 16 bytes.
func aligned(t tensor.Tensor) bool { return (t.P|t.T)%16 == 0 }

func launchConvGPU(s *device.Stream, pass convPass, g Conv, ws *Workspace, a, b, out tensor.Tensor) {
	if out.T != 0 && a.T == 0 && b.T == 0 {
		_, _, n := g.lens(pass)
		s.Memset32(out.T, 0, n)
		out.T = 0
	}
	if out.P == 0 && out.T == 0 || g.C == 0 || g.K == 0 {
		return
	}
	if pass == convBackwardWeight {
		a, b = b, a // the result's rows are dy's channels
	}
	if g.depthwise() {
		launchDepthwise(s, pass, g, ws, a, b, out)
		return
	}
	mode := modeOf(a, b, out)
	if mode == convDual && !g.dualKernel(pass) {
		launchConvGPU(s, pass, g, ws, a.Primal(), b.Primal(), out.Primal())
		launchConvGPU(s, pass, g, ws, a, b, out.TangentOnly())
		return
	}
	switch { // the planes that enter, and the first of the results
	case out.T == 0:
		a, b = a.Primal(), b.Primal()
	case mode == convTangent:
		out = tensor.Tensor{P: out.T}
	case out.P == 0 && b.T == 0:
		a, b, out = tensor.Tensor{P: a.T}, b.Primal(), tensor.Tensor{P: out.T}
	case out.P == 0:
		a, b, out = a.Primal(), tensor.Tensor{P: b.T}, tensor.Tensor{P: out.T}
	}
	room := math.MaxInt // where there is no workspace, let taking it say how much is wanted
	if ws != nil {
		room = ws.bytes
	}
	g = g.laidOut(s, pass, mode)
	p := g.rounds(pass, mode, !aligned(a), !aligned(b), room)
	if g.R > convTaps || g.S > convTaps || max(p.a.len(), p.b.len(), p.out, g.In(), g.Out()) > math.MaxInt32 {
		s.Fail(fmt.Errorf("kernel %s: geometry %+v: more than %d taps or 2³¹ elements", pass, g, convTaps))
		return
	}
	bytesA, bytesB, bytesParts := p.bytes()
	var work device.Ptr
	if n := bytesA + bytesB + bytesParts; n > 0 {
		if work = ws.take(s, string(pass), n); work == 0 {
			return
		}
	}
	partial := tensor.Tensor{P: work.Add(bytesA + bytesB)}
	if mode.outs == 2 {
		partial.T = partial.P.Add(bytesParts / 2)
	}
	x, y := g.H*g.W*g.C, g.OutH()*g.OutW()*g.K // elements of an image
	for first := 0; first < g.N; first += p.images {
		h := g
		h.N = min(p.images, g.N-first)
		q := h.plan(pass, mode, p.copyA, p.copyB)
		q.parts = min(q.parts, p.parts)
		var ra tensor.Tensor
		rb, to := b, out
		switch pass {
		case convForward:
			ra, to = shifted(a, first*x), shifted(out, first*y)
		case convBackwardData:
			ra, to = shifted(a, first*y), shifted(out, first*x)
		default:
			ra, rb = shifted(a, first*y), shifted(b, first*x)
		}
		if p.copyA {
			ra = convPack(s, g, q, q.a, ra, work)
		}
		if p.copyB {
			rb = convPack(s, g, q, q.b, rb, work.Add(bytesA))
		}
		if bytesParts == 0 {
			launchProduct(s, pass, h, q, ra, rb, to)
			continue
		}
		launchProduct(s, pass, h, q, ra, rb, partial)
		c, cReal := 1, 1
		if q.strips {
			c, cReal = q.c, g.C/g.groups()
		}
		for _, plane := range [2][2]device.Ptr{{partial.P, to.P}, {partial.T, to.T}} {
			if plane[1] != 0 {
				convSum(s, plane[0], q.parts, q.out, c, cReal, q.out/c*cReal, plane[1], pass == convBackwardWeight && first > 0)
			}
		}
	}
}

// shifted is t from element n of its planes on.
func shifted(t tensor.Tensor, n int) tensor.Tensor {
	if t.P != 0 {
		t.P = t.P.Add(4 * n)
	}
	if t.T != 0 {
		t.T = t.T.Add(4 * n)
	}
	return t
}

// launchProduct launches the kernel on operands as it wants them.
func launchProduct(s *device.Stream, pass convPass, g Conv, p convPlan, a, b, to tensor.Tensor) {
	// What the kernel takes for its first and its second plane, or segment.
	first, second := [2]device.Ptr{a.P, b.P}, [2]device.Ptr{a.T, b.T}
	switch p.mode {
	case convTangent:
		first[0], second[0] = a.T, a.P
	case convDualA:
		second[1] = b.P
	case convDualB:
		second[0] = a.P
	}
	groups := g.groups()
	s.LaunchShared(fmt.Sprintf("%s_%s_%s", pass, g.Precision, p.tile.name),
		p.parts*p.mode.planes*groups*p.blocks, convThreads, p.shared(pass),
		device.P(first[0]), device.P(second[0]), device.P(first[1]), device.P(second[1]), device.P(to.P), device.P(to.T),
		device.I32(g.N), device.I32(g.H), device.I32(g.W), device.I32(p.c),
		device.I32(p.k), device.I32(g.R), device.I32(g.S), device.I32(g.Stride), device.I32(g.Pad),
		device.I32(g.OutH()), device.I32(g.OutW()), device.I32(groups), device.I32(g.C/groups), device.I32(g.K/groups),
		device.I32(p.blocks), device.I32(p.mode.planes), device.I32(p.mode.segments), device.I32(p.parts), device.I64(p.out))
}

// depthwise reports whether every group has one input channel: kernels/conv_depthwise.cu.
func (g Conv) depthwise() bool { return g.groups() > 1 && g.C == g.groups() }

// depthwiseParts is what the lines of y are split into in the sums of the weights' gradient.
func (g Conv) depthwiseParts() int { return min(max(g.N*g.OutH()/8, 1), 256) }

func launchDepthwise(s *device.Stream, pass convPass, g Conv, ws *Workspace, a, b, out tensor.Tensor) {
	name, n, parts, to := "forward", g.Out(), 1, out
	switch pass {
	case convBackwardData:
		name, n = "data", g.In()
	case convBackwardWeight:
		name, parts = "weight", g.depthwiseParts()
		n = parts * g.Weights()
		plane := roundUp(4*n, 256)
		planes := 1
		if out.T != 0 {
			planes = 2
		}
		work := ws.take(s, string(pass), planes*plane)
		if work == 0 {
			return
		}
		if out.P != 0 {
			to.P = work
		}
		if out.T != 0 {
			to.T = work.Add((planes - 1) * plane)
		}
	}
	kind := "_f32"
	if out.T != 0 {
		kind = "_dual"
	}
	s.Launch("conv_depthwise_"+name+kind, blocks(n, threads), threads,
		device.P(a.P), device.P(a.T), device.P(b.P), device.P(b.T), device.P(to.P), device.P(to.T),
		device.I32(g.N), device.I32(g.H), device.I32(g.W), device.I32(g.C), device.I32(g.K), device.I32(g.R), device.I32(g.S),
		device.I32(g.Stride), device.I32(g.Pad), device.I32(g.OutH()), device.I32(g.OutW()), device.I32(parts))
	if pass != convBackwardWeight {
		return
	}
	for _, plane := range [2][2]device.Ptr{{to.P, out.P}, {to.T, out.T}} {
		if plane[1] != 0 {
			convSum(s, plane[0], parts, g.Weights(), 1, 1, g.Weights(), plane[1], false)
		}
	}
}

// convSum adds parts of `step` elements: n of the result, cReal of every c; to what is there, or not.
func convSum(s *device.Stream, parts device.Ptr, count, step, c, cReal, n int, out device.Ptr, more bool) {
	add := 0
	if more {
		add = 1
	}
	s.Launch("conv_sum", blocks(n, perBlock), threads, device.P(parts), device.I32(count), device.I64(step),
		device.I32(c), device.I32(cReal), device.I32(add), device.I64(n), device.P(out))
}

// convPack launches the copy of an operand to `to`.
func convPack(s *device.Stream, g Conv, p convPlan, o convOperand, from tensor.Tensor, to device.Ptr) tensor.Tensor {
	t := tensor.Tensor{P: to}
	if from.T != 0 {
		t.T = to.Add(roundUp(p.element*o.len(), 256))
	}
	name := "conv_pack_f32"
	if g.Precision == BF16 {
		name = "conv_pack_bf16"
	}
	s.Launch(name, blocks(o.len(), perBlock), threads, device.P(from.P), device.P(from.T), device.I32(o.outer),
		device.I32(o.rows), device.I32(o.rowsUp), device.I32(o.c), device.I32(o.cUp), device.P(t.P), device.P(t.T))
	return t
}
