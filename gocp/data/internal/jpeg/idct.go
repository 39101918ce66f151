package jpeg

// The inverse transform of Loeffler, Ligtenberg and Moschytz ("Practical Fast 1-D DCT Algorithms
// with 11 Multiplications", ICASSP 1989) in fixed point: 13 bits of constants, 2 bits kept between
// columns and rows, each result rounded to the nearest. Its roundings are those of libjpeg's
// "islow" (jidctint.c, libjpeg-turbo 3.1).
const (
	constBits = 13
	passBits  = 2
)

// The constants, times 2^13.
const (
	c0_298631336 = 2446
	c0_390180644 = 3196
	c0_541196100 = 4433
	c0_765366865 = 6270
	c0_899976223 = 7373
	c1_175875602 = 9633
	c1_501321110 = 12299
	c1_847759065 = 15137
	c1_961570560 = 16069
	c2_053119869 = 16819
	c2_562915447 = 20995
	c3_072711026 = 25172
)

// idct1 transforms 8 values; results carry constBits more bits.
func idct1(x0, x1, x2, x3, x4, x5, x6, x7 int) (y0, y1, y2, y3, y4, y5, y6, y7 int) {
	z := (x2 + x6) * c0_541196100
	e2, e3 := z-x6*c1_847759065, z+x2*c0_765366865
	e0, e1 := (x0+x4)<<constBits, (x0-x4)<<constBits
	a0, a3, a1, a2 := e0+e3, e0-e3, e1+e2, e1-e2

	z5 := (x7 + x3 + x5 + x1) * c1_175875602
	z1, z2 := -(x7+x1)*c0_899976223, -(x5+x3)*c2_562915447
	z3, z4 := z5-(x7+x3)*c1_961570560, z5-(x5+x1)*c0_390180644
	b0 := x7*c0_298631336 + z1 + z3
	b1 := x5*c2_053119869 + z2 + z4
	b2 := x3*c3_072711026 + z2 + z3
	b3 := x1*c1_501321110 + z1 + z4
	return a0 + b3, a1 + b2, a2 + b1, a3 + b0, a3 - b0, a2 - b1, a1 - b2, a0 - b3
}

// idct writes the samples of a dequantised block to out, whose rows are stride apart.
func idct(block *[64]int32, out []byte, stride int) {
	var mid [64]int
	for x := range 8 {
		c := (*[57]int32)(block[x : x+57])
		if c[8]|c[16]|c[24]|c[32]|c[40]|c[48]|c[56] == 0 {
			v := int(c[0]) << passBits
			for y := range 8 {
				mid[8*y+x] = v
			}
			continue
		}
		const shift, half = constBits - passBits, 1 << (constBits - passBits - 1)
		y0, y1, y2, y3, y4, y5, y6, y7 := idct1(int(c[0]), int(c[8]), int(c[16]), int(c[24]), int(c[32]), int(c[40]), int(c[48]), int(c[56]))
		m := (*[57]int)(mid[x : x+57])
		m[0], m[8], m[16], m[24] = (y0+half)>>shift, (y1+half)>>shift, (y2+half)>>shift, (y3+half)>>shift
		m[32], m[40], m[48], m[56] = (y4+half)>>shift, (y5+half)>>shift, (y6+half)>>shift, (y7+half)>>shift
	}
	for y := range 8 {
		m := (*[8]int)(mid[8*y : 8*y+8])
		y0, y1, y2, y3, y4, y5, y6, y7 := idct1(m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7])
		row := (*[8]byte)(out[y*stride : y*stride+8])
		row[0], row[1], row[2], row[3] = sample(y0), sample(y1), sample(y2), sample(y3)
		row[4], row[5], row[6], row[7] = sample(y4), sample(y5), sample(y6), sample(y7)
	}
}

// sample rounds a result of the second pass and brings it from −128 … 127 to a byte.
func sample(v int) byte {
	const shift = constBits + passBits + 3
	return clamp((v + 128<<shift + 1<<(shift-1)) >> shift)
}

func clamp(v int) byte {
	if uint(v) > 255 {
		if v < 0 {
			return 0
		}
		return 255
	}
	return byte(v)
}

// store transforms a dequantised block into its place.
func (c *component) store(bx, by int, block *[64]int32) {
	idct(block, c.plane[8*(by*c.stride+bx):], c.stride)
}

// transform makes the plane of a progressive component.
func (c *component) transform() {
	var block [64]int32
	across := c.stride / 8
	for i := range len(c.coeffs) / 64 {
		for k, v := range c.coeffs[64*i : 64*i+64] {
			block[k] = int32(v) * c.quant[k]
		}
		c.store(i%across, i/across, &block)
	}
}
