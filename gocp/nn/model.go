package nn

import (
	"fmt"
	"math"
	"strings"

	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// A Model is a Spec with its parameters, in host memory.
type Model struct {
	Spec
	Theta   []float32         // parameters, flat, in the order of Params and the device layout
	Running []float32         // running statistics of batch norm, in the order of Buffers
	Record  map[string]string // how it was trained: written to the file's metadata beside the Spec
}

// New returns a freshly initialised model, as torchvision initialises its architecture (Init); batch norm
// starts as the identity. The draws are Philox's, addressed by seed and parameter name.
func New(spec Spec, seed uint64) (*Model, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	m := &Model{Spec: spec, Theta: make([]float32, spec.NumParams()), Running: make([]float32, spec.NumBuffers())}
	for _, p := range spec.Params() {
		p.fill(m.Theta, seed)
	}
	for _, p := range spec.Buffers() {
		p.fill(m.Running, seed)
	}
	return m, nil
}

// fill draws p's initial values, addressed by seed and name.
func (p Param) fill(flat []float32, seed uint64) {
	dst := flat[p.Off : p.Off+p.Len]
	switch stream := rng.Stream("init " + p.Name); p.start.draw {
	case uniform:
		rng.FillUniform(seed, stream, float32(p.start.scale), dst)
	case normal:
		rng.FillNormal(seed, stream, float32(p.start.scale), dst)
	default:
		for i := range dst {
			dst[i] = float32(p.start.scale)
		}
	}
}

// Clone returns a deep copy of m.
func (m *Model) Clone() *Model {
	c := *m
	c.Theta = append([]float32(nil), m.Theta...)
	c.Running = append([]float32(nil), m.Running...)
	c.Record = make(map[string]string, len(m.Record))
	for k, v := range m.Record {
		c.Record[k] = v
	}
	return &c
}

// Load reads a model file: safetensors with PyTorch's names and layouts and the Spec as
// string metadata. Tensors that the Spec does not know are an error, and so are missing
// ones; batch norm's num_batches_tracked is passed over.
func Load(path string) (*Model, error) {
	f, err := safetensors.Load(path)
	if err != nil {
		return nil, err
	}
	m, err := FromFile(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// FromFile reads a model from a parsed file.
func FromFile(f *safetensors.File) (*Model, error) {
	if err := described(f); err != nil {
		return nil, err
	}
	spec, err := SpecFromMetadata(f.Meta)
	if err != nil {
		return nil, err
	}
	// All shapes are checked before anything of their size is allocated.
	seen := map[string]bool{}
	for _, p := range append(spec.Params(), spec.Buffers()...) {
		if _, err := f.Need(p.Name, "", p.Torch...); err != nil {
			if other := prefixed(f, p.Name); other != nil && f.Get(p.Name) == nil {
				return nil, other
			}
			return nil, err
		}
		seen[p.Name] = true
	}
	for _, t := range f.Tensors {
		if !seen[t.Name] && !(spec.BatchNorm && strings.HasSuffix(t.Name, ".num_batches_tracked")) {
			return nil, usage.Errorf("tensor %q belongs to no layer of the network that the metadata describes", t.Name)
		}
	}
	m := &Model{Spec: spec, Theta: make([]float32, spec.NumParams()), Running: make([]float32, spec.NumBuffers()), Record: map[string]string{}}
	known := spec.Metadata()
	for k, v := range f.Meta {
		if _, ok := known[k]; !ok {
			m.Record[k] = v
		}
	}
	if err := readParams(f, spec.Params(), m.Theta); err != nil {
		return nil, err
	}
	return m, readParams(f, spec.Buffers(), m.Running)
}

func readParams(f *safetensors.File, params []Param, flat []float32) error {
	for _, p := range params {
		values, err := f.Get(p.Name).Float32s()
		if err != nil {
			return err
		}
		for i, v := range values {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return usage.Errorf("tensor %q has the value %v at element %d; a model's numbers are finite", p.Name, v, i)
			}
			if v < 0 && strings.HasSuffix(p.Name, ".running_var") {
				return usage.Errorf("tensor %q has the value %v at element %d; a variance is at least 0", p.Name, v, i)
			}
		}
		if err := p.FromTorch(flat, values); err != nil {
			return err
		}
	}
	return nil
}

// File returns m as the content of a model file.
func (m *Model) File() *safetensors.File {
	f := &safetensors.File{Meta: m.Metadata()}
	for k, v := range m.Record {
		if _, taken := f.Meta[k]; !taken {
			f.Meta[k] = v
		}
	}
	for _, p := range m.Params() {
		f.Tensors = append(f.Tensors, safetensors.FromFloat32(p.Name, p.ToTorch(m.Theta), p.Torch...))
	}
	for _, p := range m.Buffers() {
		f.Tensors = append(f.Tensors, safetensors.FromFloat32(p.Name, p.ToTorch(m.Running), p.Torch...))
	}
	return f
}

// Save writes m to path, whole or not at all.
func (m *Model) Save(path string) error { return m.File().Save(path) }
