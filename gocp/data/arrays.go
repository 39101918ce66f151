package data

import (
	"errors"
	"math"
	"sort"
	"strings"

	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// array is an array of any of the formats; exactly one way of reading it works.
type array struct {
	shape []int
	kind  string                    // its type, as its format calls it
	bytes []uint8                   // unsigned bytes, or nil
	float func() ([]float32, error) // pixels in [0,1]
	ints  func() ([]int64, error)
	text  func() ([]string, error)
}

// readArrays finds pairs of images and labels by name.
func readArrays(origin string, arrays map[string]array, classes []string) ([]*Dataset, error) {
	if c, ok := arrays["classes"]; ok && len(classes) == 0 && c.text != nil {
		var err error
		if classes, err = c.text(); err != nil {
			return nil, usage.Errorf("%s: array classes: %w", origin, err)
		}
	}
	var keys []string
	for k := range arrays {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	type part struct {
		split, images, labels string
		h, w, c               int
		pixels                []uint8
		y                     []int32
	}
	var parts []part
	var all [][]int32
	for _, k := range keys {
		split, labels, ok := partner(k)
		if !ok {
			continue
		}
		p := part{split: split, images: k, labels: labels}
		y, ok := arrays[labels]
		if !ok {
			return nil, usage.Errorf("%s: array %s has no array %s beside it; every image needs a label", origin, k, labels)
		}
		var err error
		if p.pixels, p.h, p.w, p.c, err = pixels(arrays[k]); err != nil {
			return nil, usage.Errorf("%s: array %s: %w", origin, k, err)
		}
		if p.y, err = labelsOf(y); err != nil {
			return nil, usage.Errorf("%s: array %s: %w", origin, labels, err)
		}
		if n := arrays[k].shape[0]; n != len(p.y) {
			return nil, usage.Errorf("%s: array %s has %d images but %s has %d labels; every image needs one", origin, k, n, labels, len(p.y))
		}
		parts = append(parts, p)
		all = append(all, p.y)
	}
	if len(parts) == 0 {
		return nil, usage.Errorf("%s: no images found; name the arrays train_images and train_labels, or x_train and y_train, or images and labels, or x and y", origin)
	}
	classes, err := classesFor(origin, classes, all...)
	if err != nil {
		return nil, err
	}
	var splits []*Dataset
	for _, p := range parts {
		for _, d := range splits {
			if d.Name == p.split {
				return nil, usage.Errorf("%s: array %s is a second set of images of split %q; remove one", origin, p.images, p.split)
			}
		}
		d, err := New(origin+": "+p.images, p.h, p.w, p.c, p.pixels, p.y, classes)
		if err != nil {
			return nil, err
		}
		d.Name = p.split
		splits = append(splits, d)
	}
	return splits, nil
}

// partner tells whether an array's name means images, of which split, and what
// the labels are called.
func partner(name string) (split, labels string, ok bool) {
	switch {
	case name == "images":
		return "train", "labels", true
	case name == "x":
		return "train", "y", true
	case strings.HasPrefix(name, "x_"):
		return splitName(name[2:]), "y_" + name[2:], true
	case strings.HasSuffix(name, "_images"):
		s := strings.TrimSuffix(name, "_images")
		return splitName(s), s + "_labels", true
	}
	return "", "", false
}

// pixels brings [N,H,W], [N,H,W,C] or [N,C,H,W] into 8-bit NHWC. Where both of
// the latter would do, bytes are taken as NHWC and floats as NCHW, as the
// libraries that write them do.
func pixels(a array) (out []uint8, h, w, c int, err error) {
	s := a.shape
	channels := func(n int) bool { return n == 1 || n == 3 }
	planes := false
	switch {
	case len(s) == 3:
		h, w, c = s[1], s[2], 1
	case len(s) == 4 && channels(s[3]) && (a.bytes != nil || !channels(s[1])):
		h, w, c = s[1], s[2], s[3]
	case len(s) == 4 && channels(s[1]):
		planes, h, w, c = true, s[2], s[3], s[1]
	default:
		return nil, 0, 0, 0, usage.Errorf("shape %v; images must have shape [N,H,W], [N,H,W,C] or [N,C,H,W] with 1 or 3 channels", s)
	}
	if out = a.bytes; out == nil {
		if a.float == nil {
			return nil, 0, 0, 0, usage.Errorf("the type is %s; images must be unsigned bytes, or floats in [0,1]: if the values are 0 to 255, save x.astype(\"uint8\")", a.kind)
		}
		x, err := a.float()
		if err != nil {
			return nil, 0, 0, 0, err
		}
		out = make([]uint8, len(x))
		for i, v := range x {
			k := math.Round(255 * float64(v))
			if !(k >= 0 && k <= 255 && math.Abs(255*float64(v)-k) < 1e-3) {
				return nil, 0, 0, 0, usage.Errorf("pixel value %g is not k/255 with k from 0 to 255; give 8-bit images, or floats in [0,1] made from such, before they are normalised", v)
			}
			out[i] = uint8(k)
		}
	}
	if planes && c > 1 {
		in, plane := out, h*w
		out = make([]uint8, len(in))
		for base := 0; base < len(in); base += c * plane {
			for i := range plane {
				for j := range c {
					out[base+i*c+j] = in[base+j*plane+i]
				}
			}
		}
	}
	return out, h, w, c, nil
}

func labelsOf(a array) ([]int32, error) {
	if a.ints == nil || len(a.shape) < 1 || len(a.shape) > 2 || len(a.shape) == 2 && a.shape[1] != 1 {
		return nil, usage.Errorf("shape %v of type %s; labels must be integers of shape [N]", a.shape, a.kind)
	}
	y, err := a.ints()
	if err != nil {
		return nil, err
	}
	out := make([]int32, len(y))
	for i, v := range y {
		if v < math.MinInt32 || v > math.MaxInt32 {
			return nil, usage.Errorf("label %d of image %d is out of range", v, i)
		}
		out[i] = int32(v)
	}
	return out, nil
}

func fromNumPy(a *npy.Array) array {
	r := array{shape: a.Shape, kind: a.Type, ints: a.Int64s}
	switch a.Type[0] {
	case 'u':
		if a.Type == "u1" {
			r.bytes = nonNil(a.Data)
		}
	case 'f':
		r.float, r.ints = a.Float32s, nil
	case 'U':
		r.text, r.ints = a.Text, nil
	}
	return r
}

func fromTensor(t *safetensors.Tensor) array {
	r := array{shape: t.Shape, kind: string(t.DType), ints: t.Int64s}
	switch t.DType {
	case safetensors.U8:
		r.bytes = nonNil(t.Data)
	case safetensors.F64, safetensors.F32, safetensors.F16, safetensors.BF16:
		r.float, r.ints = t.Float32s, nil
	case safetensors.Bool:
		r.ints = nil
	}
	return r
}

func nonNil(b []uint8) []uint8 {
	if b == nil {
		b = []uint8{}
	}
	return b
}

func readNPZ(origin string, b []byte, classes []string) ([]*Dataset, error) {
	z, err := npy.ParseZip(b)
	if err != nil {
		return nil, usage.Errorf("%s: not a valid .npz file: %w", origin, err)
	}
	arrays := map[string]array{}
	for _, n := range z {
		arrays[n.Name] = fromNumPy(n.Array)
	}
	return readArrays(origin, arrays, classes)
}

// readNPY takes a tree of .npy files as one archive.
func readNPY(t *tree, classes []string) ([]*Dataset, error) {
	arrays := map[string]array{}
	for i := range t.files {
		f := &t.files[i]
		name, ok := strings.CutSuffix(f.base(), ".npy")
		if !ok {
			continue
		}
		if _, twice := arrays[name]; twice {
			return nil, usage.Errorf("%s: another folder holds a file of that name too; give one folder", f.origin)
		}
		b, err := f.read()
		if err != nil {
			return nil, err
		}
		a, err := npy.Parse(b)
		if err != nil {
			return nil, usage.Errorf("%s: not a valid .npy file: %w", f.origin, err)
		}
		arrays[name] = fromNumPy(a)
	}
	return readArrays(t.origin, arrays, classes)
}

func readSafetensors(origin string, b []byte, classes []string) ([]*Dataset, error) {
	f, err := safetensors.Parse(b)
	if err != nil {
		return nil, usage.Errorf("%s: not a valid safetensors file: %w", origin, err)
	}
	arrays := map[string]array{}
	for i := range f.Tensors {
		arrays[f.Tensors[i].Name] = fromTensor(&f.Tensors[i])
	}
	if list := f.Meta["classes"]; list != "" {
		arrays["classes"] = array{text: func() ([]string, error) {
			c := strings.Split(list, ",")
			for _, s := range c {
				if s == "" {
					return nil, errors.New("the metadata hold an empty class name")
				}
			}
			return c, nil
		}}
	}
	return readArrays(origin, arrays, classes)
}
