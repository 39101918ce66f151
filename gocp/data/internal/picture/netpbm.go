package picture

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// PGM and PPM: P5 or P6, or as text P2 or P3, width, height, largest value, pixels. Comments run
// from # to the end of a line.

// netpbmHeaderOf returns what the header says and where the pixels begin.
func netpbmHeaderOf(b []byte) (h, w, c, largest, at int, err error) {
	c = 1
	if b[1] == '3' || b[1] == '6' {
		c = 3
	}
	at = 2
	for _, v := range []*int{&w, &h, &largest} {
		if *v, at, err = netpbmNumber(b, at); err != nil {
			return
		}
	}
	switch {
	case largest < 1 || largest > 65535:
		err = fmt.Errorf("the largest value is %d", largest)
	case largest > 255:
		err = errDeep
	case at >= len(b):
		err = io.ErrUnexpectedEOF
	case !blank(b[at]):
		err = errors.New("a broken header")
	}
	return h, w, c, largest, at + 1, err
}

// netpbmNumber reads the number that follows blanks and comments.
func netpbmNumber(b []byte, at int) (v, next int, err error) {
	for at < len(b) && (blank(b[at]) || b[at] == '#') {
		if b[at] == '#' {
			for at < len(b) && b[at] != '\n' && b[at] != '\r' {
				at++
			}
			continue
		}
		at++
	}
	first := at
	for ; at < len(b) && b[at] >= '0' && b[at] <= '9' && v < 1<<20; at++ {
		v = 10*v + int(b[at]-'0')
	}
	switch {
	case at == len(b) && first == at:
		return 0, at, io.ErrUnexpectedEOF
	case first == at || v >= 1<<20:
		return 0, at, errors.New("a number is missing or too large")
	}
	return v, at, nil
}

func blank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func netpbmHeader(b []byte) (h, w, c int, err error) {
	h, w, c, _, _, err = netpbmHeaderOf(b)
	return h, w, c, err
}

func netpbm(b []byte, pix []uint8) error {
	_, _, _, largest, at, err := netpbmHeaderOf(b)
	if err != nil {
		return err
	}
	var scaled [256]uint8 // values above the largest count as the largest
	for v := range scaled {
		scaled[v] = uint8(min(255, math.RoundToEven(float64(v)/float64(largest)*255)))
	}
	if b[1] > '3' {
		if len(b)-at < len(pix) {
			return io.ErrUnexpectedEOF
		}
		for i := range pix {
			pix[i] = scaled[b[at+i]]
		}
		return nil
	}
	for i := range pix {
		var v int
		if v, at, err = netpbmNumber(b, at); err != nil {
			return err
		}
		if v > largest {
			return fmt.Errorf("the value %d is larger than the largest, %d", v, largest)
		}
		pix[i] = scaled[v]
	}
	return nil
}
