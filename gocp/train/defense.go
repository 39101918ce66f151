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

	Copies   int      `json:"copies,omitempty"`   // maxup: m, of each sample; 0: 4
	Vary     []string `json:"vary,omitempty"`     // maxup, augment: how images are varied, of Variations(); nil: the method's own
	Radius   float64  `json:"radius,omitempty"`   // sam: ρ, of the ball; 0: 0.05
	Clip     float64  `json:"clip,omitempty"`     // dp-sgd: C, the largest norm of a sample's gradient; 0: 1
	Noise    float64  `json:"noise,omitempty"`    // dp-sgd: σ, its deviation as a multiple of C; 0: 1, negative: none
	Delta    float64  `json:"delta,omitempty"`    // dp-sgd: δ at which ε is told; 0: 1e-5
	Ball255  float64  `json:"ball_255,omitempty"` // adversarial-poisoning: largest change of a pixel, in 255ths; 0: 16
	Steps    int      `json:"steps,omitempty"`    // adversarial-poisoning: of signed Adam; 0: 5
	Fraction float64  `json:"fraction,omitempty"` // epic: medoids, as a share of each class; 0: 0.1
	From     int      `json:"from,omitempty"`     // epic: the epochs before samples are dropped; 0: a quarter of all
	Every    int      `json:"every,omitempty"`    // epic: the epochs from one time to the next; 0: 1
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
var methods = []method{maxUp, poisoning, epic, private, sharpness, augment}

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
	if d.Vary == nil {
		d.Vary = slices.Clone(m.defaults.Vary)
	}
	for _, f := range []struct{ v, by *float64 }{{&d.Radius, &m.defaults.Radius}, {&d.Clip, &m.defaults.Clip}, {&d.Noise, &m.defaults.Noise}, {&d.Delta, &m.defaults.Delta}, {&d.Ball255, &m.defaults.Ball255}, {&d.Fraction, &m.defaults.Fraction}} {
		if *f.v == 0 {
			*f.v = *f.by
		}
	}
	for _, f := range []struct{ v, by *int }{{&d.Copies, &m.defaults.Copies}, {&d.Steps, &m.defaults.Steps}, {&d.Every, &m.defaults.Every}} {
		if *f.v == 0 {
			*f.v = *f.by
		}
	}
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
	for _, f := range []struct {
		name string
		v    float64
	}{{"radius", d.Radius}, {"clip", d.Clip}, {"noise", d.sigma()}, {"delta", d.Delta}, {"ball", d.Ball255}, {"steps", float64(d.Steps)}, {"fraction", d.Fraction}, {"from", float64(d.From)}, {"every", float64(d.Every)}} {
		if f.v != 0 || f.name == "noise" && d.Noise < 0 {
			add("%s=%g", f.name, f.v)
		}
	}
	return out
}

// room is the most samples of a step of a run with so many.
func (d Defense) room(batch, n int) int {
	if d.private() {
		return privateRoom(batch, n)
	}
	return batch
}

// persample reports whether steps ask for the gradients of single samples.
func (d Defense) persample() bool { return d.private() }

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
