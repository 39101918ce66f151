package kernel

import (
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/device"
)

// How per-sample gradients are laid out on a GPU: kernels/conv_persample.cuh. A block makes one tile
// of one sample's product; sums over tiles are made by persample_sum.

const (
	persampleThreads = 128 // persample::kThreads
	persampleDepth   = 32  // mma::kDepth
	persampleStages  = 3
	persampleTaps    = 15 // persample::kMaxTaps
)

// A persampleTile is a block's tile of a product.
type persampleTile struct {
	name string
	m, n int
}

func (t persampleTile) shared() int { return 4 * persampleDepth * persampleStages * (t.m + t.n) }

// blocks is the number of tiles that cover [m,n].
func (t persampleTile) blocks(m, n int) int { return (m + t.m - 1) / t.m * ((n + t.n - 1) / t.n) }

// narrow is the tile of the ghost form, and the direct one's where wide tiles lose more than an
// eighth to what hangs over the edges.
func narrow(aligned bool) persampleTile {
	if aligned {
		return persampleTile{"small", 64, 64}
	}
	return persampleTile{"any", 64, 64}
}

// directTile is the tile of the direct form, [K, R·S·C] with sums over positions.
func (g Conv) directTile(aligned bool) persampleTile {
	if !aligned {
		return narrow(false)
	}
	small, wide := narrow(true), persampleTile{"wide", 128, 64}
	if g.Precision == TF32 {
		wide.n = 128
	}
	covered := func(t persampleTile) int { return t.blocks(g.K, g.R*g.S*g.C) * t.m * t.n }
	if 8*covered(wide) > 9*covered(small) {
		return small
	}
	return wide
}

// ghostTiles is the number of tiles on and above the diagonal of a sample's products of positions.
func (g Conv) ghostTiles() int {
	across := (g.OutH()*g.OutW() + 63) / 64
	return across * (across + 1) / 2
}

// ghostGPU reports whether the ghost form costs fewer multiply-adds than the direct one, counting
// whole tiles, needed or not.
func (g Conv) ghostGPU(direct persampleTile) bool {
	columns := g.R * g.S * g.C
	ghost := g.ghostTiles() * 64 * 64 * (roundUp(g.K, persampleDepth) + roundUp(columns, persampleDepth))
	return ghost < direct.blocks(g.K, columns)*direct.m*direct.n*roundUp(g.OutH()*g.OutW(), persampleDepth)
}

// persampleGPUBytes is the workspace of the launchers below: a number for each tile.
func (g Conv) persampleGPUBytes() int {
	tiles := narrow(false).blocks(g.K, g.R*g.S*g.C)
	for _, aligned := range []bool{false, true} {
		if g.ghostGPU(g.directTile(aligned)) {
			tiles = max(tiles, g.ghostTiles())
		}
	}
	return 4 * g.N * tiles
}

// persampleForm is what is made of the gradients: part of a kernel's name.
type persampleForm string

const (
	persampleStore  persampleForm = "store"
	persampleSquare persampleForm = "square"
	persampleInner  persampleForm = "inner"
)

// launchPersampleGPU makes form of the gradients; v and stride are inner's and store's.
func launchPersampleGPU(s *device.Stream, name string, form persampleForm, g Conv, x, dy, v, out device.Ptr, stride int, w *Workspace) {
	if g.R > persampleTaps || g.S > persampleTaps || max(g.In(), g.Out(), g.Weights()) > math.MaxInt32 {
		fail(s, name, "geometry %+v: more than %d taps or 2³¹ elements", g, persampleTaps)
		return
	}
	if g.Weights() == 0 {
		return
	}
	aligned := (x|dy)%16 == 0 && g.C%4 == 0 && g.K%4 == 0
	tile, of := g.directTile(aligned), string(form)
	tiles := tile.blocks(g.K, g.R*g.S*g.C)
	if form == persampleSquare && g.ghostGPU(tile) {
		tile, tiles, of = narrow(aligned), g.ghostTiles(), "ghost"
	}
	to := out
	if form != persampleStore && tiles > 1 {
		if to = w.take(s, name, 4*g.N*tiles); to == 0 {
			return
		}
	}
	s.LaunchShared(fmt.Sprintf("persample_%s_%s_%s", of, g.Precision, tile.name), g.N*tiles, persampleThreads, tile.shared(),
		device.P(x), device.P(dy), device.P(v), device.P(to), device.I64(stride), device.I32(tiles),
		device.I32(g.H), device.I32(g.W), device.I32(g.C), device.I32(g.K), device.I32(g.R), device.I32(g.S),
		device.I32(g.Stride), device.I32(g.Pad), device.I32(g.OutH()), device.I32(g.OutW()))
	if to != out {
		s.Launch("persample_sum", blocks(g.N, 1), threads, device.P(to), device.I64(g.N), device.I32(tiles), device.P(out))
	}
}
