package jpeg

// render brings all components to full size and makes pixels of them.
func (d *decoder) render(pix []byte) {
	rows := make([][]byte, len(d.comps))
	for i := range rows {
		rows[i] = make([]byte, d.w+2*d.hmax) // interpolation writes whole steps
	}
	convert := d.conversion()
	n := len(pix) / d.h
	for y := range d.h {
		for i := range d.comps {
			d.row(&d.comps[i], y, rows[i])
		}
		convert(rows, pix[y*n:y*n+n])
	}
}

// row writes row y of the picture for one component to out: as it is, interpolated between samples
// where libjpeg does so by default, or each sample as often as it counts.
func (d *decoder) row(c *component, y int, out []byte) {
	h, w := d.size(c)
	sx, sy := d.hmax/c.h, d.vmax/c.v
	in := func(y int) []byte { return c.plane[min(max(y, 0), h-1)*c.stride:][:w] }
	here := in(y / sy)
	// The row next to it that this one lies nearer to than the others do.
	near, bias := y/sy-1, 1
	if y%sy == 1 {
		near, bias = y/sy+1, 2
	}
	switch {
	case sx == 1 && sy == 1:
		copy(out, here)
	case sx == 2 && sy == 1 && w > 2:
		stretch(here, out)
	case sx == 1 && sy == 2:
		other := in(near)
		for x, v := range here {
			out[x] = byte((3*int(v) + int(other[x]) + bias) >> 2)
		}
	case sx == 2 && sy == 2 && w > 2:
		stretch2(here, in(near), out)
	default:
		for x, v := range here {
			for j := range sx {
				if at := sx*x + j; at < len(out) {
					out[at] = v
				}
			}
		}
	}
}

// stretch doubles a row: three parts of the nearer sample, one of the other (jdsample.c,
// h2v1_fancy_upsample).
func stretch(in, out []byte) {
	n := len(in) - 1
	out[0] = in[0]
	out[2*n+1] = in[n]
	for x := range n {
		a, b := int(in[x]), int(in[x+1])
		out[2*x+1] = byte((3*a + b + 2) >> 2)
		out[2*x+2] = byte((a + 3*b + 1) >> 2)
	}
}

// stretch2 does so in both directions (h2v2_fancy_upsample).
func stretch2(here, near, out []byte) {
	n := len(here) - 1
	a := 3*int(here[0]) + int(near[0])
	out[0] = byte((4*a + 8) >> 4)
	for x := range n {
		b := 3*int(here[x+1]) + int(near[x+1])
		out[2*x+1] = byte((3*a + b + 7) >> 4)
		out[2*x+2] = byte((a + 3*b + 8) >> 4)
		a = b
	}
	out[2*n+1] = byte((4*a + 7) >> 4)
}

// conversion is how rows of components become pixels. Which colours the components are is found out
// as libjpeg does.
func (d *decoder) conversion() func(rows [][]byte, out []byte) {
	switch {
	case len(d.comps) == 1:
		return func(rows [][]byte, out []byte) { copy(out, rows[0]) }
	case len(d.comps) == 4:
		return cmyk(d.adobe > 0)
	case d.jfif:
	case d.adobe == 0, d.adobe < 0 && d.comps[0].id == 'R' && d.comps[1].id == 'G' && d.comps[2].id == 'B':
		return func(rows [][]byte, out []byte) {
			for x := range len(out) / 3 {
				out[3*x], out[3*x+1], out[3*x+2] = rows[0][x], rows[1][x], rows[2][x]
			}
		}
	}
	return func(rows [][]byte, out []byte) {
		ys, cbs, crs := rows[0], rows[1], rows[2]
		for x := range len(out) / 3 {
			p := out[3*x : 3*x+3 : 3*x+3]
			p[0], p[1], p[2] = rgb(ys[x], cbs[x], crs[x])
		}
	}
}

// The coefficients of JFIF's conversion, times 2^16 (jdcolor.c).
const (
	half  = 1 << 15
	redCr = 91881  // 1.402
	bluCb = 116130 // 1.772
	grnCr = 46802  // 0.71414
	grnCb = 22554  // 0.34414
)

func rgb(y, cb, cr byte) (r, g, b byte) {
	v, u, w := int(y), int(cb)-128, int(cr)-128
	return clamp(v + (redCr*w+half)>>16), clamp(v + (half-grnCb*u-grnCr*w)>>16), clamp(v + (bluCb*u+half)>>16)
}

// cmyk takes inks as Adobe's programs store them, inverted, and makes RGB of them as Pillow does.
// ycck tells that cyan, magenta and yellow are stored as YCbCr.
func cmyk(ycck bool) func(rows [][]byte, out []byte) {
	return func(rows [][]byte, out []byte) {
		for x := range len(out) / 3 {
			ink := [3]byte{rows[0][x], rows[1][x], rows[2][x]}
			if ycck {
				r, g, b := rgb(ink[0], ink[1], ink[2])
				ink = [3]byte{255 - r, 255 - g, 255 - b}
			}
			white := int(rows[3][x]) // 255 − K
			for i, v := range ink {
				// K's white less the share of it that the ink takes, v/255 rounded.
				t := int(255-v)*white + 128
				out[3*x+i] = clamp(white - (t+t>>8)>>8)
			}
		}
	}
}
