// Package resample scales 8-bit images as torchvision's Resize does with PIL images: bilinear, the
// triangle widened by the scale where an image shrinks (antialiasing), rows before columns, each
// pass rounded to 8 bits, in Pillow's fixed point (Resample.c of Pillow 12), so that the bytes are
// the same.
package resample

import "math"

// precision is the bits of a weight: two passes of it leave room for 8 bits and a sign in 32.
const precision = 22

// Bilinear scales an image of h×w pixels with c interleaved channels to oh×ow.
func Bilinear(pix []uint8, h, w, c, oh, ow int) []uint8 {
	if ow != w {
		taps := triangle(w, ow)
		out := make([]uint8, h*ow*c)
		for y := range h {
			row := pix[y*w*c:][:w*c]
			for x, t := range taps {
				for k := range c {
					sum := 1 << (precision - 1)
					for i, weight := range t.weights {
						sum += weight * int(row[(t.first+i)*c+k])
					}
					out[(y*ow+x)*c+k] = clip(sum)
				}
			}
		}
		pix = out
	}
	if oh != h {
		n := ow * c
		out := make([]uint8, oh*n)
		for y, t := range triangle(h, oh) {
			for k := range n {
				sum := 1 << (precision - 1)
				for i, weight := range t.weights {
					sum += weight * int(pix[(t.first+i)*n+k])
				}
				out[y*n+k] = clip(sum)
			}
		}
		pix = out
	}
	return pix
}

func clip(sum int) uint8 { return uint8(min(max(sum>>precision, 0), 255)) }

// A tap is what one output sample is made of.
type tap struct {
	first   int
	weights []int
}

// triangle is the taps that bring n samples to out.
func triangle(n, out int) []tap {
	scale := float64(n) / float64(out)
	support := max(scale, 1)
	taps := make([]tap, out)
	for x := range taps {
		centre := (float64(x) + 0.5) * scale
		first := max(int(centre-support+0.5), 0)
		last := min(int(centre+support+0.5), n)
		raw := make([]float64, last-first)
		sum := 0.0
		for i := range raw {
			raw[i] = max(1-math.Abs((float64(i+first)-centre+0.5)*(1/support)), 0)
			sum += raw[i]
		}
		t := tap{first, make([]int, len(raw))}
		for i, v := range raw {
			if sum != 0 {
				v /= sum
			}
			t.weights[i] = int(0.5 + v*(1<<precision))
		}
		taps[x] = t
	}
	return taps
}

// Centre is where a crop of n samples out of size begins: in the middle, halves rounded to even as
// torchvision's center_crop does.
func Centre(size, n int) int { return int(math.RoundToEven(float64(size-n) / 2)) }
