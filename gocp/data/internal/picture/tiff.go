package picture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"

	"golang.org/x/image/tiff"
)

// Tags that x/image/tiff passes over though they change what the samples mean (TIFF 6.0), and the
// compression: fax files come out of x/image/tiff (0.48) with black and white exchanged.
const (
	tiffCompression  = 259
	tiffFillOrder    = 266
	tiffOrientation  = 274
	tiffPlanar       = 284
	tiffSampleFormat = 339
)

// tiffHeader refuses what would be read wrongly.
func tiffHeader(b []byte) (h, w, c int, err error) {
	for _, t := range []struct {
		tag  uint16
		what string
	}{
		{tiffFillOrder, "the bits of its bytes stand in reverse order"},
		{tiffOrientation, "it is stored rotated or mirrored"},
		{tiffPlanar, "its colours lie in planes of their own"},
		{tiffSampleFormat, "its samples are not unsigned integers"},
	} {
		if v, ok := tiffShort(b, t.tag); ok && v != 1 {
			return 0, 0, 0, errRefused(fmt.Sprintf("a TIFF file with tag %d = %d: %s; convert it to PNG", t.tag, v, t.what))
		}
	}
	if v, ok := tiffShort(b, tiffCompression); ok && v >= 2 && v <= 4 {
		return 0, 0, 0, errRefused("a TIFF file in fax compression; convert it to PNG")
	}
	h, w, c, err = config(tiff.DecodeConfig)(b)
	return h, w, c, tiffError(err)
}

func tiffImage(b []byte) (image.Image, error) {
	img, err := tiff.Decode(bytes.NewReader(b))
	return img, tiffError(err)
}

// tiffError tells what the library does not read from what is damaged.
func tiffError(err error) error {
	if what := tiff.UnsupportedError(""); errors.As(err, &what) {
		return errRefused(fmt.Sprintf("a TIFF file of a kind that is not read (%s); convert it to PNG", string(what)))
	}
	return err
}

// tiffShort is the first value of a tag of 16-bit numbers in the first directory.
func tiffShort(b []byte, tag uint16) (uint16, bool) {
	if len(b) < 8 {
		return 0, false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[0] == 'M' {
		order = binary.BigEndian
	}
	at := uint64(order.Uint32(b[4:]))
	if at+2 > uint64(len(b)) {
		return 0, false
	}
	dir := b[at+2:]
	for range order.Uint16(b[at:]) {
		if len(dir) < 12 {
			return 0, false
		}
		if order.Uint16(dir) == tag && order.Uint16(dir[2:]) == 3 {
			value := dir[8:]
			if order.Uint32(dir[4:]) > 2 { // the values lie elsewhere
				p := uint64(order.Uint32(value))
				if p+2 > uint64(len(b)) {
					return 0, false
				}
				value = b[p:]
			}
			return order.Uint16(value), true
		}
		dir = dir[12:]
	}
	return 0, false
}
