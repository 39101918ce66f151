package jpeg

import "errors"

// lookup is how many bits of a code are looked up at once.
const lookup = 9

// huffman is a table of codes (T.81, annex C).
type huffman struct {
	fast   [1 << lookup]uint16 // length and symbol of a code that begins so, 0: it is longer
	max    [17]int32           // largest code of a length, −1 where there is none
	offset [17]int32           // from a code of a length to its symbol
	symbol []byte
}

var errHuffman = errors.New("a broken Huffman table")

func newHuffman(counts, symbols []byte) (*huffman, error) {
	h := &huffman{symbol: symbols}
	code, at := int32(0), int32(0)
	for length := 1; length <= 16; length++ {
		n := int32(counts[length-1])
		h.offset[length] = at - code
		h.max[length] = -1
		if n > 0 {
			h.max[length] = code + n - 1
		}
		if code+n > 1<<length {
			return nil, errHuffman
		}
		for ; n > 0; n-- {
			if length <= lookup {
				first := int(code) << (lookup - length)
				for i := range 1 << (lookup - length) {
					h.fast[first+i] = uint16(length)<<8 | uint16(symbols[at])
				}
			}
			code++
			at++
		}
		code <<= 1
	}
	return h, nil
}

func (d *decoder) huffmanTables(b []byte) error {
	for len(b) > 0 {
		if len(b) < 17 {
			return errHuffman
		}
		n := 0
		for _, k := range b[1:17] {
			n += int(k)
		}
		class, i := b[0]>>4, b[0]&15
		if class > 1 || i > 3 || n > 256 || n > len(b)-17 {
			return errHuffman
		}
		h, err := newHuffman(b[1:17], b[17:17+n])
		if err != nil {
			return err
		}
		if class == 0 {
			d.dc[i] = h
		} else {
			d.ac[i] = h
		}
		b = b[17+n:]
	}
	return nil
}

// bits reads entropy-coded data up to the next marker. What is missing reads as zeros and is
// remembered, so that err needs to be looked at once a block only.
type bits struct {
	data  []byte // from the first byte that acc does not hold
	acc   uint64 // the next n bits are its topmost
	n     int
	ended bool // data begins with a marker, or is empty
	short bool // bits were taken that are not there
	bad   bool // a code stands for nothing
}

func (r *bits) fill() {
	for r.n <= 56 && !r.ended {
		switch {
		case len(r.data) == 0:
			r.ended = true
			return
		case r.data[0] != 0xff:
			r.acc |= uint64(r.data[0]) << (56 - r.n)
			r.data = r.data[1:]
		case len(r.data) > 1 && r.data[1] == 0:
			r.acc |= 0xff << (56 - r.n)
			r.data = r.data[2:]
		default:
			r.ended = true
			return
		}
		r.n += 8
	}
}

func (r *bits) drop(n int) {
	if n > r.n {
		r.short = true
		r.acc, r.n = 0, 0
		return
	}
	r.acc <<= n
	r.n -= n
}

// take reads n bits, at most 16.
func (r *bits) take(n int) int32 {
	if n == 0 {
		return 0
	}
	if r.n < n {
		r.fill()
	}
	v := int32(r.acc >> (64 - n))
	r.drop(n)
	return v
}

// code reads a symbol.
func (r *bits) code(h *huffman) byte {
	if r.n < 16 {
		r.fill()
	}
	if e := h.fast[r.acc>>(64-lookup)]; e != 0 {
		r.drop(int(e >> 8))
		return byte(e)
	}
	for length := lookup + 1; length <= 16; length++ {
		c := int32(r.acc >> (64 - length))
		if c <= h.max[length] {
			r.drop(length)
			return h.symbol[h.offset[length]+c]
		}
	}
	if r.n < 16 {
		r.short = true
	}
	r.bad = true
	return 0
}

// signed reads a number of n bits whose topmost tells its sign (T.81, F.2.2.1).
func (r *bits) signed(n int) int32 {
	v := r.take(n)
	if n > 0 && v < 1<<(n-1) {
		v += -1<<n + 1
	}
	return v
}

func (r *bits) err() error {
	switch {
	case r.short && len(r.data) < 2:
		return ErrShort
	case r.short:
		return errors.New("a scan ends before its picture does")
	case r.bad:
		return errors.New("a code that stands for nothing")
	}
	return nil
}

// again passes over restart marker k and begins anew after it.
func (r *bits) again(k int) error {
	b := r.data
	if r.n >= 8 || !r.markerNext() {
		return errors.New("a restart marker is not where it should be")
	}
	for len(b) > 1 && b[0] == 0xff && b[1] == 0xff {
		b = b[1:]
	}
	if len(b) < 2 {
		return ErrShort
	}
	if b[1] != byte(rst0+k&7) {
		return errors.New("a restart marker is not where it should be")
	}
	*r = bits{data: b[2:]}
	return nil
}

// markerNext tells whether the data go on with a marker, or end.
func (r *bits) markerNext() bool {
	r.fill()
	return r.ended && r.n < 8
}
