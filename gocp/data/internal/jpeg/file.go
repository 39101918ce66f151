package jpeg

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Markers (T.81, table B.1).
const (
	sof0  = 0xc0 // baseline
	sof1  = 0xc1 // extended sequential
	sof2  = 0xc2 // progressive
	dht   = 0xc4
	rst0  = 0xd0
	soi   = 0xd8
	eoi   = 0xd9
	sos   = 0xda
	dqt   = 0xdb
	dri   = 0xdd
	app0  = 0xe0
	app14 = 0xee
)

// ErrShort is of files that end before their picture does.
var ErrShort = errors.New("the file is cut off")

// ErrUnsupported says what of a sound file is not read.
type ErrUnsupported string

func (e ErrUnsupported) Error() string { return string(e) }

// Config is what the header of a file says.
type Config struct {
	H, W int
	C    int // 1 (grey) or 3 (RGB)
}

// A component is one of the planes that a picture is made of.
type component struct {
	id     byte
	h, v   int        // sampling factors
	tq     byte       // its quantisation table
	quant  *[64]int32 // that table as it was at the component's first scan
	bw, bh int        // blocks that hold picture
	stride int        // samples in a row of the plane, blocks that only fill up an MCU included
	plane  []byte
	coeffs []int16  // of progressive files: 64 a block
	missed [64]int8 // of progressive files: lowest bit not seen yet of each coefficient, −1 before the first
	seen   bool     // it had a scan
}

// decoder holds the state of one file.
type decoder struct {
	b    []byte // what is left of the file
	h, w int
	hmax int
	vmax int

	comps       []component
	progressive bool
	quant       [4][64]int32
	hasQuant    [4]bool
	dc, ac      [4]*huffman
	restart     int // MCUs between restart markers, 0: none
	jfif        bool
	adobe       int // the transform of Adobe's marker, −1 without it
}

// DecodeConfig reads the header.
func DecodeConfig(b []byte) (Config, error) {
	d := decoder{b: b, adobe: -1}
	if err := d.header(); err != nil {
		return Config{}, err
	}
	return d.config(), nil
}

func (d *decoder) config() Config {
	c := Config{d.h, d.w, 3}
	if len(d.comps) == 1 {
		c.C = 1
	}
	return c
}

// Decode reads a file into pix, which has room for H·W·C bytes. What Decode takes besides is at
// most 8 bytes a sample and those of incomplete MCUs.
func Decode(b []byte, pix []byte) error {
	d := decoder{b: b, adobe: -1}
	if err := d.header(); err != nil {
		return err
	}
	if c := d.config(); len(pix) != c.H*c.W*c.C {
		return fmt.Errorf("room for %d bytes, not %d×%d×%d", len(pix), c.H, c.W, c.C)
	}
	if err := d.scans(); err != nil {
		return err
	}
	d.render(pix)
	return nil
}

// segment reads the next marker and, where it has one, what belongs to it.
func (d *decoder) segment() (marker byte, body []byte, err error) {
	for {
		// Bytes that belong to nothing are passed over, as libjpeg does.
		for len(d.b) > 0 && d.b[0] != 0xff {
			d.b = d.b[1:]
		}
		for len(d.b) > 0 && d.b[0] == 0xff {
			d.b = d.b[1:]
		}
		if len(d.b) == 0 {
			return 0, nil, ErrShort
		}
		marker, d.b = d.b[0], d.b[1:]
		if marker != 0 && marker != 1 && marker&^7 != rst0 {
			break
		}
	}
	if marker == soi || marker == eoi {
		return marker, nil, nil
	}
	if len(d.b) < 2 {
		return 0, nil, ErrShort
	}
	n := int(binary.BigEndian.Uint16(d.b))
	if n < 2 {
		return 0, nil, fmt.Errorf("a segment of %d bytes", n)
	}
	if n > len(d.b) {
		return 0, nil, ErrShort
	}
	body, d.b = d.b[2:n], d.b[n:]
	return marker, body, nil
}

// header reads up to the frame's.
func (d *decoder) header() error {
	if len(d.b) < 2 || d.b[0] != 0xff || d.b[1] != soi {
		return errors.New("not a JPEG file")
	}
	d.b = d.b[2:]
	for d.comps == nil {
		marker, body, err := d.segment()
		if err != nil {
			return err
		}
		if marker == sos || marker == eoi {
			return errors.New("no frame comes before its data")
		}
		if err := d.table(marker, body); err != nil {
			return err
		}
	}
	return nil
}

// table takes a segment that is not a scan.
func (d *decoder) table(marker byte, body []byte) error {
	switch marker {
	case sof0, sof1, sof2:
		return d.frame(marker, body)
	case 0xc3, 0xc5, 0xc6, 0xc7, 0xcb, 0xcd, 0xce, 0xcf:
		return ErrUnsupported("lossless and hierarchical JPEG are not read")
	case 0xc9, 0xca:
		return ErrUnsupported("arithmetic coding is not read")
	case dht:
		return d.huffmanTables(body)
	case dqt:
		return d.quantTables(body)
	case dri:
		if len(body) != 2 {
			return errors.New("a broken restart interval")
		}
		d.restart = int(binary.BigEndian.Uint16(body))
	case app0:
		if len(body) >= 12 && string(body[:5]) == "JFIF\x00" {
			d.jfif = true
		}
	case app14:
		if len(body) >= 12 && string(body[:5]) == "Adobe" {
			d.adobe = int(body[11])
		}
	case soi:
		return errors.New("a second picture begins inside the first")
	}
	return nil
}

func (d *decoder) frame(marker byte, b []byte) error {
	if d.comps != nil {
		return errors.New("two frames")
	}
	if len(b) < 6 || len(b) != 6+3*int(b[5]) {
		return errors.New("a broken frame header")
	}
	if b[0] != 8 {
		return ErrUnsupported(fmt.Sprintf("%d bits a sample; 8 are read", b[0]))
	}
	d.progressive = marker == sof2
	d.h, d.w = int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	if d.h == 0 || d.w == 0 {
		return fmt.Errorf("%d×%d pixels", d.h, d.w)
	}
	n := int(b[5])
	if n != 1 && n != 3 && n != 4 {
		return ErrUnsupported(fmt.Sprintf("%d components; 1, 3 or 4 are read", n))
	}
	comps := make([]component, n)
	for i := range comps {
		s := b[6+3*i:]
		c := component{id: s[0], h: int(s[1] >> 4), v: int(s[1] & 15), tq: s[2]}
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.tq > 3 {
			return errors.New("a broken frame header")
		}
		for _, o := range comps[:i] {
			if o.id == c.id {
				return errors.New("two components of one name")
			}
		}
		d.hmax, d.vmax = max(d.hmax, c.h), max(d.vmax, c.v)
		comps[i] = c
	}
	for _, c := range comps {
		if d.hmax%c.h != 0 || d.vmax%c.v != 0 {
			return ErrUnsupported(fmt.Sprintf("chroma sampled %d:%d by %d:%d; whole ratios are read", c.h, d.hmax, c.v, d.vmax))
		}
	}
	d.comps = comps
	return nil
}

// mcus is how many MCUs the picture has across and down.
func (d *decoder) mcus() (across, down int) {
	return (d.w + 8*d.hmax - 1) / (8 * d.hmax), (d.h + 8*d.vmax - 1) / (8 * d.vmax)
}

// size is how many samples of a component hold picture.
func (d *decoder) size(c *component) (h, w int) {
	return (d.h*c.v + d.vmax - 1) / d.vmax, (d.w*c.h + d.hmax - 1) / d.hmax
}

// allocate makes the planes.
func (d *decoder) allocate() {
	across, down := d.mcus()
	for i := range d.comps {
		c := &d.comps[i]
		h, w := d.size(c)
		c.bw, c.bh = (w+7)/8, (h+7)/8
		c.stride = 8 * across * c.h
		c.plane = make([]byte, c.stride*8*down*c.v)
		if d.progressive {
			c.coeffs = make([]int16, len(c.plane))
			for k := range c.missed {
				c.missed[k] = -1
			}
		}
	}
}

// scans reads all that follows the frame's header.
func (d *decoder) scans() error {
	d.allocate()
	for !d.complete() {
		marker, body, err := d.segment()
		switch {
		case err != nil:
			return err
		case marker == eoi:
			if !d.progressive {
				return ErrShort
			}
			return errors.New("the progressive file lacks scans")
		case marker == sos:
			err = d.scan(body)
		default:
			err = d.table(marker, body)
		}
		if err != nil {
			return err
		}
	}
	if d.progressive {
		for i := range d.comps {
			d.comps[i].transform()
		}
	}
	return nil
}

// complete tells whether every coefficient is there to its last bit.
func (d *decoder) complete() bool {
	for i := range d.comps {
		c := &d.comps[i]
		if !c.seen {
			return false
		}
		if d.progressive && c.missed != [64]int8{} {
			return false
		}
	}
	return true
}

// zigzag is the natural position of a coefficient in the order of the file.
var zigzag = [64]int{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}

// quantTables takes a DQT segment; tables are kept in natural order.
func (d *decoder) quantTables(b []byte) error {
	for len(b) > 0 {
		wide, i := int(b[0]>>4), b[0]&15
		if wide > 1 || i > 3 || len(b) < 1+64*(1+wide) {
			return errors.New("a broken quantisation table")
		}
		b = b[1:]
		for _, at := range zigzag {
			if wide == 1 {
				d.quant[i][at] = int32(binary.BigEndian.Uint16(b))
			} else {
				d.quant[i][at] = int32(b[0])
			}
			b = b[1+wide:]
		}
		d.hasQuant[i] = true
	}
	return nil
}
