package attack

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// Names inside a bundle.
const (
	ManifestFile = "manifest.json"
	DeltaFile    = "delta.safetensors"
)

// Manifest describes a bundle of poisons. It is written last: a folder without one is not a bundle. In schema 1 poisons
// have the labels of the clean images; one whose labels are turned has schema 2, so that who knows 1 alone does not take it
// for such.
type Manifest struct {
	Schema     int       `json:"schema"`
	Method     string    `json:"method"`
	Epsilon255 float64   `json:"epsilon_255"`
	Pixels     string    `json:"pixels,omitempty"` // what the ball is around, in words
	Seed       uint64    `json:"seed"`
	H          int       `json:"height"`
	W          int       `json:"width"`
	C          int       `json:"channels"`
	Dataset    string    `json:"dataset,omitempty"` // SHA-256 of the data set that Entries index
	Delta      string    `json:"delta_sha256"`
	Entries    []Entry   `json:"poisons"`
	Targets    []Aimed   `json:"targets,omitempty"`
	Report     *Crafting `json:"crafting,omitempty"`
}

// ballAround is what Manifest.Pixels says.
const ballAround = "epsilon_255 bounds after against before, in 255ths: the clean 8-bit pixels of the data set as gocp read them, " +
	"JPEG decoded as libjpeg-turbo, Pillow and torchvision do, scaled and cropped if it was told to; gocp data export gives all clean images"

// Entry is one poison.
type Entry struct {
	Base   int    `json:"base"`                   // index of the clean image in the training part of the data set
	Pool   int    `json:"pool"`                   // index of the clean image in the adversary's training images
	Label  int    `json:"label"`                  // of the clean image
	Turned *int   `json:"turned_label,omitempty"` // of the poison, where it is another: schema 2
	Before string `json:"before"`                 // PNG of the clean image
	After  string `json:"after"`                  // PNG of the poison
	SHA256 string `json:"sha256"`                 // of the poison's pixels, HWC
	Clean  string `json:"before_sha256"`          // of the clean image's pixels, HWC
}

// Aimed is a target and what is wanted of its prediction set.
type Aimed struct {
	Index int `json:"index"` // in the test part of the data set
	Label int `json:"label"`
	Aim
}

func hash(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Bundle is a folder with poisons: manifest.json, 8-bit PNGs before and after, and δ.
type Bundle struct {
	*Poisons
	DataIndex []int  // of each base, in the training part of the data set
	Dataset   string // SHA-256 of the data set
	Targets   []Aimed
}

// WriteBundle writes b as the folder dir, which must not hold anything. The folder takes its name only
// when it is complete. It returns the names of the files, the manifest last.
func WriteBundle(dir string, b *Bundle) (files []string, err error) {
	part := dir + ".part"
	if err := os.RemoveAll(part); err != nil {
		return nil, unwritten(err)
	}
	for _, sub := range []string{"before", "after"} {
		if err := os.MkdirAll(filepath.Join(part, sub), 0o777); err != nil {
			return nil, unwritten(err)
		}
	}
	m := Manifest{Schema: 1, Method: b.Method, Epsilon255: b.Epsilon255, Pixels: ballAround, Seed: b.Seed,
		H: b.Before.H, W: b.Before.W, C: b.Before.C, Dataset: b.Dataset, Targets: b.Targets, Report: b.Report}
	after := b.Images()
	for i, base := range b.Bases {
		e := Entry{Base: base, Pool: base, Label: int(b.Before.Labels[i]),
			Before: fmt.Sprintf("before/%04d.png", i), After: fmt.Sprintf("after/%04d.png", i),
			SHA256: hash(after.At(i)), Clean: hash(b.Before.At(i))}
		if b.Turned != nil {
			m.Schema, e.Turned = 2, new(int(b.Turned[i]))
		}
		if b.DataIndex != nil {
			e.Base = b.DataIndex[i]
		}
		for _, f := range []struct {
			name string
			pix  []uint8
		}{{e.Before, b.Before.At(i)}, {e.After, after.At(i)}} {
			content, err := EncodePNG(f.pix, m.H, m.W, m.C)
			if err != nil {
				return nil, fmt.Errorf("poisons: %s: %w", f.name, err)
			}
			// A folder without a manifest is not read, so these many small files need no sync each.
			if err := os.WriteFile(filepath.Join(part, f.name), content, 0o666); err != nil {
				return nil, unwritten(err)
			}
			files = append(files, f.name)
		}
		m.Entries = append(m.Entries, e)
	}
	delta := &safetensors.File{
		Tensors: []safetensors.Tensor{safetensors.FromFloat32("delta", nchw(b.Delta(), m.H, m.W, m.C), len(b.Bases), m.C, m.H, m.W)},
		Meta:    map[string]string{"method": m.Method, "units": "pixels in [0,1]", "layout": "NCHW"},
	}
	var buf bytes.Buffer
	if err := delta.Encode(&buf); err != nil {
		return nil, fmt.Errorf("poisons: %w", err)
	}
	m.Delta = hash(buf.Bytes())
	if err := atomicfile.WriteBytes(filepath.Join(part, DeltaFile), buf.Bytes()); err != nil {
		return nil, err
	}
	text, err := strictjson.Indent(m, " ")
	if err != nil {
		return nil, fmt.Errorf("poisons: %w", err)
	}
	if err := atomicfile.WriteBytes(filepath.Join(part, ManifestFile), text); err != nil {
		return nil, err
	}
	if err := os.Rename(part, dir); err != nil {
		return nil, unwritten(err)
	}
	return append(files, DeltaFile, ManifestFile), nil
}

// unwritten marks the failures of a file system that its user can mend.
func unwritten(err error) error {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, os.ErrPermission} {
		if errors.Is(err, e) {
			return usage.Errorf("poisons: not written: %w", err)
		}
	}
	return fmt.Errorf("poisons: not written: %w", err)
}

// ReadBundle reads a bundle and holds every image against its hash, its ball and its size, and δ
// against its hash.
func ReadBundle(dir string) (*Bundle, error) {
	text, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return nil, usage.Errorf("%s is no folder of poisons: %w", dir, err)
	}
	var m Manifest
	if err := strictjson.Unmarshal(text, &m); err != nil {
		return nil, usage.Errorf("%s: %s: %w", dir, ManifestFile, err)
	}
	if m.Schema != 1 && m.Schema != 2 || m.H < 1 || m.W < 1 || (m.C != 1 && m.C != 3) || m.H > 1<<12 || m.W > 1<<12 {
		return nil, usage.Errorf("%s: the manifest has schema %d and images of %dx%dx%d; this gocp reads schemas 1 and 2, with 1 or 3 channels", dir, m.Schema, m.H, m.W, m.C)
	}
	delta, err := os.ReadFile(filepath.Join(dir, DeltaFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, lost(dir, DeltaFile)
	case err != nil:
		return nil, fmt.Errorf("poisons: %w", err)
	case hash(delta) != m.Delta:
		return nil, usage.Errorf("%s: %s is not the file that the manifest has the hash of; take a whole copy of the poisons", dir, DeltaFile)
	}
	p := &Poisons{Method: m.Method, Epsilon255: m.Epsilon255, Seed: m.Seed, Report: m.Report,
		Before: Images{H: m.H, W: m.W, C: m.C}}
	b := &Bundle{Poisons: p, Dataset: m.Dataset, Targets: m.Targets}
	for i, e := range m.Entries {
		for _, f := range []struct {
			name, sum string
			dst       *[]uint8
		}{{e.Before, e.Clean, &p.Before.Pixels}, {e.After, e.SHA256, &p.After}} {
			if !filepath.IsLocal(f.name) {
				return nil, usage.Errorf("%s: poison %d has the path %q, which leaves the folder", dir, i, f.name)
			}
			pix, err := readPNG(filepath.Join(dir, f.name), m.H, m.W, m.C)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, lost(dir, f.name)
			}
			if err != nil {
				return nil, err
			}
			if hash(pix) != f.sum {
				return nil, usage.Errorf("%s: %s is not the image that the manifest has the hash of; take a whole copy of the poisons", dir, f.name)
			}
			*f.dst = append(*f.dst, pix...)
		}
		if e.Label < 0 {
			return nil, usage.Errorf("%s: poison %d has the label %d", dir, i, e.Label)
		}
		switch turned := m.Schema == 2; {
		case turned != (e.Turned != nil):
			return nil, usage.Errorf("%s: poison %d and schema %d disagree on whether labels are turned", dir, i, m.Schema)
		case turned && (*e.Turned < 0 || *e.Turned == e.Label || *e.Turned > math.MaxInt32):
			return nil, usage.Errorf("%s: the label of poison %d is %d, turned from %d", dir, i, *e.Turned, e.Label)
		case turned:
			p.Turned = append(p.Turned, int32(*e.Turned))
		}
		p.Bases = append(p.Bases, e.Pool)
		p.Before.Labels = append(p.Before.Labels, int32(e.Label))
		b.DataIndex = append(b.DataIndex, e.Base)
	}
	return b, p.check()
}

func lost(dir, name string) error {
	return usage.Errorf("%s: %s is gone, which the manifest lists; take a whole copy of the poisons", dir, name)
}

// EncodePNG writes an 8-bit image [H,W,C], C = 1 or 3, as PNG.
func EncodePNG(pix []uint8, h, w, c int) ([]byte, error) {
	var img image.Image
	switch c {
	case 1:
		img = &image.Gray{Pix: pix, Stride: w, Rect: image.Rect(0, 0, w, h)}
	case 3:
		m := image.NewNRGBA(image.Rect(0, 0, w, h))
		for i := range h * w {
			copy(m.Pix[4*i:], pix[3*i:3*i+3])
			m.Pix[4*i+3] = 255
		}
		img = m
	default:
		return nil, fmt.Errorf("an image with %d channels has no PNG form; 1 and 3 have", c)
	}
	var b bytes.Buffer
	err := png.Encode(&b, img)
	return b.Bytes(), err
}

func readPNG(path string, h, w, c int) ([]uint8, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("poisons: %w", err)
	}
	defer f.Close()
	head, err := png.DecodeConfig(f)
	if err != nil {
		return nil, usage.Errorf("%s: %w", path, err)
	}
	if head.Height != h || head.Width != w {
		return nil, usage.Errorf("%s: the image is %dx%d; the manifest says %dx%d", path, head.Width, head.Height, w, h)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return nil, fmt.Errorf("poisons: %w", err)
	}
	img, err := png.Decode(f)
	if err != nil {
		return nil, usage.Errorf("%s: %w", path, err)
	}
	pix := make([]uint8, 0, h*w*c)
	for y := range h {
		for x := range w {
			r, g, b, _ := img.At(x, y).RGBA()
			if c == 1 {
				pix = append(pix, uint8(r>>8))
			} else {
				pix = append(pix, uint8(r>>8), uint8(g>>8), uint8(b>>8))
			}
		}
	}
	return pix, nil
}

// nchw turns [N,H,W,C] into [N,C,H,W].
func nchw(x []float32, h, w, c int) []float32 {
	out := make([]float32, len(x))
	size := h * w * c
	for i, v := range x {
		n, r := i/size, i%size
		out[n*size+(r%c)*h*w+r/c] = v
	}
	return out
}
