package attack

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// Ways to align the poisons' gradient with the adversary's (docs/math.md §6).
const (
	AlignSum    = "sum"    // −Ψ = Σ∇l(Z̃) − Σ∇l(Z)
	AlignPoison = "poison" // −Ψ = Σ∇l(Z̃), the constant clean sum dropped (gradient matching)
	AlignBatch  = "batch"  // mean of the cosines of mini-batches of poisons
)

// Forms of ℓ2.
const (
	LossPairwise     = "pairwise"     // hinges against every calibration score on the right side of the rank
	LossSoftQuantile = "softquantile" // hinge against a smooth threshold
)

// What a gradient of ℓ2 does with the calibration scores.
const (
	ThresholdFixed  = "fixed"  // holds them still: the targets' scores move
	ThresholdMoving = "moving" // goes through them too: the threshold moves as well
)

// Ways to choose the images that become poisons.
const (
	BasesNearest   = "nearest"   // nearest to the targets in the surrogates' penultimate features
	BasesRandom    = "random"    // drawn from the class
	BasesGradNorm  = "gradnorm"  // largest per-sample gradient norm, mean over surrogates
	BasesAlignment = "alignment" // own gradient best aligned with ∇ℓ3, mean over surrogates
)

// Choices lists them.
func Choices() []string {
	return []string{BasesNearest, BasesRandom, BasesGradNorm, BasesAlignment}
}

// Starts of δ.
const (
	StartUniform = "uniform" // U[−ϵ, ϵ]
	StartNormal  = "normal"  // randn·ϵ, clamped
)

// Config is the crafting loop. Its zero value is the recipe that the demo runs.
type Config struct {
	Method     string        `json:"method"`              // one of MethodNames (default alignment)
	Poison     string        `json:"poison"`              // what poisons change: images (default), labels, both
	Rounds     int           `json:"rounds,omitempty"`    // of turning labels: parts of the budget, between which the surrogates move (default 1)
	Epsilon255 float64       `json:"epsilon_255"`         // ball radius ϵ in 255ths (default 16)
	Bases      string        `json:"bases"`               // nearest (default), random, gradnorm, alignment
	Diverse    bool          `json:"diverse,omitempty"`   // of the best of them, take those that lie apart
	Align      string        `json:"align"`               // sum (default), poison, batch
	Batch      int           `json:"batch"`               // mini-batch of align=batch (default 128)
	Steps      int           `json:"steps"`               // M (default 40)
	Restarts   int           `json:"restarts"`            // R, the best Φ is kept (default 1)
	StepSize   float64       `json:"step_size"`           // of signed Adam, as a share of ϵ (default 0.1)
	Decay      float64       `json:"decay"`               // factor at 3/8, 5/8 and 7/8 of the steps (default 0.3)
	Start      string        `json:"start"`               // uniform (default), normal
	Loss       string        `json:"loss"`                // pairwise (default), softquantile
	Threshold  string        `json:"threshold"`           // fixed (default), moving
	Margin     float64       `json:"margin"`              // m of the hinges (default 0.3, negative: none)
	Window     int           `json:"window,omitempty"`    // pairwise: only the w calibration scores nearest to the rank; 0: all
	Bandwidth  float64       `json:"bandwidth,omitempty"` // softquantile: h as a share of the ranks (default 0.01)
	KeepBeta   float64       `json:"keep_beta"`           // clamp β of the keep-prediction term (default 2)
	Plain      bool          `json:"plain,omitempty"`     // minimise ℓ2 itself, not its worst case in a ball
	SAMRho     float64       `json:"sam_rho"`             // radius ρ of the ball (default 0.05)
	SAMP       result.Number `json:"sam_p"`               // p of its norm, > 1, may be +Inf (default 2)
	SAMSteps   int           `json:"sam_steps"`           // ascent steps (default 1)
	Order      int           `json:"order"`               // 1 (default): along ∇ℓ3; 2: along (C + λI)⁻¹∇ℓ3
	Second     SecondOrder   `json:"second_order,omitzero"`
	Shift      int           `json:"shift,omitempty"` // differentiable augmentation: largest shift in pixels (negative: none)
	Pad        string        `json:"pad,omitempty"`   // what a shift shows outside the image: zero (default), reflect
	Flip       bool          `json:"flip,omitempty"`  // and mirror images; all three should match the victim's training

	Meta MetaPoison `json:"metapoison,omitzero"` // of the method metapoison

	// AdversarialLabel is how witchesbrew chooses what a target is to be taken for (default plausible).
	AdversarialLabel string `json:"adversarial_label,omitempty"`
}

// decayAt are the fractions of the steps at which the step size decays.
var decayAt = [...]float64{3. / 8, 5. / 8, 7. / 8}

func oneOf(what, got string, known ...string) error {
	if slices.Contains(known, got) {
		return nil
	}
	return usage.Errorf("crafting: unknown %s %q (known: %s)", what, got, strings.Join(known, ", "))
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// WithDefaults returns c with every field that was left zero set to its default.
func (c Config) WithDefaults() Config {
	orDefault(&c.Method, defaultMethod)
	orDefault(&c.Poison, PoisonImages)
	m, err := c.method()
	if err != nil {
		m = alignment // Validate says it
	}
	align, steps := c.Align, c.Steps
	m.defaults(&c)
	if c.TurnsLabels() {
		orDefault(&c.Rounds, 1)
	} else {
		orDefault(&c.Bases, BasesNearest)
	}
	if c.MovesPixels() {
		orDefault(&c.Epsilon255, 16)
		orDefault(&c.Batch, 128)
		orDefault(&c.Restarts, 1)
		orDefault(&c.StepSize, 0.1)
		orDefault(&c.Decay, 0.3)
		orDefault(&c.Start, StartUniform)
	} else {
		c.Align, c.Steps = align, steps
		c.Shift, c.Pad, c.Flip = 0, "", false // one setting says them for training and for crafting, which there is none of
	}
	orDefault(&c.Threshold, ThresholdFixed)
	orDefault(&c.Margin, 0.3)
	orDefault(&c.KeepBeta, 2)
	if c.Shift > 0 {
		orDefault(&c.Pad, train.PadZero)
	}
	if orDefault(&c.Order, 1); c.Order == 2 {
		c.Second = c.Second.withDefaults()
	}
	if c.Loss == LossSoftQuantile {
		orDefault(&c.Bandwidth, 0.01)
	}
	if !c.Plain {
		orDefault(&c.SAMRho, 0.05)
		orDefault(&c.SAMP, 2)
		orDefault(&c.SAMSteps, 1)
	}
	return c
}

// Validate reports the first thing that is wrong with c (after WithDefaults), as a usage error.
func (c Config) Validate() error {
	m, err := c.method()
	if err != nil {
		return err
	}
	for _, e := range []error{
		oneOf("kind of poison", c.Poison, PoisonKinds()...),
		c.validateLabels(),
		oneOf("threshold", c.Threshold, ThresholdFixed, ThresholdMoving),
		oneOf("padding", cmp.Or(c.Pad, train.PadZero), train.Pads()...),
	} {
		if e != nil {
			return e
		}
	}
	if err := c.validatePixels(); err != nil {
		return err
	}
	if bad(c.Margin) || bad(c.KeepBeta) || bad(c.Bandwidth) || c.Bandwidth < 0 || c.Window < 0 {
		return usage.Errorf("crafting: margin %g, clamp %g, bandwidth %g and window %d; all must be finite, the last two not negative", c.Margin, c.KeepBeta, c.Bandwidth, c.Window)
	}
	if c.Order != 1 && c.Order != 2 {
		return usage.Errorf("crafting: order %d; it is 1 or 2", c.Order)
	}
	if c.Method != MethodMetaPoison && c.Meta != (MetaPoison{}) {
		return usage.Errorf(doesNothingWithout, "the ensemble of "+MethodMetaPoison, c.Method)
	}
	if err := m.validate(c); err != nil {
		return err
	}
	if c.Order == 1 && c.Second != (SecondOrder{}) {
		return usage.Errorf("crafting: curvature, damping, solver and what else is of second order do nothing here: they go with order 2")
	}
	if c.Order == 2 {
		if err := c.Second.validate(); err != nil {
			return err
		}
	}
	if !c.Plain {
		if p := float64(c.SAMP); bad(c.SAMRho) || c.SAMRho <= 0 || math.IsNaN(p) || p <= 1 || c.SAMSteps < 1 {
			return usage.Errorf("crafting: the ball has radius %g, norm p = %g and %d steps; the radius must be positive, p above 1, the steps at least 1", c.SAMRho, p, c.SAMSteps)
		}
	}
	return nil
}

func bad(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

// validatePixels is Validate of what moves pixels.
func (c Config) validatePixels() error {
	if !c.MovesPixels() {
		return nil
	}
	for _, e := range []error{
		oneOf("alignment", cmp.Or(c.Align, AlignSum), AlignSum, AlignPoison, AlignBatch),
		oneOf("start", c.Start, StartUniform, StartNormal),
	} {
		if e != nil {
			return e
		}
	}
	switch {
	case bad(c.Epsilon255) || c.Epsilon255 < 1 || c.Epsilon255 > 255:
		return usage.Errorf("crafting: epsilon is %g/255; it must be 1/255 to 255/255, so that the ball holds a step of the 8-bit grid", c.Epsilon255)
	case c.Steps < 1 || c.Restarts < 1 || c.Batch < 1:
		return usage.Errorf("crafting: %d steps, %d restarts and batch %d; each must be at least 1", c.Steps, c.Restarts, c.Batch)
	case bad(c.StepSize) || c.StepSize <= 0 || bad(c.Decay) || c.Decay <= 0 || c.Decay > 1:
		return usage.Errorf("crafting: step size %g and decay %g; the step must be positive and the decay in (0, 1]", c.StepSize, c.Decay)
	}
	return nil
}

// validateLabels is Validate of what turns labels, and of what does nothing beside it.
func (c Config) validateLabels() error {
	if !c.TurnsLabels() {
		if c.Rounds != 0 {
			return usage.Errorf("crafting: rounds do nothing here: they go with poison labels or both")
		}
		return oneOf("choice of bases", c.Bases, Choices()...)
	}
	switch {
	case c.Method != MethodAlignment && c.Method != MethodWitchesBrew:
		return usage.Errorf("crafting: poison %s goes with the methods %s and %s: labels are turned along the gradient of a loss", c.Poison, MethodAlignment, MethodWitchesBrew)
	case c.Rounds < 1:
		return usage.Errorf("crafting: %d rounds; there must be at least 1", c.Rounds)
	case c.Bases != "" && c.Bases != BasesNearest || c.Diverse:
		return usage.Errorf("crafting: a choice of bases other than %s does nothing here: with poison %s images are chosen by what their turned labels gain", BasesNearest, c.Poison)
	case c.Order == 2 && c.Second.Mode == SecondExact:
		return usage.Errorf("crafting: labels are chosen along one solution of second order; with poison %s say once and not exact", c.Poison)
	}
	if c.MovesPixels() {
		return nil
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"epsilon", c.Epsilon255 != 0}, {"align", c.Align != ""}, {"batch", c.Batch != 0}, {"steps", c.Steps != 0}, {"restarts", c.Restarts != 0},
		{"step size", c.StepSize != 0}, {"decay", c.Decay != 0}, {"start", c.Start != ""}} {
		if f.set {
			return usage.Errorf("crafting: %s does nothing here: it is of pixels, and poison labels leaves them as they are", f.name)
		}
	}
	return nil
}

// batch is how many poisons pass through these networks together at most. It says in which order sums are taken, so
// it depends on nothing else: not on the device, not on its memory.
func (c Config) batch(networks ...nn.Spec) int {
	if c.Align == AlignBatch {
		return c.Batch
	}
	batch := craftBatch
	for _, spec := range networks {
		floats := 0
		for _, conv := range spec.Convs(1, kernel.F32) {
			floats += conv.Out()
		}
		for batch > 1 && batch*floats > craftFloats {
			batch /= 2
		}
	}
	return batch
}

// Chunk is how many of n poisons pass through these networks together.
func (c Config) Chunk(n int, networks ...nn.Spec) int {
	batch := c.batch(networks...)
	return share(n, (n+batch-1)/batch)[0]
}

// Work is how many steps the crafting of one set of poisons tells of: those of pixels and the rounds of labels.
// Each surrogate of metapoison that came to its age is one more.
func (c Config) Work() int { return (c.Steps+c.Meta.Ages)*c.Restarts + c.Rounds }

// AlongBatch is how many images of the pool pass through a network in dual numbers together, 0 if none do.
func (c Config) AlongBatch(pool int) int {
	if c.TurnsLabels() || c.Bases == BasesAlignment {
		return min(craftBatch, pool)
	}
	return 0
}

// epsilon is the radius in pixel units.
func (c Config) epsilon() float64 { return c.Epsilon255 / 255 }

// margin is m with its "none" resolved.
func (c Config) margin() float64 { return math.Max(c.Margin, 0) }

// rate is the step size at step t of c.Steps, from 0, in pixel units.
func (c Config) rate(t int) float64 {
	r := c.StepSize * c.epsilon()
	for _, at := range decayAt {
		if float64(t) >= at*float64(c.Steps) {
			r *= c.Decay
		}
	}
	return r
}
