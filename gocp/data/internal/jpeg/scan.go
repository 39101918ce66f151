package jpeg

import (
	"bytes"
	"errors"
)

// A scanner decodes one scan.
type scanner struct {
	*decoder
	bits
	comps      []*component
	dcOf, acOf []*huffman
	pred       []int32
	eobRun     int32 // blocks that follow without a further coefficient
	lo, hi     int   // coefficients of the scan, in the file's order
	shift      int   // the bit that it ends at
	refine     bool  // it adds that bit to what is there
}

var errScan = errors.New("a broken scan header")

// scan reads a scan, whose header is b.
func (d *decoder) scan(b []byte) error {
	if len(b) < 1 || b[0] < 1 || b[0] > 4 || len(b) != 4+2*int(b[0]) {
		return errScan
	}
	n := int(b[0])
	s := &scanner{decoder: d, pred: make([]int32, n)}
	blocks := 0
	for i := range n {
		var c *component
		for j := range d.comps {
			if d.comps[j].id == b[1+2*i] {
				c = &d.comps[j]
			}
		}
		td, ta := b[2+2*i]>>4, b[2+2*i]&15
		if c == nil || td > 3 || ta > 3 {
			return errScan
		}
		for _, o := range s.comps {
			if o == c {
				return errScan
			}
		}
		if !c.seen {
			if !d.hasQuant[c.tq] {
				return errors.New("a quantisation table is missing")
			}
			table := d.quant[c.tq]
			c.quant = &table
		}
		s.comps, s.dcOf, s.acOf = append(s.comps, c), append(s.dcOf, d.dc[td]), append(s.acOf, d.ac[ta])
		blocks += c.h * c.v
	}
	if n > 1 && blocks > 10 {
		return errScan
	}
	tail := b[1+2*n:]
	s.lo, s.hi, s.shift = 0, 63, 0
	if d.progressive {
		s.lo, s.hi, s.shift = int(tail[0]), int(tail[1]), int(tail[2]&15)
		if err := s.progress(int(tail[2] >> 4)); err != nil {
			return err
		}
	} else {
		for _, c := range s.comps {
			if c.seen {
				return errors.New("a component comes twice")
			}
		}
	}
	for i := range s.comps {
		if s.lo == 0 && !s.refine && s.dcOf[i] == nil || s.hi > 0 && s.acOf[i] == nil {
			return errors.New("a Huffman table is missing")
		}
		s.comps[i].seen = true
	}
	s.data = d.b
	if err := s.run(); err != nil {
		return err
	}
	// What is left of the data belongs to no block.
	rest := s.data
	for {
		i := bytes.IndexByte(rest, 0xff)
		if i < 0 || i+1 == len(rest) {
			rest = nil
			break
		}
		if rest = rest[i:]; rest[1] != 0 {
			break
		}
		rest = rest[2:]
	}
	d.b = rest
	return nil
}

// progress checks a progressive scan against what came before (T.81, G.1.1.1) and notes what it
// brings. above is the lowest bit that is there already, 0 in a first scan.
func (s *scanner) progress(above int) error {
	s.refine = above != 0
	if s.lo > s.hi || s.hi > 63 || s.lo == 0 && s.hi != 0 || s.lo > 0 && len(s.comps) != 1 || s.shift > 13 ||
		s.refine && above != s.shift+1 {
		return errScan
	}
	for _, c := range s.comps {
		for k := s.lo; k <= s.hi; k++ {
			if s.lo > 0 && c.missed[0] < 0 || s.refine && int(c.missed[k]) != above || !s.refine && c.missed[k] >= 0 {
				return errors.New("progressive scans do not follow each other")
			}
			c.missed[k] = int8(s.shift)
		}
	}
	return nil
}

// run goes through the MCUs.
func (s *scanner) run() error {
	across, down := s.mcus()
	if len(s.comps) == 1 {
		across, down = s.comps[0].bw, s.comps[0].bh
	}
	var block [64]int32
	for mcu := range across * down {
		if s.restart > 0 && mcu > 0 && mcu%s.restart == 0 {
			if err := s.again(mcu/s.restart - 1); err != nil {
				return err
			}
			s.eobRun = 0
			clear(s.pred)
		}
		x, y := mcu%across, mcu/across
		for i, c := range s.comps {
			w, h := c.h, c.v
			if len(s.comps) == 1 {
				w, h = 1, 1
			}
			for j := range w * h {
				bx, by := w*x+j%w, h*y+j/w
				if s.progressive {
					at := 64 * (by*(c.stride/8) + bx)
					s.part(i, (*[64]int16)(c.coeffs[at:at+64]))
				} else {
					s.whole(i, &block)
					c.store(bx, by, &block)
				}
			}
		}
		if s.short || s.bad {
			return s.err()
		}
	}
	return nil
}

// whole decodes a block of a sequential scan, in natural order, dequantised.
func (s *scanner) whole(i int, block *[64]int32) {
	clear(block[:])
	q := s.comps[i].quant
	n := int(s.code(s.dcOf[i]))
	if n > 15 {
		s.bad = true
		return
	}
	s.pred[i] += s.signed(n)
	block[0] = int32(int16(s.pred[i])) * q[0]
	ac := s.acOf[i]
	for k := 1; k < 64; k++ {
		rs := s.code(ac)
		run, size := int(rs>>4), int(rs&15)
		if size == 0 {
			if run != 15 {
				return
			}
			k += 15
			continue
		}
		if k += run; k > 63 {
			s.bad = true
			return
		}
		at := zigzag[k]
		block[at] = s.signed(size) * q[at]
	}
}

// part decodes what a progressive scan says of a block.
func (s *scanner) part(i int, block *[64]int16) {
	switch {
	case s.lo == 0 && s.refine:
		block[0] |= int16(s.take(1) << s.shift)
	case s.lo == 0:
		n := int(s.code(s.dcOf[i]))
		if n > 15 {
			s.bad = true
			return
		}
		s.pred[i] += s.signed(n)
		block[0] = int16(s.pred[i] << s.shift)
	case s.refine:
		s.refineAC(s.acOf[i], block)
	default:
		s.firstAC(s.acOf[i], block)
	}
}

// run of blocks that end here (T.81, G.1.2.2).
func (s *scanner) endOfBand(run int) {
	s.eobRun = 1<<run + s.take(run) - 1
}

func (s *scanner) firstAC(h *huffman, block *[64]int16) {
	if s.eobRun > 0 {
		s.eobRun--
		return
	}
	for k := s.lo; k <= s.hi; k++ {
		rs := s.code(h)
		run, size := int(rs>>4), int(rs&15)
		if size == 0 {
			if run != 15 {
				s.endOfBand(run)
				return
			}
			k += 15
			continue
		}
		if k += run; k > s.hi {
			s.bad = true
			return
		}
		block[zigzag[k]] = int16(s.signed(size) << s.shift)
	}
}

// refineAC adds a bit to coefficients that are not zero and brings new ones (T.81, G.1.2.3).
func (s *scanner) refineAC(h *huffman, block *[64]int16) {
	one := int16(1) << s.shift
	k := s.lo
	if s.eobRun == 0 {
		for ; k <= s.hi; k++ {
			rs := s.code(h)
			run, size := int(rs>>4), int(rs&15)
			value := int16(0)
			switch {
			case size == 0 && run != 15:
				s.endOfBand(run)
				s.eobRun++ // this block counts too
			case size == 1:
				if value = -one; s.take(1) == 1 {
					value = one
				}
			case size > 1:
				s.bad = true
				return
			}
			if s.eobRun > 0 {
				break
			}
			if k = s.skip(block, k, run, one); k > s.hi {
				s.bad = s.bad || value != 0
				break
			}
			if value != 0 {
				block[zigzag[k]] = value
			}
		}
	}
	if s.eobRun > 0 {
		s.skip(block, k, -1, one)
		s.eobRun--
	}
}

// skip refines coefficients from k on until it stands on a zero that has zeros before it, and
// returns its place; zeros < 0 goes on to the end.
func (s *scanner) skip(block *[64]int16, k, zeros int, one int16) int {
	for ; k <= s.hi; k++ {
		c := &block[zigzag[k]]
		if *c == 0 {
			if zeros == 0 {
				break
			}
			zeros--
			continue
		}
		if s.take(1) == 1 && *c&one == 0 {
			if *c > 0 {
				*c += one
			} else {
				*c -= one
			}
		}
	}
	return k
}
