package report

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"io/fs"

	"github.com/gocp/gocp/gocp/result"
)

// maxSide bounds the pictures that are shown, so that a broken header cannot ask for gigabytes.
const maxSide = 4096

// readPNG decodes a picture of the run folder.
func readPNG(fsys fs.FS, name string) (image.Image, []byte, error) {
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, nil, err
	}
	head, err := png.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if head.Width > maxSide || head.Height > maxSide {
		return nil, nil, fmt.Errorf("%s: %d×%d pixels are more than a report shows", name, head.Width, head.Height)
	}
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, b, nil
}

func dataURI(b []byte) template.URL {
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b))
}

// amplification is the whole factor that brings a δ of ϵ to just inside half the pixel range.
func amplification(epsilon255 result.Number) int {
	e := epsilon255.Float()
	if !(e > 0) || e > 127 {
		return 1
	}
	return int(min(127/max(e, 1), 127))
}

// difference draws after − before, times factor, around mid grey.
func difference(before, after image.Image, factor int) (image.Image, error) {
	b, a := before.Bounds(), after.Bounds()
	if b.Dx() != a.Dx() || b.Dy() != a.Dy() {
		return nil, fmt.Errorf("sizes differ: %d×%d before, %d×%d after", b.Dx(), b.Dy(), a.Dx(), a.Dy())
	}
	out := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	for y := range b.Dy() {
		for x := range b.Dx() {
			p := color.NRGBAModel.Convert(before.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
			q := color.NRGBAModel.Convert(after.At(a.Min.X+x, a.Min.Y+y)).(color.NRGBA)
			d := func(u, v uint8) uint8 { return uint8(min(max(128+factor*(int(v)-int(u)), 0), 255)) }
			out.SetNRGBA(x, y, color.NRGBA{d(p.R, q.R), d(p.G, q.G), d(p.B, q.B), 255})
		}
	}
	return out, nil
}

// triplet is one poison to look at.
type triplet struct {
	Before, After, Delta template.URL
	Label                string
	Base                 int
}

// loadTriplet reads a poison and computes its amplified difference from the files themselves.
func loadTriplet(fsys fs.FS, r *result.Result, s result.Sample) (triplet, error) {
	t := triplet{Label: className(r, s.Label), Base: s.Base}
	if s.Turned != nil {
		t.Label += " → " + className(r, *s.Turned)
	}
	before, rawBefore, err := readPNG(fsys, s.Before)
	if err != nil {
		return t, err
	}
	after, rawAfter, err := readPNG(fsys, s.After)
	if err != nil {
		return t, err
	}
	delta, err := difference(before, after, amplification(r.Config.Budget.Epsilon255))
	if err != nil {
		return t, fmt.Errorf("%s, %s: %w", s.Before, s.After, err)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, delta); err != nil {
		return t, err
	}
	t.Before, t.After, t.Delta = dataURI(rawBefore), dataURI(rawAfter), dataURI(b.Bytes())
	return t, nil
}

// loadPicture reads a picture for an img tag; "" stays without picture.
func loadPicture(fsys fs.FS, name string) (template.URL, error) {
	if fsys == nil || name == "" {
		return "", nil
	}
	_, b, err := readPNG(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("picture %s is missing from the run folder: %w", name, err)
	}
	return dataURI(b), err
}
