package checkpoint

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

func spec(arch, stem string, bn bool, head string) nn.Spec {
	return nn.Spec{Arch: arch, Width: 8, Classes: 7, C: 3, H: 32, W: 32, Stem: stem, Head: head, BatchNorm: bn,
		Mean: []float64{.5, .5, .5}, Std: []float64{.25, .25, .25}}.WithDefaults()
}

// cases are networks that libraries have.
var cases = []struct {
	library string
	spec    nn.Spec
}{
	{"torchvision", spec("resnet18", nn.StemImageNet, true, "")},
	{"torchvision", spec("resnet34", nn.StemCIFAR, true, "")},
	{"torchvision", spec("vgg16", nn.StemImageNet, true, nn.HeadMLP)},
	{"torchvision", spec("vgg11", nn.StemImageNet, false, nn.HeadMLP)},
	{"torchvision", spec("mobilenet_v2", nn.StemImageNet, true, "")},
	{"torchvision", spec("convnet", nn.StemPool, true, "")},
	{"pytorch-cifar", spec("resnet18", nn.StemCIFAR, true, "")},
	{"pytorch-cifar", spec("vgg19", nn.StemCIFAR, true, nn.HeadLinear)},
	{"timm", spec("resnet18", nn.StemImageNet, true, "")},
	{"timm", spec("vgg13", nn.StemImageNet, true, nn.HeadMLP)},
	{"timm", spec("mobilenet_v2", nn.StemImageNet, true, "")},
	{"transformers", spec("resnet34", nn.StemImageNet, true, "")},
	{"transformers", spec("mobilenet_v2", nn.StemImageNet, true, "")},
}

// mobileConfig is transformers' for a MobileNetV2 that is torchvision's.
const mobileConfig = `{"model_type": "mobilenet_v2", "hidden_act": "relu6", "tf_padding": false, "layer_norm_eps": 1e-5}`

func model(t *testing.T, s nn.Spec) *nn.Model {
	t.Helper()
	m, err := nn.New(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Running {
		m.Running[i] += float32(i%17) / 100
	}
	return m
}

// save writes a file in a folder of its own, beside transformers' configuration.
func save(t *testing.T, f *safetensors.File, config string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "m.safetensors")
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	if config != "" {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// What is written for a library comes back, number for number, from a file without metadata too, whose
// names have a prefix.
func TestThereAndBack(t *testing.T) {
	for _, c := range cases {
		t.Run(c.library+"/"+c.spec.Arch, func(t *testing.T) {
			m := model(t, c.spec)
			f, err := File(m, c.library)
			if err != nil {
				t.Fatal(err)
			}
			said := Said{C: 3, H: 32, W: 32, Mean: c.spec.Mean, Std: c.spec.Std, Stem: c.spec.Stem}
			config := ""
			if mobilenet(c.spec) {
				config = mobileConfig
			}
			if c.spec.DefaultDropout() > 0 {
				said.Dropout = &c.spec.Dropout
			}
			for _, bare := range []bool{false, true} {
				if bare {
					f.Meta = nil
					for i := range f.Tensors {
						f.Tensors[i].Name = "module." + f.Tensors[i].Name
					}
					f.Tensors = append(f.Tensors, safetensors.FromInt64("module.some.num_batches_tracked", []int64{3}))
				}
				back, info, err := Load(save(t, f, config), said)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(back.Theta, m.Theta) || !slices.Equal(back.Running, m.Running) {
					t.Error("other numbers came back")
				}
				if got, want := back.Spec.Metadata(), m.Spec.Metadata(); len(got) != len(want) {
					t.Errorf("came back as %v, was %v", got, want)
				} else {
					for k, v := range want {
						if got[k] != v {
							t.Errorf("%s came back as %s, was %s", k, got[k], v)
						}
					}
				}
				if bare != (info.Prefix == "module.") {
					t.Errorf("prefix %q", info.Prefix)
				}
			}
		})
	}
}

// Names as the libraries have them, by hand.
func TestNames(t *testing.T) {
	for _, c := range []struct{ library, arch, ours, theirs string }{
		{"pytorch-cifar", "resnet18", "layer2.0.downsample.1.running_var", "layer2.0.shortcut.1.running_var"},
		{"pytorch-cifar", "resnet18", "fc.weight", "linear.weight"},
		{"timm", "mobilenet_v2", "features.0.0.weight", "conv_stem.weight"},
		{"timm", "mobilenet_v2", "features.1.conv.0.1.weight", "blocks.0.0.bn1.weight"},
		{"timm", "mobilenet_v2", "features.1.conv.1.weight", "blocks.0.0.conv_pw.weight"},
		{"timm", "mobilenet_v2", "features.4.conv.1.0.weight", "blocks.2.0.conv_dw.weight"},
		{"timm", "mobilenet_v2", "features.17.conv.3.bias", "blocks.6.0.bn3.bias"},
		{"timm", "mobilenet_v2", "features.18.1.weight", "bn2.weight"},
		{"timm", "mobilenet_v2", "classifier.1.bias", "classifier.bias"},
		{"transformers", "resnet18", "bn1.weight", "resnet.embedder.embedder.normalization.weight"},
		{"transformers", "resnet18", "layer1.1.conv2.weight", "resnet.encoder.stages.0.layers.1.layer.1.convolution.weight"},
		{"transformers", "resnet18", "layer4.0.downsample.0.weight", "resnet.encoder.stages.3.layers.0.shortcut.convolution.weight"},
		{"transformers", "resnet18", "fc.bias", "classifier.1.bias"},
		{"transformers", "mobilenet_v2", "features.0.1.bias", "mobilenet_v2.conv_stem.first_conv.normalization.bias"},
		{"transformers", "mobilenet_v2", "features.1.conv.2.bias", "mobilenet_v2.conv_stem.reduce_1x1.normalization.bias"},
		{"transformers", "mobilenet_v2", "features.2.conv.0.0.weight", "mobilenet_v2.layer.0.expand_1x1.convolution.weight"},
		{"transformers", "mobilenet_v2", "features.18.0.weight", "mobilenet_v2.conv_1x1.convolution.weight"},
	} {
		l, err := lookup(c.library)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := l.tensor(spec(c.arch, nn.StemImageNet, true, ""), nn.Param{Name: c.ours}); got != c.theirs {
			t.Errorf("%s: %s is %s, want %s", c.library, c.ours, got, c.theirs)
		}
	}
}

// Another epsilon of batch norm is moved into the variances.
func TestEpsilon(t *testing.T) {
	m := model(t, spec("mobilenet_v2", nn.StemImageNet, true, ""))
	f, err := File(m, "transformers")
	if err != nil {
		t.Fatal(err)
	}
	back, _, err := Load(save(t, f, strings.Replace(mobileConfig, "1e-5", "1e-3", 1)), Said{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Buffers() {
		want := float32(0)
		if strings.HasSuffix(p.Name, "_var") {
			want = 1e-3 - 1e-5
		}
		if d := back.Running[p.Off] - m.Running[p.Off] - want; d > 1e-7 || d < -1e-7 {
			t.Fatalf("%s moved by %g, want %g", p.Name, back.Running[p.Off]-m.Running[p.Off], want)
		}
	}
}

func TestRefused(t *testing.T) {
	resnet := spec("resnet18", nn.StemCIFAR, true, "")
	for name, c := range map[string]struct {
		spec   nn.Spec
		to     string
		change func(*safetensors.File)
		said   Said
		config string
		want   string
	}{
		"a missing tensor": {resnet, "torchvision", func(f *safetensors.File) { f.Tensors = f.Tensors[1:] }, Said{}, "", `"conv1.weight" is missing`},
		"a tensor too many": {resnet, "pytorch-cifar", func(f *safetensors.File) {
			f.Tensors = append(f.Tensors, safetensors.FromFloat32("aux.weight", []float32{1}, 1))
		}, Said{}, "", `"aux.weight" belongs to no layer`},
		"a tensor of no shape": {resnet, "torchvision", func(f *safetensors.File) { f.Tensors[1].Shape = []int{2, 4} }, Said{}, "", `"bn1.weight" has shape [2 4]`},
		"another width":        {resnet, "torchvision", func(f *safetensors.File) { f.Meta["width"] = "16" }, Said{}, "", "width is 16 by the file's metadata, and 8 by its tensors"},
		"another architecture": {resnet, "torchvision", func(f *safetensors.File) {}, Said{Arch: "vgg16"}, "", "arch is resnet18 by the file's metadata, and vgg16 by the flags"},
		"an unknown network":   {resnet, "torchvision", func(f *safetensors.File) { f.Meta = nil }, Said{Arch: "alexnet"}, "", `unknown architecture "alexnet"`},
		"no known names":       {resnet, "torchvision", func(f *safetensors.File) { f.Meta, f.Tensors = nil, f.Tensors[:1]; f.Tensors[0].Name = "what" }, Said{}, "", "no tensors of a network"},
		"another stem":         {resnet, "torchvision", func(f *safetensors.File) { delete(f.Meta, "stem") }, Said{Stem: "imagenet"}, "", "stem is imagenet by the flags, and cifar by its tensors"},
		"nothing but weights":  {resnet, "torchvision", func(f *safetensors.File) { f.Meta = nil }, Said{}, "", "give --input, --mean, --std"},
		"an open stem":         {spec("mobilenet_v2", nn.StemImageNet, true, ""), "torchvision", func(f *safetensors.File) { delete(f.Meta, "stem") }, Said{}, "", "give --stem"},
		"grey images":          {resnet, "torchvision", func(f *safetensors.File) { f.Meta = nil }, Said{C: 1, H: 32, W: 32, Mean: []float64{0}, Std: []float64{1}}, "", "has weights for 3"},
		"no config":            {spec("mobilenet_v2", nn.StemImageNet, true, ""), "transformers", func(f *safetensors.File) {}, Said{}, "", "config.json"},
		"TensorFlow's padding": {spec("mobilenet_v2", nn.StemImageNet, true, ""), "transformers", func(f *safetensors.File) {}, Said{}, `{}`, "tf_padding"},
		"another activation":   {spec("resnet18", nn.StemImageNet, true, ""), "transformers", func(f *safetensors.File) {}, Said{}, `{"hidden_act": "gelu"}`, "gelu"},
		"integers":             {resnet, "torchvision", func(f *safetensors.File) { f.Tensors[1] = safetensors.FromInt64("bn1.weight", make([]int64, 8), 8) }, Said{}, "", "bn1.weight"},
		"pytorch-cifar's MobileNetV2": {resnet, "pytorch-cifar", func(f *safetensors.File) {
			f.Meta = nil
			for i := range f.Tensors {
				f.Tensors[i].Name = strings.Replace(f.Tensors[i].Name, "layer1.", "layers.", 1)
			}
		}, Said{}, "", "another network"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := File(model(t, c.spec), c.to)
			if err != nil {
				t.Fatal(err)
			}
			c.change(f)
			_, _, err = Load(save(t, f, c.config), c.said)
			if err == nil || !strings.Contains(err.Error(), c.want) || !usage.Is(err) {
				t.Errorf("got error %v; want a usage error with %q", err, c.want)
			}
		})
	}
	for library, s := range map[string]nn.Spec{
		"timm":          spec("vgg16", nn.StemCIFAR, true, nn.HeadLinear),
		"transformers":  spec("vgg16", nn.StemImageNet, true, nn.HeadMLP),
		"pytorch-cifar": spec("mobilenet_v2", nn.StemCIFAR, true, ""),
		"keras":         resnet,
	} {
		if _, err := File(model(t, s), library); !usage.Is(err) {
			t.Errorf("%s for %s: %v", s.Arch, library, err)
		}
	}
}
