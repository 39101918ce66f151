package conformal

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Builder makes a score from the parameters of a variant, or says in one sentence what is wrong
// with them.
type Builder func(Variant) (Score, error)

var registry = struct {
	sync.RWMutex
	m map[string]Builder
}{m: map[string]Builder{
	"hps":  func(Variant) (Score, error) { return HPS{}, nil },
	"aps":  func(Variant) (Score, error) { return APS{}, nil },
	"raps": func(v Variant) (Score, error) { return RAPS{Lambda: v.Lambda, KReg: v.KReg}, nil },

	"saps":   func(v Variant) (Score, error) { return SAPS{Lambda: v.Lambda}, nil },
	"margin": func(Variant) (Score, error) { return Margin{}, nil },
}}

// Register adds a score under a name; it is meant for init functions. A name that is taken
// panics, since two scores of one name cannot both be recorded.
func Register(name string, b Builder) {
	registry.Lock()
	defer registry.Unlock()
	if _, taken := registry.m[name]; taken || name == "" || b == nil {
		panic(fmt.Sprintf("conformal: score %q is registered twice, has no name or no builder", name))
	}
	registry.m[name] = b
}

// Names lists the registered scores in alphabetical order.
func Names() []string {
	registry.RLock()
	defer registry.RUnlock()
	return slices.Sorted(maps.Keys(registry.m))
}

// Score returns the score the variant names. An unknown name lists the known ones.
func (v Variant) Score() (Score, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	registry.RLock()
	b, ok := registry.m[v.Name]
	registry.RUnlock()
	if !ok {
		return nil, fmt.Errorf("unknown score %q: known are %s", clip(v.Name), strings.Join(Names(), ", "))
	}
	return b(v)
}
