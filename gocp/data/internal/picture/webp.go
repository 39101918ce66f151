package picture

import "image"

// webpColors makes RGB of a lossy WebP's planes as libwebp does: chroma is interpolated between the
// four nearest samples (upsampling.c, "fancy"), and the colours are those of BT.601 with luma from
// 16 to 235 (yuv.h), where image/color would take JPEG's full range.
func webpColors(m *image.YCbCr, pix []uint8) {
	w, h := m.Rect.Dx(), m.Rect.Dy()
	cw, ch := (w+1)/2, (h+1)/2
	cb, cr := make([]int, w), make([]int, w)
	for y := range h {
		near := y / 2
		if y%2 == 0 {
			near--
		} else {
			near++
		}
		here, there := y/2*m.CStride, min(max(near, 0), ch-1)*m.CStride
		webpStretch(m.Cb[here:][:cw], m.Cb[there:][:cw], cb)
		webpStretch(m.Cr[here:][:cw], m.Cr[there:][:cw], cr)
		row := m.Y[y*m.YStride:][:w]
		for x, v := range row {
			p := pix[3*(y*w+x):][:3]
			p[0], p[1], p[2] = webpRGB(int(v), cb[x], cr[x])
		}
	}
}

// webpStretch doubles a row of chroma; near is the row that the pixels lie next nearest to. The
// nine, three, three and one sixteenths are formed in two halvings, each rounded down.
func webpStretch(here, near []uint8, out []int) {
	out[0] = (3*int(here[0]) + int(near[0]) + 2) >> 2
	for i := 1; i < len(here); i++ {
		a, b, c, d := int(here[i-1]), int(here[i]), int(near[i-1]), int(near[i])
		sum := a + b + c + d + 8
		bc, ad := (sum+2*(b+c))>>3, (sum+2*(a+d))>>3
		// a's pixel lies next to b's and above c's: its opposite is d, b's is c.
		out[2*i-1] = (bc + a) >> 1
		if 2*i < len(out) {
			out[2*i] = (ad + b) >> 1
		}
	}
	if n := len(here); len(out) == 2*n {
		out[2*n-1] = (3*int(here[n-1]) + int(near[n-1]) + 2) >> 2
	}
}

func webpRGB(y, u, v int) (r, g, b uint8) {
	l := (y * 19077) >> 8
	clip := func(v int) uint8 { return uint8(min(max(v>>6, 0), 255)) }
	return clip(l + (v*26149)>>8 - 14234), clip(l - (u*6419)>>8 - (v*13320)>>8 + 8708), clip(l + (u*33050)>>8 - 17685)
}
