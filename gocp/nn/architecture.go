package nn

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/gocp/gocp/gocp/usage"
)

// An Architecture is a family of networks: what of a Spec it understands, and the nodes.
type Architecture struct {
	Name    string
	Width   int      // the published one, or the usual one
	Stems   []string // the first is the default
	Heads   []string // likewise; nil: it has only one
	Norm    Norm
	Dropout func(Spec) float64 // the published rate, 0 where a head has no dropout; nil: it never has one
	Nodes   func(Spec) []Node
}

// A Norm says whether an architecture can do with and without batch norm.
type Norm int

// The Norms.
const (
	NormOptional Norm = iota
	NormAlways
	NormNever
)

var architectures = struct {
	sync.RWMutex
	all []Architecture
}{all: []Architecture{
	convnet,
	resnet("resnet18", [4]int{2, 2, 2, 2}),
	resnet("resnet34", [4]int{3, 4, 6, 3}),
	vgg("vgg11", [5]int{1, 1, 2, 2, 2}),
	vgg("vgg13", [5]int{2, 2, 2, 2, 2}),
	vgg("vgg16", [5]int{2, 2, 3, 3, 3}),
	vgg("vgg19", [5]int{2, 2, 4, 4, 4}),
	mobilenetV2,
}}

// Register adds an architecture; it is meant for init functions. A name that is taken panics, since two
// networks of one name cannot both be recorded.
func Register(a Architecture) {
	architectures.Lock()
	defer architectures.Unlock()
	taken := slices.ContainsFunc(architectures.all, func(b Architecture) bool { return a.Name == b.Name })
	if taken || a.Name == "" || a.Nodes == nil || len(a.Stems) == 0 {
		panic(fmt.Sprintf("nn: architecture %q is registered twice, has no name, no stem or no nodes", a.Name))
	}
	architectures.all = append(architectures.all, a)
}

// Architectures lists the registered names.
func Architectures() []string {
	architectures.RLock()
	defer architectures.RUnlock()
	var names []string
	for _, a := range architectures.all {
		names = append(names, a.Name)
	}
	return names
}

// Lookup returns an architecture. An unknown name is a usage error, which lists the known ones.
func Lookup(name string) (Architecture, error) {
	architectures.RLock()
	defer architectures.RUnlock()
	for _, a := range architectures.all {
		if a.Name == name {
			return a, nil
		}
	}
	var names []string
	for _, a := range architectures.all {
		names = append(names, a.Name)
	}
	return Architecture{}, usage.Errorf("model: unknown architecture %q (known: %s)", name, strings.Join(names, ", "))
}
