package attack

import (
	"fmt"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// A Surrogate is a model that the adversary trained, with the clean images it calibrates it on.
type Surrogate struct {
	Name        string
	Model       *nn.Model
	Calibration Images
	Train       train.Config // how it trains on between rounds of turning labels
}

// A Target is an image with what is wanted of its prediction set.
type Target struct {
	Image     []uint8
	Aim       Aim
	Bystander bool // not attacked: its set is to stay as it is
}

// A Problem is one poisoning task.
type Problem struct {
	Surrogates []Surrogate
	Score      conformal.Variant
	Level      conformal.Level
	Targets    []Target
	Pool       Images // the adversary's training images: poisons are made from some of them
	Classes    []int  // the classes they come from; Count is split evenly among these
	Count      int    // P
	// Room is how many images of each class can have their label turned, which Classes do not bound; nil: all.
	Room      []int
	Precision kernel.Precision
	Seed      uint64

	// Training is the network and the training of surrogate i, for methods that train surrogates of their own; its seed is
	// theirs.
	Training func(i int) (nn.Spec, train.Config)

	// Memory changes no bit of the result.
	Memory Memory
}

func (p *Problem) check(cfg Config) error {
	if err := p.Pool.check("pool"); err != nil {
		return err
	}
	switch {
	case len(p.Surrogates) == 0:
		return fmt.Errorf("attack: no surrogates")
	case len(p.Targets) == 0:
		return fmt.Errorf("attack: no targets")
	case p.Room != nil && len(p.Room) != p.Surrogates[0].Model.Classes:
		return fmt.Errorf("attack: room in %d classes; %s has %d", len(p.Room), p.Surrogates[0].Name, p.Surrogates[0].Model.Classes)
	case p.Count < 1:
		return usage.Errorf("attack: a budget of %d poisons", p.Count)
	case !cfg.TurnsLabels() && (len(p.Classes) == 0 || p.Count < len(p.Classes)):
		return usage.Errorf("attack: a budget of %d poisons for %d classes of bases; there must be at least one for each", p.Count, len(p.Classes))
	}
	for _, f := range p.Surrogates {
		m := f.Model
		if m.H != p.Pool.H || m.W != p.Pool.W || m.C != p.Pool.C {
			return fmt.Errorf("attack: %s reads images of %dx%dx%d, the pool has %dx%dx%d", f.Name, m.H, m.W, m.C, p.Pool.H, p.Pool.W, p.Pool.C)
		}
		if err := f.Calibration.check("calibration of " + f.Name); err != nil {
			return err
		}
		if f.Calibration.Size() != p.Pool.Size() {
			return fmt.Errorf("attack: %s calibrates on images of %d bytes, the pool has %d", f.Name, f.Calibration.Size(), p.Pool.Size())
		}
		if min := p.Level.MinCalibration(); f.Calibration.Len() < min {
			return usage.Errorf("attack: %s has %d calibration images; miscoverage %s needs at least %d", f.Name, f.Calibration.Len(), p.Level, min)
		}
		for i, t := range p.Targets {
			if len(t.Image) != p.Pool.Size() {
				return fmt.Errorf("attack: target %d has %d bytes, the pool's images have %d", i, len(t.Image), p.Pool.Size())
			}
			for _, y := range append(t.Aim.Attacked(), t.Aim.Keep, t.Aim.Inside) {
				if y < -1 || y >= m.Classes {
					return usage.Errorf("attack: target %d aims at label %d; %s has %d classes", i, y, f.Name, m.Classes)
				}
			}
		}
		for _, y := range p.Classes {
			if y < 0 || y >= m.Classes {
				return usage.Errorf("attack: poisons of class %d; %s has %d classes", y, f.Name, m.Classes)
			}
		}
	}
	return nil
}

// A Solver has a problem on a device: the surrogates, and on each of them ∇ℓ3, which does not
// depend on the poisons. Everything is freed with the stream.
type Solver struct {
	s      *device.Stream
	p      *Problem
	cfg    Config
	fields []*field
	chunk  int // how many poisons pass through a network together at most
}

// A field is one surrogate: its parameters, and the direction in which the adversary wants them
// to move (against grad).
type field struct {
	Surrogate
	theta   tensor.Tensor // P: θ*, T: the direction of dual passes
	running device.Ptr
	loss    *loss
	grad    tensor.Tensor // ∇ℓ3, of second order with one solve (C + λI)⁻¹∇ℓ3
	l2, l3  float64
	solve   *Solve // of second order
	// Of second order with a solve in each step: x ← (C + λI)⁻¹b, and two vectors.
	inverse func(b, x device.Ptr) error
	w, y    device.Ptr
}

// NewSolver puts p on s and computes ∇ℓ3 on every surrogate, and of second order what replaces it. A gradient that is zero or not
// finite is an error: there would be nothing to align with.
func NewSolver(s *device.Stream, p *Problem, cfg Config) (*Solver, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	defer s.Range("surrogates").End()
	if err := p.check(cfg); err != nil {
		return nil, err
	}
	v := &Solver{s: s, p: p, cfg: cfg, chunk: cfg.batch(p.networks()...)}
	for _, sur := range p.Surrogates {
		f, err := newField(s, p, cfg, sur)
		if err != nil {
			return nil, fmt.Errorf("attack: surrogate %s: %w", sur.Name, err)
		}
		if cfg.Order == 2 {
			if err := v.second(f); err != nil {
				return nil, fmt.Errorf("attack: surrogate %s: second order: %w", sur.Name, err)
			}
		}
		v.fields = append(v.fields, f)
	}
	return v, nil
}

func newField(s *device.Stream, p *Problem, cfg Config, sur Surrogate) (*field, error) {
	n := len(sur.Model.Theta)
	f := &field{Surrogate: sur, theta: tensor.NewDual(s, n), grad: tensor.New(s, n)}
	device.Upload(s, f.theta.P, sur.Model.Theta)
	if r := sur.Model.Running; len(r) > 0 {
		f.running = s.Alloc(4 * len(r))
		device.Upload(s, f.running, r)
	}
	m, err := cfg.method()
	if err != nil {
		return nil, err
	}
	if f.loss, err = m.loss(s, p, cfg, sur, f.running); err != nil {
		return nil, err
	}
	defer f.loss.open()()
	f.l2, f.l3, err = f.loss.worst(f.theta.P, f.grad)
	return f, err
}

// share splits n as evenly as it goes into k parts, the first ones larger.
func share(n, k int) []int {
	out := make([]int, k)
	for i := range out {
		out[i] = n / k
		if i < n%k {
			out[i]++
		}
	}
	return out
}

// networks are those that poisons are crafted on.
func (p *Problem) networks() []nn.Spec {
	var specs []nn.Spec
	for _, sur := range p.Surrogates {
		specs = append(specs, sur.Model.Spec)
	}
	return specs
}

// members lists the pool's images of class y.
func (p *Problem) members(y int) []int {
	var m []int
	for i, l := range p.Pool.Labels {
		if int(l) == y {
			m = append(m, i)
		}
	}
	return m
}

// Bases chooses the images that become poisons: for each class its part of the budget.
func (v *Solver) Bases() ([]int, error) {
	defer v.s.Range("bases").End()
	var all []int
	for i, n := range share(v.p.Count, len(v.p.Classes)) {
		y := v.p.Classes[i]
		m := v.p.members(y)
		if len(m) < n {
			return nil, usage.Errorf("attack: the budget wants %d poisons of class %d, the adversary has %d images of it; lower the budget", n, y, len(m))
		}
		rank, err := v.rank(y, m)
		if err != nil {
			return nil, err
		}
		pick := rank[:n]
		if v.cfg.Diverse {
			if pick, err = v.diverse(rank, n); err != nil {
				return nil, err
			}
		}
		all = append(all, pick...)
	}
	return all, nil
}
