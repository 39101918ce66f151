package kernel

import (
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// How per-sample gradients are laid out on a GPU: kernels/conv_persample.cuh. A block makes one tile
// of one sample's product; sums over tiles are made by persample_sum.

const (
	ghostSide   = 64 // rows and columns of a tile of the ghost form
	ghostStages = 3  // persample::Square::kStages
)

// blocks is the number of tiles that cover [m,n].
func (t convTile) blocks(m, n int) int { return (m + t.m - 1) / t.m * ((n + t.n - 1) / t.n) }

// covered is the number of elements of the tiles that cover [m,n].
func (t convTile) covered(m, n int) int { return t.blocks(m, n) * t.m * t.n }

// directTile is the tile of the direct form, [m,n] with sums over positions: a larger one, which
// reads less, unless it loses more than an eighth to what hangs over the edges.
func directTile(m, n int) convTile {
	best := convTile{"wide", 128, 128}
	for _, t := range []convTile{{"low", 64, 128}, {"small", 64, 64}} {
		if 8*best.covered(m, n) > 9*t.covered(m, n) {
			best = t
		}
	}
	return best
}

// ghostTiles is the number of tiles on and above the diagonal of a sample's products of positions.
func (g Conv) ghostTiles() int {
	across := (g.OutH()*g.OutW() + ghostSide - 1) / ghostSide
	return across * (across + 1) / 2
}

// persampleForm is what is made of the gradients: part of a kernel's name.
type persampleForm string

const (
	persampleStore  persampleForm = "store"
	persampleSquare persampleForm = "square"
	persampleInner  persampleForm = "inner"
)

// A persampleKernel is one of the kernels, and what it is launched with.
type persampleKernel struct {
	name   string
	memory int // dynamic shared memory of a block
	tiles  int // of a sample
}

// A persamplePlan is what a launch needs beyond its operands.
type persamplePlan struct {
	convPlan // copies of operands, and of how many images at a time
	persampleKernel
	again   persampleKernel // for samples whose sum cancels in the ghost form; else without a name
	numbers int             // bytes of what tiles write
	marks   int             // bytes of a mark for each sample that is to be made again
}

// persamplePlan lays out form; copyX and copyDY are set where the addresses ask for a copy, of as many
// images at a time as room and convCopies allow.
func (g Conv) persamplePlan(form persampleForm, copyX, copyDY bool, room int) persamplePlan {
	var p persamplePlan
	for n := g.N; ; n = (n + 1) / 2 {
		h := g
		h.N = n
		p.convPlan = h.plan(convBackwardWeight, convOne, copyDY, copyX)
		p.images = n
		p.layOut(g, form)
		dy, x, _ := p.bytes()
		if n <= 1 || p.numbers+p.marks+dy+x <= room && dy+x <= convCopies {
			return p
		}
	}
}

// layOut picks form's kernel: of norms the one with fewer multiply-adds, counted in whole tiles.
func (p *persamplePlan) layOut(g Conv, form persampleForm) {
	depth := 128 / p.element // of k in a tile
	positions := roundUp(g.OutH()*g.OutW(), depth)
	p.tile = directTile(p.m, p.n)
	kernel := func(form string, tile convTile, memory, tiles int) persampleKernel {
		return persampleKernel{fmt.Sprintf("persample_%s_%s_%s", form, g.Precision, tile.name), memory, tiles}
	}
	p.persampleKernel = kernel(string(form), p.tile, p.shared(convBackwardWeight), p.tile.blocks(p.m, p.n))
	p.again, p.numbers, p.marks = persampleKernel{}, 0, 0
	if form != persampleStore && p.tiles > 1 {
		p.numbers = roundUp(4*p.images*p.tiles, 256)
	}
	ghost := g.ghostTiles() * ghostSide * ghostSide * (roundUp(p.k, depth) + roundUp(p.n, depth))
	if form == persampleSquare && ghost < p.tile.covered(p.m, p.n)*positions {
		p.again = p.persampleKernel
		p.persampleKernel = kernel("ghost", convTile{"small", ghostSide, ghostSide}, ghostStages*128*2*ghostSide, g.ghostTiles())
		p.numbers = max(p.numbers, roundUp(2*4*p.images*p.tiles, 256))
		p.marks = roundUp(4*p.images, 256)
	}
}

// persampleGPUBytes is the workspace of the launchers below, wherever their operands lie.
func (g Conv) persampleGPUBytes() int {
	if g.N == 0 || g.Weights() == 0 {
		return 0
	}
	most := 0
	for _, form := range []persampleForm{persampleStore, persampleSquare, persampleInner} {
		for _, copies := range []bool{false, true} {
			p := g.persamplePlan(form, copies, copies, math.MaxInt)
			dy, x, _ := p.bytes()
			most = max(most, p.numbers+p.marks+dy+x)
		}
	}
	return most
}

// launchPersampleGPU makes form of the gradients; v and stride are inner's and store's.
func launchPersampleGPU(s *device.Stream, name string, form persampleForm, g Conv, x, dy, v, out device.Ptr, stride int, w *Workspace) {
	if g.R > convTaps || g.S > convTaps || max(g.In(), g.Out(), g.Weights()) > math.MaxInt32 {
		fail(s, name, "geometry %+v: more than %d taps or 2³¹ elements", g, convTaps)
		return
	}
	if g.Weights() == 0 {
		return
	}
	room := math.MaxInt // where there is no workspace, let taking it say how much is wanted
	if w != nil {
		room = w.bytes
	}
	p := g.persamplePlan(form, x%16 != 0, dy%16 != 0, room)
	dyBytes, xBytes, _ := p.bytes()
	var numbers, marks, copies device.Ptr
	if n := p.numbers + p.marks + dyBytes + xBytes; n > 0 {
		work := w.take(s, name, n)
		if work == 0 {
			return
		}
		numbers, marks, copies = work, work.Add(p.numbers), work.Add(p.numbers+p.marks)
	}
	for first := 0; first < g.N; first += p.images {
		h := g
		h.N = min(p.images, g.N-first)
		q := h.plan(convBackwardWeight, convOne, p.copyA, p.copyB)
		fromDY := tensor.Tensor{P: dy.Add(4 * first * g.OutH() * g.OutW() * g.K)}
		fromX := tensor.Tensor{P: x.Add(4 * first * g.H * g.W * g.C)}
		if p.copyA {
			fromDY = convPack(s, g, q, q.a, fromDY, copies)
		}
		if p.copyB {
			fromX = convPack(s, g, q, q.b, fromX, copies.Add(dyBytes))
		}
		launch := func(k persampleKernel, to, again device.Ptr) {
			s.LaunchShared(k.name, h.N*k.tiles, convThreads, k.memory,
				device.P(fromX.P), device.P(fromDY.P), device.P(v), device.P(to), device.P(again), device.I64(stride), device.I32(k.tiles),
				device.I32(h.N), device.I32(g.H), device.I32(g.W), device.I32(p.c), device.I32(p.k), device.I32(g.R), device.I32(g.S),
				device.I32(g.Stride), device.I32(g.Pad), device.I32(g.OutH()), device.I32(g.OutW()), device.I32(g.C), device.I32(g.K))
		}
		// inOrder launches what writes a number for each tile, and adds them to a sample's.
		inOrder := func(k persampleKernel, again device.Ptr) {
			mine := out.Add(4 * first)
			if k.tiles == 1 {
				launch(k, mine, again)
				return
			}
			launch(k, numbers, again)
			s.Launch("persample_sum", blocks(h.N, 1), threads,
				device.P(numbers), device.I64(h.N), device.I32(k.tiles), device.P(again), device.P(mine))
		}
		switch {
		case form == persampleStore:
			launch(p.persampleKernel, out.Add(4*first*stride), 0)
		case p.again.name == "":
			inOrder(p.persampleKernel, 0)
		default:
			launch(p.persampleKernel, numbers, 0)
			s.Launch("persample_settle", blocks(h.N, 1), threads, device.P(numbers), device.I64(h.N), device.I32(p.tiles),
				device.I32(g.OutH()*g.OutW()), device.P(out.Add(4*first)), device.P(marks))
			inOrder(p.again, marks)
		}
	}
}
