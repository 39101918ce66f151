package nn

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// A Spec says which network a set of parameters belongs to. Inputs are pixels in [0,1];
// the normalisation (x−Mean)/Std is the network's first layer.
type Spec struct {
	Arch      string    `json:"arch"`      // "convnet"
	Width     int       `json:"width"`     // channels of the first convolution; w, 2w, 4w
	Classes   int       `json:"classes"`   // K
	C         int       `json:"channels"`  // input channels
	H         int       `json:"height"`    // input height
	W         int       `json:"width_in"`  // input width
	BatchNorm bool      `json:"batchnorm"` // batch norm after each convolution, which then has no bias
	Stem      string    `json:"stem"`      // "pool": 3×3 and max pool; "stride": 5×5, stride 2, no pool
	Mean      []float64 `json:"mean"`      // per input channel
	Std       []float64 `json:"std"`       // per input channel
}

// Constants of batch norm, PyTorch's defaults.
const (
	bnEpsilon  = 1e-5
	bnMomentum = 0.1
)

// Stems of the ConvNet.
const (
	StemPool   = "pool"
	StemStride = "stride"
)

// A Param names a slice of a model's flat parameter vector.
type Param struct {
	Name  string // PyTorch's name, such as conv1.weight
	Torch []int  // PyTorch's shape: [O,I,kh,kw] or [O,I] or [O]
	Off   int    // first element in the flat vector
	Len   int
	perm  func(dev int) int // index in PyTorch's layout of element dev of the device layout; nil: the same
}

// A block is one convolution with what follows it: (batch norm), ReLU, (pool).
type block struct {
	name                string
	inC, outC           int
	kernel, stride, pad int
	inH, inW            int // of the convolution's input
	outH, outW          int // of the convolution's output
	pool                int // 1 or 2
}

func (s Spec) blocks() []block {
	var bs []block
	h, w, c := s.H, s.W, s.C
	for i := 0; i < 3; i++ {
		b := block{name: "conv" + strconv.Itoa(i+1), inC: c, outC: s.Width << i, kernel: 3, stride: 1, pad: 1, inH: h, inW: w, pool: 2}
		if i == 0 && s.Stem == StemStride {
			b.kernel, b.stride, b.pad, b.pool = 5, 2, 2, 1
		}
		b.outH = (h+2*b.pad-b.kernel)/b.stride + 1
		b.outW = (w+2*b.pad-b.kernel)/b.stride + 1
		h, w, c = b.outH/b.pool, b.outW/b.pool, b.outC
		bs = append(bs, b)
	}
	return bs
}

// features returns the shape [h,w,c] that enters fc1.
func (s Spec) features() (h, w, c int) {
	b := s.blocks()
	last := b[len(b)-1]
	return last.outH / last.pool, last.outW / last.pool, last.outC
}

// Validate reports the first thing that is wrong with s, as a usage error.
func (s Spec) Validate() error {
	switch {
	case s.Arch != "convnet":
		return usage.Errorf("model: unknown architecture %q (known: convnet)", s.Arch)
	case s.Stem != StemPool && s.Stem != StemStride:
		return usage.Errorf("model: unknown stem %q (known: pool, stride)", s.Stem)
	case s.Width < 1 || s.Width > 4096:
		return usage.Errorf("model: width is %d; it must be 1 to 4096", s.Width)
	case s.Classes < 2 || s.Classes > 1<<20:
		return usage.Errorf("model: %d classes; it must be 2 to %d", s.Classes, 1<<20)
	case s.C < 1 || s.H < 1 || s.W < 1 || s.C > 1<<12 || s.H > 1<<12 || s.W > 1<<12:
		return usage.Errorf("model: input is %dx%dx%d (channels, height, width); each must be 1 to %d", s.C, s.H, s.W, 1<<12)
	case len(s.Mean) != s.C || len(s.Std) != s.C:
		return usage.Errorf("model: %d means and %d standard deviations for %d input channels", len(s.Mean), len(s.Std), s.C)
	}
	for i, v := range s.Std {
		if !(v > 0) || math.IsInf(v, 0) || math.IsNaN(s.Mean[i]) || math.IsInf(s.Mean[i], 0) {
			return usage.Errorf("model: normalisation of channel %d is mean %g, std %g; std must be positive and both finite", i, s.Mean[i], v)
		}
	}
	if h, w, _ := s.features(); h < 1 || w < 1 {
		return usage.Errorf("model: input %dx%d is too small for three convolution blocks with stem %q", s.H, s.W, s.Stem)
	}
	return nil
}

// convPerm maps KRSC to PyTorch's OIHW.
func convPerm(in, k int) func(int) int {
	return func(d int) int {
		c := d % in
		s := d / in % k
		r := d / in / k % k
		o := d / in / k / k
		return ((o*in+c)*k+r)*k + s
	}
}

// flattenPerm maps a linear layer over NHWC-flattened features to PyTorch's NCHW-flattened ones.
func flattenPerm(h, w, c int) func(int) int {
	n := h * w * c
	return func(d int) int {
		o, f := d/n, d%n
		return o*n + (f%c)*h*w + f/c
	}
}

// Params lists the parameters in the order of the flat vector.
func (s Spec) Params() []Param {
	var ps []Param
	off := 0
	add := func(name string, perm func(int) int, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		ps = append(ps, Param{Name: name, Torch: shape, Off: off, Len: n, perm: perm})
		off += n
	}
	for i, b := range s.blocks() {
		add(b.name+".weight", convPerm(b.inC, b.kernel), b.outC, b.inC, b.kernel, b.kernel)
		if s.BatchNorm {
			bn := "bn" + strconv.Itoa(i+1)
			add(bn+".weight", nil, b.outC)
			add(bn+".bias", nil, b.outC)
		} else {
			add(b.name+".bias", nil, b.outC)
		}
	}
	h, w, c := s.features()
	hidden := 4 * s.Width
	add("fc1.weight", flattenPerm(h, w, c), hidden, h*w*c)
	add("fc1.bias", nil, hidden)
	add("fc2.weight", nil, s.Classes, hidden)
	add("fc2.bias", nil, s.Classes)
	return ps
}

// NumParams returns |θ|.
func (s Spec) NumParams() int {
	ps := s.Params()
	last := ps[len(ps)-1]
	return last.Off + last.Len
}

// Buffers lists the running statistics of batch norm in the order of their flat vector:
// running_mean, then running_var, block by block. It is empty without batch norm.
func (s Spec) Buffers() []Param {
	if !s.BatchNorm {
		return nil
	}
	var ps []Param
	off := 0
	for i, b := range s.blocks() {
		for _, kind := range []string{"running_mean", "running_var"} {
			ps = append(ps, Param{Name: fmt.Sprintf("bn%d.%s", i+1, kind), Torch: []int{b.outC}, Off: off, Len: b.outC})
			off += b.outC
		}
	}
	return ps
}

// NumBuffers returns the length of the flat vector of running statistics.
func (s Spec) NumBuffers() int {
	n := 0
	for _, p := range s.Buffers() {
		n += p.Len
	}
	return n
}

// ToTorch copies p's slice of a flat device-layout vector into PyTorch's layout.
func (p Param) ToTorch(flat []float32) []float32 {
	out := make([]float32, p.Len)
	for i, v := range flat[p.Off : p.Off+p.Len] {
		if p.perm != nil {
			out[p.perm(i)] = v
		} else {
			out[i] = v
		}
	}
	return out
}

// FromTorch copies values in PyTorch's layout into p's slice of a flat device-layout vector.
func (p Param) FromTorch(flat, torch []float32) error {
	if len(torch) != p.Len {
		return fmt.Errorf("nn: %s has %d values, want %d (shape %v)", p.Name, len(torch), p.Len, p.Torch)
	}
	dst := flat[p.Off : p.Off+p.Len]
	for i := range dst {
		if p.perm != nil {
			dst[i] = torch[p.perm(i)]
		} else {
			dst[i] = torch[i]
		}
	}
	return nil
}

// Metadata writes s as the string metadata of a model file.
func (s Spec) Metadata() map[string]string {
	join := func(v []float64) string {
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = strconv.FormatFloat(x, 'g', -1, 64)
		}
		return strings.Join(parts, ",")
	}
	return map[string]string{
		"arch": s.Arch, "width": strconv.Itoa(s.Width), "classes": strconv.Itoa(s.Classes),
		"input":     fmt.Sprintf("%dx%dx%d", s.C, s.H, s.W),
		"batchnorm": strconv.FormatBool(s.BatchNorm), "stem": s.Stem,
		"mean": join(s.Mean), "std": join(s.Std),
	}
}

// SpecFromMetadata reads the Spec of a model file's metadata.
func SpecFromMetadata(m map[string]string) (Spec, error) {
	var s Spec
	need := func(key string) (string, error) {
		v, ok := m[key]
		if !ok {
			return "", usage.Errorf("model: the file's metadata lacks %q (a model has arch, width, classes, input, batchnorm, stem, mean, std)", key)
		}
		return v, nil
	}
	var err error
	get := func(key string, parse func(string) error) {
		if err != nil {
			return
		}
		var v string
		if v, err = need(key); err != nil {
			return
		}
		if e := parse(v); e != nil {
			err = usage.Errorf("model: the file's metadata has %s=%q, which is not understood: %v", key, v, e)
		}
	}
	atoi := func(dst *int) func(string) error {
		return func(v string) (e error) { *dst, e = strconv.Atoi(strings.TrimSpace(v)); return }
	}
	floats := func(dst *[]float64) func(string) error {
		return func(v string) error {
			for _, f := range strings.Split(strings.Trim(v, "()[] ,"), ",") { // Python's lists and tuples too
				x, e := strconv.ParseFloat(strings.TrimSpace(f), 64)
				if e != nil {
					return e
				}
				*dst = append(*dst, x)
			}
			return nil
		}
	}
	get("arch", func(v string) error { s.Arch = v; return nil })
	get("width", atoi(&s.Width))
	get("classes", atoi(&s.Classes))
	get("input", func(v string) error {
		parts := strings.Split(v, "x")
		if len(parts) != 3 {
			return fmt.Errorf("want CxHxW, such as 3x32x32")
		}
		for i, dst := range []*int{&s.C, &s.H, &s.W} {
			if e := atoi(dst)(parts[i]); e != nil {
				return e
			}
		}
		return nil
	})
	get("batchnorm", func(v string) (e error) { s.BatchNorm, e = strconv.ParseBool(v); return })
	get("stem", func(v string) error { s.Stem = v; return nil })
	get("mean", floats(&s.Mean))
	get("std", floats(&s.Std))
	if err != nil {
		return Spec{}, err
	}
	return s, s.Validate()
}
