package checkpoint

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/usage"
)

// A library is a table of names: what it calls the modules of a network of gocp's, whose names are
// torchvision's.
type library struct {
	name string
	// has says why the library has no such network; nil: it has.
	has func(nn.Spec) error
	// module renames a module, such as layer1.0.conv1.
	module func(s nn.Spec, module string) string
	// shape is that of a tensor, if it is not torchvision's; nil: all are.
	shape func(s nn.Spec, tensor string, torch []int) []int
	// settings refuses a configuration with which the same tensors are another network; nil: it has none.
	settings func(s nn.Spec, config []byte) (settings, error)
}

// settings are what of another library's configuration changes numbers.
type settings struct {
	epsilon float64 // of batch norm; 0: as here
}

// libraries, the more usual one first where names are alike.
var libraries = []library{torchvision, pytorchCIFAR, timm, transformers}

// Libraries lists the names of the libraries.
func Libraries() []string {
	var names []string
	for _, l := range libraries {
		names = append(names, l.name)
	}
	return names
}

func lookup(name string) (library, error) {
	i := slices.IndexFunc(libraries, func(l library) bool { return l.name == name })
	if i < 0 {
		return library{}, usage.Errorf("unknown library %q (known: %s)", name, strings.Join(Libraries(), ", "))
	}
	return libraries[i], nil
}

// tensor is the library's name and shape of a parameter or buffer.
func (l library) tensor(s nn.Spec, p nn.Param) (name string, shape []int) {
	at := strings.LastIndexByte(p.Name, '.')
	name, shape = l.module(s, p.Name[:at])+p.Name[at:], p.Torch
	if l.shape != nil {
		shape = l.shape(s, p.Name, p.Torch)
	}
	return name, shape
}

func lacks(library string, s nn.Spec) error {
	what := s.Arch
	if s.Head != "" {
		what += " with head " + s.Head
	}
	return fmt.Errorf("%s has no %s with stem %s", library, what, s.Stem)
}

func resnet(s nn.Spec) bool    { return strings.HasPrefix(s.Arch, "resnet") }
func vgg(s nn.Spec) bool       { return strings.HasPrefix(s.Arch, "vgg") }
func mobilenet(s nn.Spec) bool { return s.Arch == "mobilenet_v2" }

// A mobileModule is a module of MobileNetV2: block 0 is the stem, 1 to 17 the blocks, 18 the last
// convolution; the classifier is −1.
type mobileModule struct {
	block int
	role  string // expand, depthwise or project, of a block
	norm  bool
}

// mobile parses torchvision's name.
func mobile(module string) mobileModule {
	parts := strings.Split(module, ".")
	if parts[0] != "features" {
		return mobileModule{block: -1}
	}
	m := mobileModule{}
	m.block, _ = strconv.Atoi(parts[1])
	last := parts[len(parts)-1]
	if len(parts) == 3 { // features.0.1
		m.norm = last == "1"
		return m
	}
	// The first block has no expansion: its parts begin with the depthwise convolution.
	roles := []string{"expand", "depthwise", "project", "project"}
	if m.block == 1 {
		roles = roles[1:]
	}
	part, _ := strconv.Atoi(parts[3])
	m.role = roles[part]
	if len(parts) == 5 {
		m.norm = last == "1"
	} else {
		m.norm = part > 0 && roles[part-1] == "project"
	}
	return m
}
