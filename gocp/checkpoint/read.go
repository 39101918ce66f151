package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// Said is what a file does not say of its network; zero fields are left to the file's metadata and shapes.
// Where both say something it must be the same.
type Said struct {
	Arch, Stem, Head string
	C, H, W          int
	Mean, Std        []float64
	Dropout          *float64
	Config           []byte // config.json of transformers
}

// Info is what is known of a file.
type Info struct {
	Library string   `json:"library"`
	Prefix  string   `json:"prefix,omitempty"` // stripped from all names
	Spec    nn.Spec  `json:"spec"`
	Missing []string `json:"missing,omitempty"` // what neither the file nor the caller says: input, mean, std, stem
	Stored  []string `json:"stored"`            // types of numbers
	epsilon float64
	library library
	keys    map[string]string // the file's name of a tensor by the library's
}

// prefixes are what wrappers put in front of all names.
var prefixes = []string{"module.", "_orig_mod.", "model.", "backbone."}

// Load reads a model file of any of the libraries. What is missing is a usage error that says how to say it.
func Load(path string, said Said) (*nn.Model, *Info, error) {
	f, info, err := open(path, &said)
	if err != nil {
		return nil, nil, err
	}
	m, err := info.model(f, said)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, info, nil
}

// Inspect says what is known of a file.
func Inspect(path string, said Said) (*Info, error) {
	_, info, err := open(path, &said)
	return info, err
}

func open(path string, said *Said) (*safetensors.File, *Info, error) {
	f, err := safetensors.Load(path)
	if err != nil {
		return nil, nil, err
	}
	if said.Config == nil {
		config, err := os.ReadFile(filepath.Join(filepath.Dir(path), "config.json"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		said.Config = config
	}
	info, err := inspect(f, *said)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, info, nil
}

// inspect finds the library, the architecture, and what shapes tell.
func inspect(f *safetensors.File, said Said) (*Info, error) {
	if len(f.Tensors) == 0 {
		return nil, usage.Errorf("the file holds no tensors")
	}
	info := &Info{keys: map[string]string{}}
	info.Prefix = prefixOf(f)
	for _, t := range f.Tensors {
		if strings.HasSuffix(t.Name, ".num_batches_tracked") {
			continue
		}
		info.keys[strings.TrimPrefix(t.Name, info.Prefix)] = t.Name
		if d := string(t.DType); !slices.Contains(info.Stored, d) {
			info.Stored = append(info.Stored, d)
		}
	}
	if err := info.recognise(f, said); err != nil {
		return nil, err
	}
	if err := info.describe(f, said); err != nil {
		return nil, err
	}
	if l := info.library; l.settings != nil {
		s, err := l.settings(info.Spec, said.Config)
		if err != nil {
			return nil, err
		}
		info.epsilon = s.epsilon
	}
	return info, nil
}

// prefixOf is the one prefix that all names have, or none.
func prefixOf(f *safetensors.File) string {
	for _, p := range prefixes {
		if !slices.ContainsFunc(f.Tensors, func(t safetensors.Tensor) bool { return !strings.HasPrefix(t.Name, p) }) {
			return p
		}
	}
	return ""
}

// recognise finds the library and the architecture whose names the file has.
func (info *Info) recognise(f *safetensors.File, said Said) error {
	arch, err := agree("arch", source{byFile, f.Meta["arch"]}, source{byCaller, said.Arch})
	if err != nil {
		return err
	}
	archs := nn.Architectures()
	if arch != "" {
		if _, err := nn.Lookup(arch); err != nil {
			return err
		}
		archs = []string{arch}
	}
	best, found := -1, nn.Spec{}
	var names []string // of best
	for _, l := range libraries {
		for _, s := range variants(archs) {
			if head := first(said.Head, f.Meta["head"]); head != "" && s.Head != head || l.has(s) != nil {
				continue
			}
			have, want := 0, []string(nil)
			for _, p := range append(s.Params(), s.Buffers()...) {
				name, _ := l.tensor(s, p)
				want = append(want, name)
				if _, ok := info.keys[name]; ok {
					have++
				}
			}
			// Of all that have most of the names, the one that wants the fewest others.
			if have > best || have == best && len(want) < len(names) {
				best, found, names, info.library = have, s, want, l
			}
		}
	}
	info.Library = info.library.name
	if best <= 0 {
		return usage.Errorf("these are no tensors of a network that is known here (the first is %q; known: %s)", f.Tensors[0].Name, strings.Join(nn.Architectures(), ", "))
	}
	_, layers := info.keys["layers.0.conv1.weight"]
	if _, linear := info.keys["linear.weight"]; layers && linear {
		return usage.Errorf("this is pytorch-cifar's MobileNetV2, which is another network than the published one (ReLU, convolutions in the shortcuts); it can't be read")
	}
	what := fmt.Sprintf("%s by %s's names", found.Arch, info.Library)
	for _, name := range names {
		if _, ok := info.keys[name]; !ok {
			return usage.Errorf("tensor %q is missing (the file looks like %s)", info.Prefix+name, what)
		}
	}
	for _, t := range f.Tensors {
		if key := strings.TrimPrefix(t.Name, info.Prefix); info.keys[key] != "" && !slices.Contains(names, key) {
			return usage.Errorf("tensor %q belongs to no layer (the file looks like %s)", t.Name, what)
		}
	}
	info.Spec = found
	return nil
}

// variants are the networks whose tensors may have other names, of sizes that do not matter.
func variants(archs []string) []nn.Spec {
	var out []nn.Spec
	for _, name := range archs {
		a, err := nn.Lookup(name)
		if err != nil {
			continue
		}
		heads := a.Heads
		if heads == nil {
			heads = []string{""}
		}
		for _, stem := range a.Stems {
			for _, head := range heads {
				for _, bn := range []bool{false, true} {
					s := nn.Spec{Arch: name, Width: a.Width, Classes: 10, C: 3, H: 64, W: 64, Stem: stem, Head: head, BatchNorm: bn,
						Mean: make([]float64, 3), Std: []float64{1, 1, 1}}
					if s.Validate() == nil {
						out = append(out, s)
					}
				}
			}
		}
	}
	return out
}

// A source says something of a network.
type source struct{ who, says string }

// agree is what the sources that say anything say; it must be the same.
func agree(what string, sources ...source) (string, error) {
	var by source
	for _, s := range sources {
		switch {
		case s.says == "":
		case by.says == "":
			by = s
		case by.says != s.says:
			return "", usage.Errorf("%s is %s by %s, and %s by %s", what, by.says, by.who, s.says, s.who)
		}
	}
	return by.says, nil
}

// Who says what.
const (
	byFile   = "the file's metadata"
	byCaller = "the flags"
	byShapes = "its tensors"
)

// describe fills info's Spec from metadata, shapes and what is said.
func (info *Info) describe(f *safetensors.File, said Said) error {
	s := info.Spec // sized to be looked at
	params := s.Params()
	of := func(p nn.Param) *safetensors.Tensor {
		name, _ := info.library.tensor(s, p)
		return f.Get(info.keys[name])
	}
	w, b := of(params[0]), of(params[len(params)-1])
	if len(w.Shape) != 4 || len(b.Shape) != 1 {
		return usage.Errorf("tensors %q and %q have shapes %v and %v; they must be a convolution's weights and a layer's bias", w.Name, b.Name, w.Shape, b.Shape)
	}
	tell := map[string]string{"arch": s.Arch, "head": s.Head, "batchnorm": strconv.FormatBool(s.BatchNorm),
		"width": strconv.Itoa(w.Shape[0]), "classes": strconv.Itoa(b.Shape[0])}
	say := said.metadata()
	meta := map[string]string{}
	for _, key := range []string{"arch", "head", "batchnorm", "width", "classes", "input", "mean", "std", "dropout"} {
		v, err := agree(key, source{byFile, f.Meta[key]}, source{byCaller, say[key]}, source{byShapes, tell[key]})
		if err != nil {
			return err
		}
		if meta[key] = v; v == "" && slices.Contains([]string{"input", "mean", "std"}, key) {
			info.Missing = append(info.Missing, key)
		}
	}
	// For what is to be looked at, anything does for what is missing.
	probe := maps.Clone(meta)
	channels := w.Shape[1]
	if probe["input"] == "" {
		probe["input"] = fmt.Sprintf("%dx64x64", channels)
	}
	for _, key := range []string{"mean", "std"} {
		if probe[key] == "" {
			probe[key] = strings.TrimSuffix(strings.Repeat("1,", channels), ",")
		}
	}
	stem, err := info.stem(f, probe, first(f.Meta["stem"], say["stem"]))
	if err != nil {
		return err
	}
	if probe["stem"], err = agree("stem", source{byFile, f.Meta["stem"]}, source{byCaller, say["stem"]}, source{byShapes, stem}); err != nil {
		return err
	}
	if probe["stem"] == "" {
		info.Missing, probe["stem"] = append(info.Missing, "stem"), s.Stem
	}
	if info.Spec, err = nn.SpecFromMetadata(probe); err != nil {
		return err
	}
	if info.Spec.C != channels {
		return usage.Errorf("input %s has %d channels; tensor %q has weights for %d", probe["input"], info.Spec.C, w.Name, channels)
	}
	return info.shapes(f)
}

// stem is the one that shapes tell; empty where they leave it open. Where stems are alike it is the one that
// was told.
func (info *Info) stem(f *safetensors.File, meta map[string]string, told string) (string, error) {
	a, err := nn.Lookup(info.Spec.Arch)
	if err != nil {
		return "", err
	}
	var fit []nn.Spec
	for _, stem := range a.Stems {
		with := maps.Clone(meta)
		with["stem"] = stem
		s, err := nn.SpecFromMetadata(with)
		if err != nil || info.library.has(s) != nil {
			continue
		}
		if try := (&Info{Spec: s, library: info.library, keys: info.keys}); try.shapes(f) == nil {
			fit = append(fit, s)
		}
	}
	if len(fit) == 0 || len(fit) > 1 && !reflect.DeepEqual(a.Nodes(fit[0]), a.Nodes(fit[1])) {
		return "", nil
	}
	if len(fit) > 1 {
		return first(told, fit[0].Stem), nil
	}
	return fit[0].Stem, nil
}

// shapes checks all of them.
func (info *Info) shapes(f *safetensors.File) error {
	s := info.Spec
	for _, p := range append(s.Params(), s.Buffers()...) {
		name, shape := info.library.tensor(s, p)
		if t := f.Get(info.keys[name]); !t.Is(shape...) {
			return usage.Errorf("tensor %q has shape %v; a %s of width %d with stem %s on %dx%dx%d has %v", t.Name, t.Shape, s.Arch, s.Width, s.Stem, s.C, s.H, s.W, shape)
		}
	}
	return nil
}

// metadata is what is said, as a file would say it.
func (s Said) metadata() map[string]string {
	floats := func(v []float64) string {
		var words []string
		for _, x := range v {
			words = append(words, strconv.FormatFloat(x, 'g', -1, 64))
		}
		return strings.Join(words, ",")
	}
	m := map[string]string{"arch": s.Arch, "stem": s.Stem, "head": s.Head, "mean": floats(s.Mean), "std": floats(s.Std)}
	if s.C > 0 {
		m["input"] = fmt.Sprintf("%dx%dx%d", s.C, s.H, s.W)
	}
	if s.Dropout != nil {
		m["dropout"] = strconv.FormatFloat(*s.Dropout, 'g', -1, 64)
	}
	return m
}

// model reads the numbers.
func (info *Info) model(f *safetensors.File, said Said) (*nn.Model, error) {
	if len(info.Missing) > 0 {
		return nil, usage.Errorf("the file does not say the %s of its network: give --%s", strings.Join(info.Missing, ", "), strings.Join(info.Missing, ", --"))
	}
	out := &safetensors.File{Meta: info.Spec.Metadata()}
	for k, v := range f.Meta {
		if _, ours := out.Meta[k]; !ours && k != "format" {
			out.Meta[k] = v
		}
	}
	for _, p := range append(info.Spec.Params(), info.Spec.Buffers()...) {
		name, _ := info.library.tensor(info.Spec, p)
		t := *f.Get(info.keys[name])
		t.Name, t.Shape = p.Name, p.Torch
		if info.epsilon > 0 && strings.HasSuffix(p.Name, ".running_var") {
			values, err := t.Float32s()
			if err != nil {
				return nil, err
			}
			for i, v := range values { // 1/√(v + ε) is the same with the epsilon of here
				values[i] = float32(float64(v) + info.epsilon - nn.Epsilon)
			}
			t = safetensors.FromFloat32(p.Name, values, p.Torch...)
		}
		out.Tensors = append(out.Tensors, t)
	}
	return nn.FromFile(out)
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// Lacks reports whether neither the file nor the caller says a key of the metadata.
func (info *Info) Lacks(key string) bool { return slices.Contains(info.Missing, key) }
