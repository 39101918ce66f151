package train

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/usage"
)

// A Defense is a way to train by which poisons are to lose their effect. Zero fields are what its method
// takes by default; fields of other methods stay zero.
type Defense struct {
	Name string `json:"name,omitempty"` // one of Defenses(); "": none

	Copies int      `json:"copies,omitempty"` // maxup: m, of each sample; 0: 4
	Vary   []string `json:"vary,omitempty"`   // maxup, augment: how images are varied, of Variations(); nil: the method's own
	Radius float64  `json:"radius,omitempty"` // sam: ρ, of the ball; 0: 0.05
}

// A method is a defence of training.
type method struct {
	name, source string
	defaults     Defense
	check        func(d Defense) error // of its own fields
	fits         func(c Config, spec nn.Spec) error
	start        func(t *trainer) way
}

// methods lists them. A new one is a file and a line here.
var methods = []method{augment, maxUp, sharpness}

// Defenses names the known ones.
func Defenses() []string {
	names := make([]string, len(methods))
	for i, m := range methods {
		names[i] = m.name
	}
	return names
}

// DefenseSource is where a defence is from.
func DefenseSource(name string) string {
	m, _ := methodOf(name)
	return m.source
}

func methodOf(name string) (method, bool) {
	i := slices.IndexFunc(methods, func(m method) bool { return m.name == name })
	if i < 0 {
		return method{}, false
	}
	return methods[i], true
}

// WithDefaults returns d with the defaults of its method filled in.
func (d Defense) WithDefaults() Defense {
	m, ok := methodOf(d.Name)
	if !ok {
		return d
	}
	fill := func(v *float64, by float64) {
		if *v == 0 {
			*v = by
		}
	}
	if d.Copies == 0 {
		d.Copies = m.defaults.Copies
	}
	if d.Vary == nil {
		d.Vary = slices.Clone(m.defaults.Vary)
	}
	fill(&d.Radius, m.defaults.Radius)
	return d
}

// Validate reports the first thing that is wrong with d, as a usage error.
func (d Defense) Validate() error {
	if d.Name == "" {
		return nil
	}
	m, ok := methodOf(d.Name)
	if !ok {
		return usage.Errorf("train: there is no defence %q of training; there are %s", d.Name, strings.Join(Defenses(), ", "))
	}
	return m.check(d.WithDefaults())
}

// Fits reports what hinders training by c of the network spec under c's defence, as a usage error.
func (c Config) Fits(spec nn.Spec) error {
	if m, ok := methodOf(c.Defense.Name); ok && m.fits != nil {
		return m.fits(c.WithDefaults(), spec)
	}
	return nil
}

// String is d for people: its name and its numbers.
func (d Defense) String() string {
	d = d.WithDefaults()
	out := d.Name
	add := func(format string, args ...any) { out += " " + fmt.Sprintf(format, args...) }
	if d.Copies > 0 {
		add("copies=%d", d.Copies)
	}
	if len(d.Vary) > 0 {
		add("vary=%s", strings.Join(d.Vary, ","))
	}
	if d.Radius > 0 {
		add("radius=%g", d.Radius)
	}
	return out
}

// room is the most samples of a step of a run with so many.
func (d Defense) room(batch, _ int) int { return batch }

// persample reports whether steps ask for the gradients of single samples.
func (d Defense) persample() bool { return false }

// way is how t trains.
func (t *trainer) way() (way, error) {
	m, ok := methodOf(t.cfg.Defense.Name)
	if !ok {
		return plain{t}, nil
	}
	if err := t.cfg.Fits(t.spec); err != nil {
		return nil, err
	}
	return m.start(t), t.s.Err()
}

// positive refuses a number that is not above 0 and finite.
func positive(what string, v float64) error {
	if !(v > 0) || math.IsInf(v, 1) {
		return usage.Errorf("train: %s is %g; it must be a number above 0", what, v)
	}
	return nil
}
