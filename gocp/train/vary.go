package train

import (
	"math"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// How images are varied, in the order in which it happens.
const (
	VaryCrop   = "crop"   // shifted by up to an eighth of the side, or by what training shifts anyway if that is more
	VaryFlip   = "flip"   // mirrored, every other one
	VaryNoise  = "noise"  // normal noise of standard deviation 16/255 on each number
	VaryCutout = "cutout" // a square of half the side, about a pixel of the image, is black (DeVries and Taylor 2017)
	VaryMixup  = "mixup"  // λ of the image and 1−λ of another of the batch, labels likewise; λ uniform (Zhang et al. 2018)
	VaryCutmix = "cutmix" // a rectangle of share 1−λ is another image's, labels as the areas (Yun et al. 2019)
)

// varyNoise is the standard deviation of VaryNoise.
const varyNoise = 16. / 255

// Variations lists them.
func Variations() []string {
	return []string{VaryCrop, VaryFlip, VaryNoise, VaryCutout, VaryMixup, VaryCutmix}
}

func checkVary(name string, kinds []string) error {
	for i, k := range kinds {
		if !slices.Contains(Variations(), k) {
			return usage.Errorf("train: %s varies images by %q, which is not known (known: %s)", name, k, strings.Join(Variations(), ", "))
		}
		if slices.Contains(kinds[:i], k) {
			return usage.Errorf("train: %s varies images by %s twice", name, k)
		}
	}
	if slices.Contains(kinds, VaryMixup) && slices.Contains(kinds, VaryCutmix) {
		return usage.Errorf("train: %s mixes images by %s or by %s, not by both", name, VaryMixup, VaryCutmix)
	}
	return nil
}

// A box is a rectangle of an image: lines and columns, the last ones excluded.
type box struct{ top, bottom, left, right int }

// around is the part of a rectangle of h by w about a pixel that lies in an image of H by W.
func around(y, x, h, w, H, W int) box {
	clip := func(v, most int) int { return max(0, min(v, most)) }
	return box{clip(y-h/2, H), clip(y-h/2+h, H), clip(x-w/2, W), clip(x-w/2+w, W)}
}

// A variation is what is drawn on the host for one image of one copy of a batch.
type variation struct {
	cut     box     // VaryCutout
	partner int     // VaryMixup, VaryCutmix: the place of the other image in the batch
	paste   box     // VaryCutmix
	own     float32 // and the share of the own label
}

// A varier makes copies of a batch, each image of each copy varied by draws of its own.
type varier struct {
	*trainer
	copies              int
	crop                int // by how many pixels
	flip, noise         bool
	cutout, mixup, cmix bool

	x                tensor.Tensor // [copies·room,H,W,C], copy by copy
	noises, cut, mix device.Ptr    // likewise: noise, masks
	partner, other   device.Ptr    // int32, likewise: places in x, labels
	own, ownEach     device.Ptr    // likewise: share of the own label, and that for each class
	y                tensor.Tensor // [room,H,W,C]
	loss, dlogits    device.Ptr    // against the other labels

	masks []float32
}

func newVarier(t *trainer, copies int) *varier {
	s, n := t.s, copies*t.room
	has := func(k string) bool { return slices.Contains(t.cfg.Defense.Vary, k) }
	v := &varier{trainer: t, copies: copies, crop: t.cfg.Shift, flip: t.cfg.Flip || has(VaryFlip), noise: has(VaryNoise),
		cutout: has(VaryCutout), mixup: has(VaryMixup), cmix: has(VaryCutmix), x: tensor.New(s, n, t.spec.H, t.spec.W, t.spec.C)}
	if has(VaryCrop) {
		v.crop = max(v.crop, min(t.spec.H, t.spec.W)/8)
	}
	if v.crop > 0 || v.flip { // of all copies
		t.aug = kernel.Augmentation{Draws: s.Alloc(4 * 3 * n), Reflect: t.cfg.Pad == PadReflect}
	}
	size := 4 * t.pixels()
	if v.noise {
		v.noises = s.Alloc(n * size)
	}
	if v.cutout {
		v.cut = s.Alloc(n * size)
	}
	if v.mixes() {
		v.mix, v.partner, v.other, v.own, v.ownEach = s.Alloc(n*size), s.Alloc(4*n), s.Alloc(4*n), s.Alloc(4*n), s.Alloc(4*n*t.spec.Classes)
		v.y = tensor.New(s, t.room, t.spec.H, t.spec.W, t.spec.C)
		v.loss, v.dlogits = s.Alloc(4*t.room), s.Alloc(4*t.room*t.spec.Classes)
	}
	return v
}

// pixels are the numbers of an image.
func (t *trainer) pixels() int { return t.spec.H * t.spec.W * t.spec.C }

// mixes reports whether an image takes something from another.
func (v *varier) mixes() bool { return v.mixup || v.cmix }

// draw draws step k's variations of a batch, copy by copy.
func (v *varier) draw(epoch, k, size int) []variation {
	src, h, w := rng.New(v.cfg.Seed, rng.Stream("vary", uint64(epoch), uint64(k))), v.spec.H, v.spec.W
	all := make([]variation, v.copies*size)
	for j := range v.copies {
		each := all[j*size : (j+1)*size]
		if v.cutout {
			for i := range each {
				each[i].cut = around(src.Intn(h), src.Intn(w), max(1, h/2), max(1, w/2), h, w)
			}
		}
		if !v.mixes() {
			continue
		}
		for i, p := range src.Perm(size) {
			each[i].partner, each[i].own = p, src.Float32()
			if v.cmix {
				side := math.Sqrt(1 - float64(each[i].own))
				b := around(src.Intn(h), src.Intn(w), int(side*float64(h)), int(side*float64(w)), h, w)
				each[i].paste, each[i].own = b, 1-float32((b.bottom-b.top)*(b.right-b.left))/float32(h*w)
			}
		}
	}
	return all
}

// ready draws step k's variations and puts them on the device, but for shifts and flips.
func (v *varier) ready(epoch, k int, batch []int32) []variation {
	s, size := v.s, len(batch)
	all := v.draw(epoch, k, size)
	if v.noise {
		kernel.NormalNoise(s, v.cfg.Seed, rng.Stream("vary noise", uint64(epoch), uint64(k)), varyNoise, math.Inf(1), v.noises, len(all)*v.pixels())
	}
	if v.cutout {
		device.Upload(s, v.cut, v.mask(all, func(d variation) (box, float32, float32) { return d.cut, 0, 1 }))
	}
	if !v.mixes() {
		return all
	}
	device.Upload(s, v.mix, v.mask(all, func(d variation) (box, float32, float32) {
		if v.cmix {
			return d.paste, 0, 1
		}
		return box{}, 0, d.own
	}))
	places := make([]int32, len(all))
	for i, d := range all {
		places[i] = int32(d.partner)
	}
	device.Upload(s, v.partner, places)
	v.share(all)
	return all
}

// share puts the shares of the own labels on the device.
func (v *varier) share(all []variation) {
	k := v.spec.Classes
	own := make([]float32, len(all)*(1+k))
	for i, d := range all {
		own[i] = d.own
		for c := range k {
			own[len(all)+i*k+c] = d.own
		}
	}
	device.Upload(v.s, v.own, own[:len(all)])
	device.Upload(v.s, v.ownEach, own[len(all):])
}

// mask is an array over the images that is one number in a box of each and another outside.
func (v *varier) mask(all []variation, of func(variation) (b box, inside, outside float32)) []float32 {
	size, c, w := v.pixels(), v.spec.C, v.spec.W
	if v.masks == nil {
		v.masks = make([]float32, v.copies*v.room*size)
	}
	for i, d := range all {
		b, inside, outside := of(d)
		image := v.masks[i*size : (i+1)*size]
		for at := range image {
			image[at] = outside
		}
		for y := b.top; y < b.bottom; y++ {
			line := image[(y*w+b.left)*c : (y*w+max(b.left, b.right))*c]
			for at := range line {
				line[at] = inside
			}
		}
	}
	return v.masks[:len(all)*size]
}

// copy makes copy j of the batch.
func (v *varier) copy(j, size int) tensor.Tensor {
	s, h, w, c := v.s, v.spec.H, v.spec.W, v.spec.C
	at, n := 4*j*size*v.pixels(), size*v.pixels()
	x := tensor.Tensor{Shape: []int{size, h, w, c}, P: v.x.P.Add(at)}
	kernel.Gather(s, v.images, v.index, v.aug.At(j*size), size, h, w, c, x)
	one := kernel.Coef{Value: 1}
	if v.noise {
		kernel.Axpby(s, one, v.noises.Add(at), one, x.P, n)
	}
	if v.cutout {
		kernel.Multiply(s, x, tensor.Tensor{Shape: x.Shape, P: v.cut.Add(at)}, x)
	}
	if v.mixes() {
		y := v.batch(v.y, size)
		kernel.GatherF32(s, x.P, 0, v.partner.Add(4*j*size), kernel.Augmentation{}, size, h, w, c, y)
		kernel.GatherInt32(s, v.batchLabels, v.partner.Add(4*j*size), size, v.other.Add(4*j*size))
		v.blend(n, v.mix.Add(at), y.P, x.P)
	}
	return x
}

// blend computes x ← w·x + (1−w)·y, element by element.
func (v *varier) blend(n int, w, y, x device.Ptr) {
	one, flat := kernel.Coef{Value: 1}, func(p device.Ptr) tensor.Tensor { return tensor.Tensor{Shape: []int{n}, P: p} }
	kernel.Axpby(v.s, kernel.Coef{Value: -1}, y, one, x, n)
	kernel.Multiply(v.s, flat(x), flat(w), flat(x))
	kernel.Axpby(v.s, one, y, one, x, n)
}

// against is the loss of the last forward pass, which was of copy j or of one that has its shares and labels in that place.
func (v *varier) against(j, size int) (loss, dlogits tensor.Tensor) {
	k := v.spec.Classes
	if !v.mixes() {
		return v.net.Loss(v.batchLabels)
	}
	loss, dlogits = v.net.Loss(v.other.Add(4 * j * size))
	v.s.Copy(v.loss, loss.P, 4*size)
	v.s.Copy(v.dlogits, dlogits.P, 4*size*k)
	loss, dlogits = v.net.Loss(v.batchLabels)
	v.blend(size, v.own.Add(4*j*size), v.loss, loss.P)
	v.blend(size*k, v.ownEach.Add(4*j*size*k), v.dlogits, dlogits.P)
	return loss, dlogits
}

// drawn draws the shifts and flips of all copies.
func (v *varier) drawn(size int) {
	if v.aug.Draws != 0 {
		kernel.AugmentDraw(v.s, v.cfg.Seed, v.trainer.step, v.copies*size, v.crop, v.flip, v.aug.Draws)
	}
	if v.draws() {
		kernel.Increment(v.s, v.trainer.step)
	}
	kernel.GatherInt32(v.s, v.labels, v.index, size, v.batchLabels)
}

// learn passes x forth and back, against the labels in copy j's place, and descends.
func (v *varier) learn(j, size int, x tensor.Tensor) {
	v.forward(v.theta, x)
	_, dlogits := v.against(j, size)
	v.net.Backward(dlogits, v.grad, tensor.Tensor{})
	v.net.UpdateRunning(v.running)
	v.descend(float64(size))
}

// augment is SGD on varied images.
var augment = method{
	name: "augment", source: "DeVries, Taylor: Improved Regularization of Convolutional Neural Networks with Cutout, 2017; Zhang et al.: mixup, ICLR 2018; Yun et al.: CutMix, ICCV 2019",
	defaults: Defense{Vary: []string{VaryCutmix}},
	check:    func(d Defense) error { return checkVary("augment", d.Vary) },
	start:    func(t *trainer) way { return &augmented{varier: newVarier(t, 1)} },
}

type augmented struct{ *varier }

func (a *augmented) batches(epoch int) ([][]int32, error) { return a.shuffled(epoch, a.all()), nil }

func (a *augmented) step(epoch, k int, batch []int32) error {
	size := len(batch)
	a.ready(epoch, k, batch)
	a.do("step", size, func() {
		a.drawn(size)
		a.learn(0, size, a.copy(0, size))
	})
	return nil
}
