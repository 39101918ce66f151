package nn

import (
	"errors"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

func testSpec() Spec {
	return Spec{Arch: "convnet", Width: 4, Classes: 10, C: 3, H: 9, W: 8, BatchNorm: true, Stem: StemPool,
		Mean: []float64{.47, .48, .49}, Std: []float64{.25, .24, .23}}
}

func TestParamsPartitionTheVector(t *testing.T) {
	for _, bn := range []bool{false, true} {
		for _, stem := range []string{StemPool, StemStride} {
			s := testSpec()
			s.BatchNorm, s.Stem = bn, stem
			at := 0
			for _, p := range s.Params() {
				n := 1
				for _, d := range p.Torch {
					n *= d
				}
				if p.Off != at || p.Len != n {
					t.Errorf("bn %v stem %s: %s is at %d with %d elements; want %d with %d", bn, stem, p.Name, p.Off, p.Len, at, n)
				}
				at += p.Len
			}
			if at != s.NumParams() {
				t.Errorf("NumParams is %d, the parameters end at %d", s.NumParams(), at)
			}
		}
	}
}

// Layouts are permutations: to PyTorch's and back is the identity, and element (o,i,r,s) of a
// convolution goes where PyTorch has it.
func TestLayouts(t *testing.T) {
	s := testSpec()
	flat := make([]float32, s.NumParams())
	for i := range flat {
		flat[i] = float32(i)
	}
	back := make([]float32, len(flat))
	for _, p := range s.Params() {
		if err := p.FromTorch(back, p.ToTorch(flat)); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(flat, back) {
		t.Fatal("to PyTorch's layout and back is not the identity")
	}
	p := s.Params()[0] // conv1.weight, KRSC [4,3,3,3] on the device
	torch := p.ToTorch(flat)
	o, i, r, c := 2, 1, 0, 2
	if got, want := torch[((o*3+i)*3+r)*3+c], flat[((o*3+r)*3+c)*3+i]; got != want {
		t.Errorf("conv1.weight[%d,%d,%d,%d] is %v, want %v", o, i, r, c, got, want)
	}
}

func TestSaveLoad(t *testing.T) {
	m, err := New(testSpec(), 7)
	if err != nil {
		t.Fatal(err)
	}
	m.Record = map[string]string{"epochs": "3"}
	path := filepath.Join(t.TempDir(), "m.safetensors")
	if err := m.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, got) {
		t.Errorf("loaded %+v, saved %+v", got.Spec, m.Spec)
	}
}

// TestMetadataOfOthers: lists as Python prints them, and blanks.
func TestMetadataOfOthers(t *testing.T) {
	meta := map[string]string{"arch": "convnet", "width": " 8", "classes": "10", "input": "3x16x16", "batchnorm": "False", "stem": "pool"}
	s, err := SpecFromMetadata(meta)
	if err == nil {
		t.Fatalf("metadata without a mean gave %v", s)
	}
	for _, text := range []string{"0.47,0.5,0.25", "0.47, 0.5, 0.25", "[0.47, 0.5, 0.25]", "(0.47, 0.5, 0.25,)"} {
		meta["mean"], meta["std"] = text, text
		s, err := SpecFromMetadata(meta)
		if err != nil || s.Width != 8 || s.BatchNorm || !slices.Equal(s.Mean, []float64{0.47, 0.5, 0.25}) || !slices.Equal(s.Std, s.Mean) {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

func TestNewIsAFunctionOfItsSeed(t *testing.T) {
	a, _ := New(testSpec(), 1)
	b, _ := New(testSpec(), 1)
	c, _ := New(testSpec(), 2)
	if !reflect.DeepEqual(a, b) {
		t.Error("the same seed gives two models")
	}
	if reflect.DeepEqual(a.Theta, c.Theta) {
		t.Error("two seeds give one model")
	}
}

// set changes one element of a tensor.
func set(f *safetensors.File, name string, at int, v float32) {
	for i, t := range f.Tensors {
		if t.Name == name {
			values, _ := t.Float32s()
			values[at] = v
			f.Tensors[i] = safetensors.FromFloat32(name, values, t.Shape...)
		}
	}
}

func TestBadModelFiles(t *testing.T) {
	for name, c := range map[string]struct {
		break_ func(*safetensors.File)
		want   string
	}{
		"no arch":     {func(f *safetensors.File) { delete(f.Meta, "arch") }, `lacks "arch"`},
		"no metadata": {func(f *safetensors.File) { f.Meta = map[string]string{"format": "pt"} }, `its metadata do not say what network these`},
		"a prefix": {func(f *safetensors.File) {
			for i := range f.Tensors {
				f.Tensors[i].Name = "module." + f.Tensors[i].Name
			}
		}, `; take the prefix away when it is written: {name.removeprefix("module."): t for name, t in`},
		"a prefix of some": {func(f *safetensors.File) {
			for i := range f.Tensors[1:] {
				f.Tensors[i+1].Name = "module." + f.Tensors[i+1].Name
			}
		}, "is missing"},
		"unknown arch": {func(f *safetensors.File) { f.Meta["arch"] = "vgg" }, "known: convnet"},
		"huge width":   {func(f *safetensors.File) { f.Meta["width"] = "4000" }, "must have shape"},
		"bad input":    {func(f *safetensors.File) { f.Meta["input"] = "3x32" }, "CxHxW"},
		"zero std":     {func(f *safetensors.File) { f.Meta["std"] = "0,1,1" }, "std must be positive"},
		"too small":    {func(f *safetensors.File) { f.Meta["input"] = "3x4x4" }, "too small"},
		"missing":      {func(f *safetensors.File) { f.Tensors = f.Tensors[1:] }, "is missing"},
		"extra": {func(f *safetensors.File) {
			f.Tensors = append(f.Tensors, safetensors.FromFloat32("fc9.weight", []float32{1}, 1))
		}, "belongs to no layer"},
		"NaN": {func(f *safetensors.File) {
			for i := range f.Tensors {
				if f.Tensors[i].Name == "fc2.bias" {
					f.Tensors[i] = safetensors.FromFloat32("fc2.bias", append(make([]float32, 9), nan32()), 10)
				}
			}
		}, "finite"},
		"negative variance": {func(f *safetensors.File) { set(f, "bn2.running_var", 3, -1e-9) }, `tensor "bn2.running_var" has the value -1e-09 at element 3; a variance is at least 0`},
		"infinite variance": {func(f *safetensors.File) { set(f, "bn1.running_var", 0, float32(math.Inf(1))) }, `tensor "bn1.running_var" has the value +Inf at element 0`},
		"NaN running mean":  {func(f *safetensors.File) { set(f, "bn3.running_mean", 1, nan32()) }, `tensor "bn3.running_mean" has the value NaN at element 1`},
	} {
		m, err := New(testSpec(), 1)
		if err != nil {
			t.Fatal(err)
		}
		f := m.File()
		c.break_(f)
		_, err = FromFile(f)
		if err == nil || !strings.Contains(err.Error(), c.want) || !usage.Is(err) {
			t.Errorf("%s: got error %v; want a usage error with %q", name, err, c.want)
		}
	}
	if _, err := New(Spec{}, 1); !usage.Is(err) || errors.Unwrap(err) == err {
		t.Errorf("the zero Spec: %v", err)
	}
}

// The published architectures have as many parameters as torchvision documents.
func TestPublishedSizes(t *testing.T) {
	for _, c := range []struct {
		arch, head string
		bn         bool
		n          int
	}{
		{"resnet18", "", true, 11689512},
		{"resnet34", "", true, 21797672},
		{"vgg11", HeadMLP, false, 132863336},
		{"vgg13", HeadMLP, true, 133053736},
		{"vgg16", HeadMLP, false, 138357544},
		{"vgg16", HeadMLP, true, 138365992},
		{"vgg19", HeadMLP, false, 143667240},
		{"mobilenet_v2", "", true, 3504872},
	} {
		s := Spec{Arch: c.arch, Head: c.head, BatchNorm: c.bn, Stem: StemImageNet, Classes: 1000, C: 3, H: 224, W: 224,
			Mean: []float64{0, 0, 0}, Std: []float64{1, 1, 1}}.WithDefaults()
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		if n := s.NumParams(); n != c.n {
			t.Errorf("%s, batch norm %v: %d parameters, torchvision has %d", c.arch, c.bn, n, c.n)
		}
	}
}

// What a network can't be is said in one sentence.
func TestBadSpecs(t *testing.T) {
	for want, s := range map[string]Spec{
		`unknown architecture "alexnet" (known: convnet, resnet18`: {Arch: "alexnet"},
		`resnet18 has no stem "pool" (known: cifar, imagenet)`:     {Arch: "resnet18", Stem: "pool"},
		"resnet18 has no choice of heads":                          {Arch: "resnet18", Head: "mlp"},
		`vgg16 has no head "big" (known: linear, mlp)`:             {Arch: "vgg16", Head: "big"},
		"resnet18 has no dropout":                                  {Arch: "resnet18", Dropout: 0.1},
		"at least 0 and below 1":                                   {Arch: "mobilenet_v2", Dropout: 1},
		"is too small for vgg16":                                   {Arch: "vgg16", H: 31},
		"width is 5000":                                            {Arch: "vgg16", Width: 5000},
	} {
		if s.H == 0 {
			s.H = 32
		}
		s.C, s.W, s.Classes, s.Mean, s.Std = 1, 32, 10, []float64{0}, []float64{1}
		if err := s.WithDefaults().Validate(); !usage.Is(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want a usage error with %q", s, err, want)
		}
	}
	s := published("resnet18", 2, 32, StemCIFAR)
	if s.BatchNorm = false; !usage.Is(s.Validate()) {
		t.Error("a ResNet without batch norm")
	}
}

// Batch norm needs two values of a channel: one image of one pixel has one.
func TestMinBatch(t *testing.T) {
	for want, s := range map[int]Spec{1: published("resnet18", 2, 32, StemCIFAR), 2: published("resnet18", 2, 32, StemImageNet)} {
		if got := s.MinBatch(); got != want {
			t.Errorf("stem %s: %d, want %d", s.Stem, got, want)
		}
	}
}

// Registered under a name that is taken, an architecture panics.
func TestRegister(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a second toy was registered")
		}
	}()
	Register(toy)
}
