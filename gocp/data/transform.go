package data

import (
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/data/internal/resample"
	"github.com/gocp/gocp/gocp/usage"
)

// A Size is a height and a width. Where W is 0 it is one number: of a resize the length of the
// shorter side, of a crop both sides.
type Size struct {
	H int `json:"h,omitempty"`
	W int `json:"w,omitempty"`
}

// maxSide is the longest side that a resize makes.
const maxSide = 1 << 12

// ParseSize reads N or HxW.
func ParseSize(s string) (Size, error) {
	bad := usage.Errorf("%q is no size such as 64 or 48x64 (height x width), at most %d", s, maxSide)
	a, b, two := strings.Cut(s, "x")
	var z Size
	var err error
	if z.H, err = strconv.Atoi(a); err != nil || z.H < 1 || z.H > maxSide {
		return Size{}, bad
	}
	if two {
		if z.W, err = strconv.Atoi(b); err != nil || z.W < 1 || z.W > maxSide {
			return Size{}, bad
		}
	}
	return z, nil
}

// String is what ParseSize reads.
func (z Size) String() string {
	if z.W == 0 {
		return strconv.Itoa(z.H)
	}
	return strconv.Itoa(z.H) + "x" + strconv.Itoa(z.W)
}

// resized is the size that an image of h×w is scaled to: as torchvision's Resize, the shorter side
// to one number, the other in proportion and rounded down.
func (r Reading) resized(h, w int) (int, int) {
	switch z := r.Resize; {
	case z.H == 0:
		return h, w
	case z.W > 0:
		return z.H, z.W
	case h <= w:
		return z.H, z.H * w / h
	default:
		return z.H * h / w, z.H
	}
}

// cropped is the size of what is kept of h×w.
func (r Reading) cropped(h, w int) (int, int, error) {
	ch, cw := r.Crop.H, r.Crop.W
	if ch == 0 {
		return h, w, nil
	}
	if cw == 0 {
		cw = ch
	}
	if ch > h || cw > w {
		return 0, 0, usage.Errorf("%d×%d pixels hold no crop of %d×%d; take a smaller --crop or a larger --resize", h, w, ch, cw)
	}
	return ch, cw, nil
}

// size is what becomes of an image of h×w.
func (r Reading) size(h, w int) (int, int, error) {
	h, w = r.resized(h, w)
	if h > maxSide || w > maxSide {
		return 0, 0, usage.Errorf("--resize %v would make it %d×%d, beyond %d; give both sides, HxW", r.Resize, h, w, maxSide)
	}
	return r.cropped(h, w)
}

// transforms tells whether images are changed at all.
func (r Reading) transforms() bool { return r.Resize.H > 0 || r.Crop.H > 0 }

// transform scales and crops an image into dst, which has the room that size says.
func (r Reading) transform(pix []uint8, h, w, c int, dst []uint8) error {
	rh, rw := r.resized(h, w)
	pix = resample.Bilinear(pix, h, w, c, rh, rw)
	ch, cw, err := r.cropped(rh, rw)
	if err != nil {
		return err
	}
	top, left := resample.Centre(rh, ch), resample.Centre(rw, cw)
	for y := range ch {
		copy(dst[y*cw*c:(y+1)*cw*c], pix[((top+y)*rw+left)*c:])
	}
	return nil
}

// transformed is a set with all images scaled and cropped; the images' reader did so already where
// they had several sizes.
func (r Reading) transformed(d *Dataset) (*Dataset, error) {
	h, w, err := r.size(d.H, d.W)
	if err != nil {
		return nil, usage.Errorf("%s: %w", d.Name, err)
	}
	out := &Dataset{Name: d.Name, H: h, W: w, C: d.C, Images: make([]uint8, d.Len()*h*w*d.C), Labels: d.Labels, Classes: d.Classes, Files: d.Files}
	err = each(d.Len(), func(i int) error {
		return r.transform(d.Image(i), d.H, d.W, d.C, out.Image(i))
	})
	if err != nil {
		return nil, err
	}
	out.SHA256 = out.Hash()
	return out, nil
}
