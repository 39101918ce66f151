// Package picture decodes image files to the 8-bit pixels that Pillow, and torchvision through it,
// see: JPEG, PNG, BMP, PPM and PGM, TIFF, WebP. What it cannot decode to the same pixels it refuses
// by name: 16 bits a channel, transparency, rotated TIFF files, animations.
package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"path"
	"strings"

	"golang.org/x/image/bmp"
	"golang.org/x/image/webp"

	"github.com/gocp/gocp/gocp/data/internal/jpeg"
	"github.com/gocp/gocp/gocp/foreign"
)

// Header is what the header of a file says.
type Header struct {
	H, W   int
	C      int // 1: grey; 3: RGB
	format *format
}

// format is a kind of file.
type format struct {
	name   string
	begins string // its first bytes, where ? stands for any
	header func(b []byte) (h, w, c int, err error)
	// One of the two: decode writes h·w·c bytes, image makes a picture of Go's.
	decode func(b []byte, pix []uint8) error
	image  func(b []byte) (image.Image, error)
}

var formats = []format{
	{name: "JPEG", begins: "\xff\xd8", header: jpegHeader, decode: jpeg.Decode},
	{name: "PNG", begins: "\x89PNG\r\n\x1a\n", header: config(png.DecodeConfig), image: reader(png.Decode)},
	{name: "BMP", begins: "BM", header: config(bmp.DecodeConfig), image: reader(bmp.Decode)},
	{name: "PPM", begins: "P6", header: netpbmHeader, decode: netpbm},
	{name: "PPM", begins: "P3", header: netpbmHeader, decode: netpbm},
	{name: "PGM", begins: "P5", header: netpbmHeader, decode: netpbm},
	{name: "PGM", begins: "P2", header: netpbmHeader, decode: netpbm},
	{name: "TIFF", begins: "II*\x00", header: tiffHeader, image: tiffImage},
	{name: "TIFF", begins: "MM\x00*", header: tiffHeader, image: tiffImage},
	{name: "WebP", begins: "RIFF????WEBP", header: config(webp.DecodeConfig), image: reader(webp.Decode)},
}

func (f *format) matches(b []byte) bool {
	if len(b) < len(f.begins) {
		return false
	}
	for i, v := range []byte(f.begins) {
		if v != b[i] && v != '?' {
			return false
		}
	}
	return true
}

// Readable tells by its name whether a file is one that this package decodes: the endings are those
// that torchvision's ImageFolder takes.
func Readable(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp":
		return true
	}
	return false
}

// Endings is the list for messages.
const Endings = ".jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff and .webp"

// MaxPixels is the most pixels that a byte of a file may stand for: a header that claims more is
// refused before anything of that size is made. (JPEG's limit is 512, deflate's for 8-bit PNG 1032.)
const MaxPixels = 1040

// MaxArea is the most pixels of an image that is read: no classifier takes more, and one file
// cannot claim gigabytes.
const MaxArea = 1 << 24

// ReadHeader reads the header of a file.
func ReadHeader(b []byte) (Header, error) {
	var f *format
	for i := range formats {
		if formats[i].matches(b) {
			f = &formats[i]
			break
		}
	}
	switch {
	case len(b) == 0:
		return Header{}, errors.New("the file is empty; replace or remove it")
	case f == nil:
		switch what := foreign.What(b); {
		case strings.Contains(what, ": "): // and says what to do
			return Header{}, errors.New("it is " + what)
		case what != "":
			return Header{}, fmt.Errorf("it is %s, which is not read; convert, replace or remove it", what)
		}
		return Header{}, errors.New("corrupt image: it begins as no image does; replace or remove it")
	}
	h, w, c, err := f.header(b)
	if err != nil {
		return Header{}, corrupt(f, err)
	}
	switch {
	case h < 1 || w < 1:
		return Header{}, fmt.Errorf("corrupt image: %d×%d pixels; replace or remove it", h, w)
	case w > MaxPixels*len(b)/h:
		return Header{}, fmt.Errorf("%d×%d pixels are too many for a file of %d bytes; replace or remove it", h, w, len(b))
	case w > MaxArea/h:
		return Header{}, fmt.Errorf("%d×%d pixels; scale it down, at most %d pixels are read", h, w, MaxArea)
	}
	return Header{h, w, c, f}, nil
}

// errRefused is of files that are sound but not read; its text says what to do.
type errRefused string

func (e errRefused) Error() string { return string(e) }

func corrupt(f *format, err error) error {
	if refused := errRefused(""); errors.As(err, &refused) {
		return err
	}
	if errors.Is(err, bmp.ErrUnsupported) {
		return errors.New("a BMP file of a kind that is not read (16 bits a pixel, run lengths, or a header of OS/2); convert it to PNG")
	}
	if what := jpeg.ErrUnsupported(""); errors.As(err, &what) {
		return fmt.Errorf("a JPEG file of a kind that is not read: %w; convert it to PNG", err)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, jpeg.ErrShort) {
		err = jpeg.ErrShort
	}
	return fmt.Errorf("corrupt image: %s: %w; replace or remove it", f.name, err)
}

// Decode writes the pixels of a file into dst, which has room for H·W·c bytes; c is 3, or 1 for a
// grey image.
func (h Header) Decode(b []byte, c int, dst []uint8) error {
	if c != 3 && c != h.C || len(dst) != h.H*h.W*c {
		return fmt.Errorf("room for %d bytes, not %d×%d×%d", len(dst), h.H, h.W, c)
	}
	pix := dst[:h.H*h.W*h.C]
	var err error
	if h.format.decode != nil {
		err = h.format.decode(b, pix)
	} else {
		err = h.paint(b, pix)
	}
	if err != nil {
		return corrupt(h.format, err)
	}
	if c > h.C { // from the last on, so that nothing is written over before it was read
		for i := len(pix) - 1; i >= 0; i-- {
			v := pix[i]
			dst[3*i], dst[3*i+1], dst[3*i+2] = v, v, v
		}
	}
	return nil
}

// paint decodes what comes as one of Go's images.
func (h Header) paint(b []byte, pix []uint8) error {
	img, err := h.format.image(b)
	if err != nil {
		return err
	}
	r := img.Bounds()
	if r.Dx() != h.W || r.Dy() != h.H {
		return fmt.Errorf("its header claims %d×%d pixels but it has %d×%d", h.H, h.W, r.Dy(), r.Dx())
	}
	switch m := img.(type) {
	case *image.Gray:
		if h.C == 1 {
			for y := range h.H {
				copy(pix[y*h.W:], m.Pix[y*m.Stride:][:h.W])
			}
			return nil
		}
		return errors.New("its header claims colours, but it is grey")
	case *image.YCbCr:
		webpColors(m, pix)
		return nil
	case *image.NYCbCrA:
		for y := range h.H {
			for _, a := range m.A[y*m.AStride:][:h.W] {
				if a != 255 {
					return errTransparent
				}
			}
		}
		webpColors(&m.YCbCr, pix)
		return nil
	case *image.NRGBA:
		return h.opaque(m.Pix, m.Stride, pix)
	case *image.RGBA: // the same where nothing shines through
		return h.opaque(m.Pix, m.Stride, pix)
	case *image.Paletted:
		colors := make([]color.NRGBA, len(m.Palette))
		for i, c := range m.Palette {
			colors[i] = color.NRGBAModel.Convert(c).(color.NRGBA)
		}
		all := make([]uint8, 4*h.W)
		for y := range h.H {
			for x, v := range m.Pix[y*m.Stride:][:h.W] {
				if int(v) >= len(colors) {
					return fmt.Errorf("a pixel has colour %d of %d", v, len(colors))
				}
				c := colors[v]
				all[4*x], all[4*x+1], all[4*x+2], all[4*x+3] = c.R, c.G, c.B, c.A
			}
			row := Header{1, h.W, h.C, h.format}
			if err := row.opaque(all, len(all), pix[y*h.W*h.C:]); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("pixels of kind %T are not read", img)
}

// opaque copies the colours of pixels with an alpha that must be 255.
func (h Header) opaque(rgba []uint8, stride int, pix []uint8) error {
	for y := range h.H {
		row := rgba[y*stride:][:4*h.W]
		for x := range h.W {
			p := row[4*x : 4*x+4]
			switch o := y*h.W + x; {
			case p[3] != 255:
				return errTransparent
			case h.C == 1:
				pix[o] = p[0]
			default:
				pix[3*o], pix[3*o+1], pix[3*o+2] = p[0], p[1], p[2]
			}
		}
	}
	return nil
}

const (
	errTransparent = errRefused("it has transparent pixels; put it on a background first")
	errDeep        = errRefused("16 bits per channel; convert it to 8")
)

func jpegHeader(b []byte) (h, w, c int, err error) {
	cfg, err := jpeg.DecodeConfig(b)
	return cfg.H, cfg.W, cfg.C, err
}

// config makes a header's reader of Go's.
func config(f func(io.Reader) (image.Config, error)) func([]byte) (h, w, c int, err error) {
	return func(b []byte) (h, w, c int, err error) {
		cfg, err := f(bytes.NewReader(b))
		if err != nil {
			return 0, 0, 0, err
		}
		switch cfg.ColorModel {
		case color.Gray16Model, color.RGBA64Model, color.NRGBA64Model:
			return 0, 0, 0, errDeep
		}
		return cfg.Height, cfg.Width, channels(cfg.ColorModel), nil
	}
}

// channels is 1 for grey; a palette counts as colours whatever it holds.
func channels(m color.Model) int {
	if m == color.GrayModel {
		return 1
	}
	return 3
}

func reader(f func(io.Reader) (image.Image, error)) func([]byte) (image.Image, error) {
	return func(b []byte) (image.Image, error) { return f(bytes.NewReader(b)) }
}
