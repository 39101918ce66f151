package attack

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
)

// Images are 8-bit pictures with their labels, [N,H,W,C] row by row.
type Images struct {
	H, W, C int
	Pixels  []uint8
	Labels  []int32
}

// Len is the number of images.
func (m Images) Len() int { return len(m.Labels) }

// Size is the number of bytes of one image.
func (m Images) Size() int { return m.H * m.W * m.C }

// At returns image i; it shares m's memory.
func (m Images) At(i int) []uint8 { return m.Pixels[i*m.Size() : (i+1)*m.Size()] }

// Select copies the images with the given indices.
func (m Images) Select(index []int) Images {
	out := Images{H: m.H, W: m.W, C: m.C, Pixels: make([]uint8, 0, len(index)*m.Size()), Labels: make([]int32, 0, len(index))}
	for _, i := range index {
		out.Pixels = append(out.Pixels, m.At(i)...)
		out.Labels = append(out.Labels, m.Labels[i])
	}
	return out
}

func (m Images) check(what string) error {
	if m.Size() < 1 || len(m.Pixels) != m.Len()*m.Size() {
		return fmt.Errorf("attack: %s: %d bytes for %d images of %dx%dx%d", what, len(m.Pixels), m.Len(), m.H, m.W, m.C)
	}
	return nil
}

// Poisons are images that were moved inside the ball, on the 8-bit grid, or have other labels, or both.
type Poisons struct {
	Method     string  // firstorder, secondorder, labels, metapoison, witchesbrew, randun, randga, randlabel
	Epsilon255 float64 // radius of the ball in 255ths; 0: pixels do not change
	Seed       uint64
	Bases      []int     // indices of the clean images in Problem.Pool
	Before     Images    // the clean images and their labels
	After      []uint8   // the poisons, as Before.Pixels
	Turned     []int32   // their labels, none as before; nil: labels do not change
	Report     *Crafting // what crafting saw; nil for noise
}

// Images returns the poisons with their labels.
func (p *Poisons) Images() Images {
	m := p.Before
	m.Pixels = p.After
	if p.Turned != nil {
		m.Labels = p.Turned
	}
	return m
}

// Delta is δ in pixel units, [P,H,W,C]: (after − before)/255.
func (p *Poisons) Delta() []float32 {
	d := make([]float32, len(p.After))
	for i, a := range p.After {
		d[i] = float32(int(a)-int(p.Before.Pixels[i])) / 255
	}
	return d
}

// Spread returns the largest and the mean |δ| in 255ths.
func (p *Poisons) Spread() (largest int, mean float64) {
	sum := 0
	for i, a := range p.After {
		d := int(a) - int(p.Before.Pixels[i])
		if d < 0 {
			d = -d
		}
		largest = max(largest, d)
		sum += d
	}
	if len(p.After) > 0 {
		mean = float64(sum) / float64(len(p.After))
	}
	return largest, mean
}

// Hash is the SHA-256 of the 8-bit poisons and, where labels are turned, of their labels after them, 4 bytes each.
func (p *Poisons) Hash() string {
	h := sha256.New()
	h.Write(p.After)
	for _, y := range p.Turned {
		h.Write(binary.LittleEndian.AppendUint32(nil, uint32(y)))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// check holds the promise of every method: the ball and the pixel range hold on the 8-bit grid, and a label that is turned
// is another.
func (p *Poisons) check() error {
	if p.Turned != nil && len(p.Turned) != p.Before.Len() {
		return fmt.Errorf("attack: %s: %d labels for %d poisons", p.Method, len(p.Turned), p.Before.Len())
	}
	for i, y := range p.Turned {
		if y == p.Before.Labels[i] {
			return fmt.Errorf("attack: %s: the label of poison %d is turned into itself, %d", p.Method, i, y)
		}
	}
	if largest, _ := p.Spread(); float64(largest) > p.Epsilon255 {
		return fmt.Errorf("attack: %s: |δ| is %d/255, outside the ball of radius %g/255", p.Method, largest, p.Epsilon255)
	}
	return nil
}

// quantise sets out to the 8-bit image nearest to base + delta that lies in the ball.
func quantise(out, base []uint8, delta []float32, epsilon255 float64) {
	r := math.Floor(epsilon255)
	for i, b := range base {
		d := math.Round(255 * float64(delta[i]))
		d = math.Max(-r, math.Min(r, d))
		out[i] = uint8(math.Max(0, math.Min(255, float64(b)+d)))
	}
}
