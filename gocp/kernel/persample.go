package kernel

import (
	"fmt"

	"github.com/gocp/gocp/gocp/device"
)

// persampleBlocks bounds the blocks, and so the scratch, of the host's per-sample kernels.
const persampleBlocks = 16

// Tile, panel and chunk of kernels/persample.cu.
const (
	tileRows  = 8
	panelSize = 32
	chunkSize = 256
)

func roundUp(n, to int) int { return (n + to - 1) / to * to }

// directFloats and ghostFloats are the scratch of one block in the two forms of kernels/persample.cu;
// where the ghost form cancels, its block takes the direct one in what it has.
func (g Conv) directFloats() int {
	rows := (g.OutH()*g.OutW() + 4) * roundUp(g.K, tileRows)
	panel := (chunkSize + roundUp(g.K, tileRows)) * panelSize
	image := (g.H+2*g.Pad)*(g.W+2*g.Pad)*g.C + panelSize
	return roundUp(rows+panel+image, 64)
}

func (g Conv) ghostFloats() int {
	t := roundUp(g.H*g.W, panelSize)
	return roundUp(g.S*t+max(t*(g.C+g.K)+2*t*t, g.directFloats()), 64)
}

// ghost reports whether products of pixels are cheaper than products of patches. The counts are of
// multiply-adds that a tile does, needed or not; moving data weighs in as measured: 2 for each
// element packed and each term of a patch's product.
func (g Conv) ghost() bool {
	if g.Stride != 1 || 2*g.Pad != g.R-1 || 2*g.Pad != g.S-1 {
		return false
	}
	t, columns := g.H*g.W, roundUp(g.R*g.S*g.C, panelSize)
	direct := t*columns*roundUp(g.K, tileRows) + 8*t*(columns+g.K)
	rows, wide := roundUp(t, tileRows), roundUp(t, panelSize)
	upper := rows * (wide + panelSize) / 2
	ghost := upper*(g.C+g.K) + upper*(2*g.R*g.S) + 8*t*(g.C+g.K)
	return ghost < direct
}

// linear reports whether every sample's gradient is one outer product.
func (g Conv) linear() bool { return g.H == 1 && g.W == 1 && g.R == 1 && g.S == 1 && g.Pad == 0 }

func (g Conv) grid() int { return max(1, min(g.N, persampleBlocks)) }

// PersampleBytes is the workspace that the per-sample launchers ask for on s at this geometry and at
// smaller batches.
func PersampleBytes(s *device.Stream, g Conv) int {
	if g.Stride < 1 || g.OutH() < 1 || g.OutW() < 1 || g.groups() > 1 {
		return 0
	}
	if onGPU(s) {
		return g.persampleGPUBytes()
	}
	floats := g.directFloats()
	if g.ghost() {
		floats = max(floats, g.ghostFloats())
	}
	return 4 * floats * g.grid()
}

func (g Conv) checkPersample(s *device.Stream, name string, pointers ...pointer) bool {
	if !check(s, name, g.N, g.H, g.W, g.C, g.K, g.Pad) {
		return false
	}
	if g.Stride < 1 || g.R < 1 || g.S < 1 || g.OutH() < 1 || g.OutW() < 1 {
		fail(s, name, "geometry %+v has no output", g)
		return false
	}
	if err := g.check(); err != nil {
		s.Fail(fmt.Errorf("kernel %s: %w", name, err))
		return false
	}
	return g.N > 0 && checkPresent(s, name, pointers...)
}

func (g Conv) args() []device.Arg {
	return []device.Arg{device.I64(g.N), device.I32(g.H), device.I32(g.W), device.I32(g.C), device.I32(g.K),
		device.I32(g.R), device.I32(g.S), device.I32(g.Stride), device.I32(g.Pad)}
}

// launchGrouped launches the kernel for convolutions with groups. It needs no workspace, and its products
// are float32 on every device.
func (g Conv) launchGrouped(s *device.Stream, x, dy, v, out device.Ptr, stride int) {
	s.Launch("persample_grouped", min(g.N, maxBlocks), threads, append(g.args(), device.I32(g.groups()),
		device.P(x), device.P(dy), device.P(v), device.P(out), device.I64(stride))...)
}

// PersampleSqNorm adds to out[N] the squared norm of each sample's gradient to the weights of a
// convolution or linear layer with input x[N,H,W,C] and gradient dy[N,OH,OW,K] of the summed loss,
// without storing the gradients. On a GPU the products of all three launchers are of g.Precision, but
// for a linear layer's norm and groups; the host's are float32.
func PersampleSqNorm(s *device.Stream, g Conv, x, dy, out device.Ptr, w *Workspace) {
	const name = "PersampleSqNorm"
	if !g.checkPersample(s, name, pointer{"x", x}, pointer{"dy", dy}, pointer{"out", out}) {
		return
	}
	if g.groups() > 1 {
		g.launchGrouped(s, x, dy, 0, out, 0)
		return
	}
	if g.linear() {
		s.Launch("persample_linear", blocks(g.N, max(1, perBlock/(g.C+g.K+1))), threads,
			device.I64(g.N), device.I64(g.C), device.I64(g.K), device.P(x), device.P(dy), device.P(out))
		return
	}
	if onGPU(s) {
		launchPersampleGPU(s, name, persampleSquare, g, x, dy, 0, out, 0, w)
		return
	}
	work := w.take(s, name, PersampleBytes(s, g))
	if work == 0 {
		return
	}
	if g.ghost() {
		s.Launch("persample_ghost", g.grid(), threads, device.I64(g.N), device.I32(g.H), device.I32(g.W),
			device.I32(g.C), device.I32(g.K), device.I32(g.R), device.I32(g.S), device.I32(g.Pad),
			device.P(x), device.P(dy), device.P(out), device.P(work), device.I64(g.ghostFloats()))
		return
	}
	s.Launch("persample_square", g.grid(), threads, append(g.args(), device.P(x), device.P(dy),
		device.P(out), device.P(work), device.I64(g.directFloats()))...)
}

// PersampleGrad writes each sample's gradient to the weights, [K,R,S,C], to out: sample i's starts
// i·stride floats into it.
func PersampleGrad(s *device.Stream, g Conv, x, dy, out device.Ptr, stride int, w *Workspace) {
	const name = "PersampleGrad"
	if !g.checkPersample(s, name, pointer{"x", x}, pointer{"dy", dy}, pointer{"out", out}) {
		return
	}
	if stride < g.Weights() {
		fail(s, name, "stride %d, want at least %d", stride, g.Weights())
		return
	}
	if g.groups() > 1 {
		g.launchGrouped(s, x, dy, 0, out, stride)
		return
	}
	if onGPU(s) {
		launchPersampleGPU(s, name, persampleStore, g, x, dy, 0, out, stride, w)
		return
	}
	if work := w.take(s, name, PersampleBytes(s, g)); work != 0 {
		s.Launch("persample_store", g.grid(), threads, append(g.args(), device.P(x), device.P(dy),
			device.P(out), device.I64(stride), device.P(work), device.I64(g.directFloats()))...)
	}
}

// PersampleInner adds to out[N] the inner product of each sample's gradient to the weights with
// v[K,R,S,C], without storing the gradients.
func PersampleInner(s *device.Stream, g Conv, x, dy, v, out device.Ptr, w *Workspace) {
	const name = "PersampleInner"
	if !g.checkPersample(s, name, pointer{"x", x}, pointer{"dy", dy}, pointer{"v", v}, pointer{"out", out}) {
		return
	}
	if g.groups() > 1 {
		g.launchGrouped(s, x, dy, v, out, 0)
		return
	}
	if onGPU(s) {
		launchPersampleGPU(s, name, persampleInner, g, x, dy, v, out, 0, w)
		return
	}
	if work := w.take(s, name, PersampleBytes(s, g)); work != 0 {
		s.Launch("persample_inner", g.grid(), threads, append(g.args(), device.P(x), device.P(dy),
			device.P(v), device.P(out), device.P(work), device.I64(g.directFloats()))...)
	}
}

// PersampleAffine writes, for each sample, the gradients of the affine map inside ActForward: row i
// of dscale is Σ dy·z and row i of dshift Σ dy over sample i's outputs that idx says passed, z at
// the inputs that idx names. Rows of both [N,C] start stride floats apart. Either may be absent;
// idx may be absent with neither activation nor pooling, z without dscale. With Pool 1 and no idx, dshift
// is each sample's gradient to the bias of the layer whose output gradient is dy.
func PersampleAffine(s *device.Stream, a Act, dy, z, idx, dscale, dshift device.Ptr, stride int) {
	const name = "PersampleAffine"
	if !a.check(s, name) || a.N*a.C == 0 || !checkPresent(s, name, pointer{"dy", dy}) {
		return
	}
	switch {
	case stride < a.C:
		fail(s, name, "stride %d, want at least %d", stride, a.C)
	case dscale != 0 && z == 0:
		fail(s, name, "dscale is wanted and z is absent")
	case idx == 0 && a.Indexed():
		fail(s, name, "idx is absent with an activation or pooling in %+v", a)
	default:
		if dscale == 0 {
			z = 0
		}
		s.Launch("persample_affine", blocks(a.N, max(1, perBlock/max(a.H*a.W*a.C, 1))), threads,
			device.I64(a.N), device.I32(a.H), device.I32(a.W), device.I32(a.C),
			device.I32(a.pool()), device.I32(a.stride()), device.I32(a.Pad),
			device.P(dy), device.P(z), device.P(a.index(idx)), device.P(dscale), device.P(dshift), device.I64(stride))
	}
}

// PersampleNorm turns PersampleAffine's dscale into each sample's gradient to batch norm's weight in
// evaluation mode, in place: (dscale − mean·dshift) / √(variance + eps). dshift is that to its
// bias already.
func PersampleNorm(s *device.Stream, n, c int, mean, variance device.Ptr, eps float64, dscale, dshift device.Ptr, stride int) {
	const name = "PersampleNorm"
	if !check(s, name, n, c) || n*c == 0 || !checkPresent(s, name, pointer{"mean", mean},
		pointer{"variance", variance}, pointer{"dscale", dscale}, pointer{"dshift", dshift}) {
		return
	}
	if stride < c {
		fail(s, name, "stride %d, want at least %d", stride, c)
		return
	}
	s.Launch("persample_norm", blocks(n, max(1, perBlock/c)), threads, device.I64(n), device.I32(c), device.P(mean),
		device.P(variance), device.F32(eps), device.P(dshift), device.P(dscale), device.I64(stride))
}
