package nn

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// A Spec says which network a set of parameters belongs to. Inputs are pixels in [0,1];
// the normalisation (x−Mean)/Std is the network's first node.
type Spec struct {
	Arch      string    `json:"arch"`              // one of Architectures
	Width     int       `json:"width"`             // channels of the first convolution
	Classes   int       `json:"classes"`           // K
	C         int       `json:"channels"`          // input channels
	H         int       `json:"height"`            // input height
	W         int       `json:"width_in"`          // input width
	BatchNorm bool      `json:"batchnorm"`         // batch norm after each convolution
	Stem      string    `json:"stem"`              // how the network begins: one of its architecture's
	Head      string    `json:"head,omitempty"`    // how it ends, where its architecture leaves that open
	Dropout   float64   `json:"dropout,omitempty"` // rate of its dropout layers, in training
	Mean      []float64 `json:"mean"`              // per input channel
	Std       []float64 `json:"std"`               // per input channel
}

// Constants of batch norm, PyTorch's defaults.
const (
	Epsilon    = 1e-5
	bnMomentum = 0.1
)

// WithDefaults returns s with its architecture's width, stem, head and batch norm where s leaves no
// choice or none of its own. It does not touch Dropout, for which 0 is a rate like any other.
func (s Spec) WithDefaults() Spec {
	a, err := Lookup(s.Arch)
	if err != nil {
		return s
	}
	if s.Width == 0 {
		s.Width = a.Width
	}
	if s.Stem == "" {
		s.Stem = a.Stems[0]
	}
	if s.Head == "" && len(a.Heads) > 0 {
		s.Head = a.Heads[0]
	}
	s.BatchNorm = s.BatchNorm || a.Norm == NormAlways
	return s
}

// DefaultDropout is the rate that the architecture's authors took with s's head.
func (s Spec) DefaultDropout() float64 {
	if a, err := Lookup(s.Arch); err == nil && a.Dropout != nil {
		return a.Dropout(s)
	}
	return 0
}

// Validate reports the first thing that is wrong with s, as a usage error.
func (s Spec) Validate() error {
	a, err := Lookup(s.Arch)
	if err != nil {
		return err
	}
	switch {
	case !slices.Contains(a.Stems, s.Stem):
		return usage.Errorf("model: %s has no stem %q (known: %s)", s.Arch, s.Stem, strings.Join(a.Stems, ", "))
	case len(a.Heads) == 0 && s.Head != "":
		return usage.Errorf("model: %s has no choice of heads, and %q is asked for", s.Arch, s.Head)
	case len(a.Heads) > 0 && !slices.Contains(a.Heads, s.Head):
		return usage.Errorf("model: %s has no head %q (known: %s)", s.Arch, s.Head, strings.Join(a.Heads, ", "))
	case a.Norm == NormAlways && !s.BatchNorm:
		return usage.Errorf("model: %s always has batch norm; batchnorm is false", s.Arch)
	case a.Norm == NormNever && s.BatchNorm:
		return usage.Errorf("model: %s has no batch norm; batchnorm is true", s.Arch)
	case !(s.Dropout >= 0 && s.Dropout < 1):
		return usage.Errorf("model: dropout at rate %g; it must be at least 0 and below 1", s.Dropout)
	case s.Dropout > 0 && s.DefaultDropout() == 0:
		return usage.Errorf("model: %s has no dropout with this head, and a rate of %g is asked for", s.Arch, s.Dropout)
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
	_, err = s.graph()
	return err
}

// must is s's graph, and an empty one where Validate says why there is none.
func (s Spec) must() *graph {
	if g, err := s.graph(); err == nil {
		return g
	}
	return &graph{}
}

// Params lists the parameters in the order of the flat vector.
func (s Spec) Params() []Param { return s.must().params }

// NumParams returns |θ|.
func (s Spec) NumParams() int { return s.must().numParams() }

// Buffers lists the running statistics of batch norm in the order of their flat vector:
// running_mean, then running_var, node by node. It is empty without batch norm.
func (s Spec) Buffers() []Param { return s.must().buffers }

// NumBuffers returns the length of the flat vector of running statistics.
func (s Spec) NumBuffers() int { return s.must().numBuffers() }

// NumFeatures returns the number of penultimate activations: what the last layer sees of a sample.
func (s Spec) NumFeatures() int {
	if g := s.must(); len(g.ops) > 0 {
		return g.features()
	}
	return 0
}

// MinBatch is the smallest batch that s can be trained on: batch norm needs two values of a channel.
func (s Spec) MinBatch() int {
	if s.must().rows() == 1 {
		return 2
	}
	return 1
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
	m := map[string]string{
		"arch": s.Arch, "width": strconv.Itoa(s.Width), "classes": strconv.Itoa(s.Classes),
		"input":     fmt.Sprintf("%dx%dx%d", s.C, s.H, s.W),
		"batchnorm": strconv.FormatBool(s.BatchNorm), "stem": s.Stem,
		"mean": join(s.Mean), "std": join(s.Std),
	}
	if s.Head != "" {
		m["head"] = s.Head
	}
	if s.DefaultDropout() > 0 {
		m["dropout"] = strconv.FormatFloat(s.Dropout, 'g', -1, 64)
	}
	return m
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
	if s.Head = m["head"]; s.Head == "" {
		if a, e := Lookup(s.Arch); e == nil && len(a.Heads) > 0 {
			s.Head = a.Heads[0]
		}
	}
	s.Dropout = s.DefaultDropout()
	if m["dropout"] != "" {
		get("dropout", func(v string) (e error) { s.Dropout, e = strconv.ParseFloat(v, 64); return })
	}
	if err != nil {
		return Spec{}, err
	}
	return s, s.Validate()
}
