package experiment

import (
	"cmp"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// BudgetAuto as Config.Budget lowers the budget, from the goal's default, until surrogates that
// are retrained on the poisons keep the prediction.
const BudgetAuto = "auto"

// Model is the network that a role trains. Zero fields mean the demo's network: width 16, stem
// stride, no batch norm, normalised by the data's own mean and deviation.
type Model struct {
	Arch      string  `json:"arch"`              // one of nn.Architectures; default convnet
	Width     int     `json:"width"`             // default: its architecture's
	Stem      string  `json:"stem"`              // likewise
	Head      string  `json:"head,omitempty"`    // likewise
	Dropout   float64 `json:"dropout,omitempty"` // default: its architecture's; negative: none
	BatchNorm bool    `json:"batchnorm,omitempty"`
}

// Train is how a role trains. Zero fields mean its recipe's; what they are is written in train.Config.
type Train struct {
	Recipe      string  `json:"recipe,omitempty"` // one of Recipes (default li)
	Epochs      int     `json:"epochs"`
	Batch       int     `json:"batch"`
	LR          float64 `json:"lr"` // of a recipe it may depend on the network
	Schedule    string  `json:"schedule,omitempty"`
	Milestones  []int   `json:"milestones,omitempty"`
	Gamma       float64 `json:"gamma,omitempty"`
	Warmup      int     `json:"warmup,omitempty"`
	Momentum    float64 `json:"momentum"` // negative: none
	Nesterov    *bool   `json:"nesterov,omitempty"`
	WeightDecay float64 `json:"weight_decay"`    // negative: none
	Shift       int     `json:"shift,omitempty"` // negative: none
	Pad         string  `json:"pad,omitempty"`
	Flip        *bool   `json:"flip,omitempty"`
}

// Config is an audit. Its zero value is the demo, trained for longer: overconfidence by a black-box
// adversary with 4 % of the training set, 12 targets, 2 victims each.
type Config struct {
	Seed        uint64             `json:"seed"`
	Goal        attack.GoalConfig  `json:"goal"`
	Score       conformal.Variant  `json:"score"`       // default hps
	Miscoverage string             `json:"miscoverage"` // default 0.1
	Budget      string             `json:"budget"`      // share of the training set, or auto (default 0.04; 0.01 where sets are to grow)
	Craft       attack.Config      `json:"craft"`       // bases default to random where sets are to shrink
	Conditions  []result.Condition `json:"conditions"`  // default attack, randun, randga, clean; where labels are turned attack, randlabel, clean

	Repeats int `json:"repeats"` // groups of targets, each with its own poisons (default 12; 20 where sets are to grow; 6 of unequal)
	Targets int `json:"targets"` // V, targets of one group, all of one class (default 1; 16 of unequal, of one subgroup)
	Victims int `json:"victims"` // victims of each group and condition (default 2)
	// GaussVictims is the number of victims that see Gaussian noise, the second of two noise
	// controls (default: half of Victims, rounded up).
	GaussVictims int `json:"gauss_victims"`
	Surrogates   int `json:"surrogates"` // models that choose targets (default 3, or one of each kind)
	Attackers    int `json:"attackers"`  // the first of them, which poisons are crafted on (default 2, or one of each kind)
	References   int `json:"references"` // benign models that measure the benign sets (default 3)
	Controls     int `json:"controls"`   // benign models that show the churn between training runs (default 3)

	WhiteBox  bool `json:"white_box,omitempty"` // surrogates see the victim's own training and calibration data
	TrainSize int  `json:"train_size"`          // images the victim trains on (default 4500)
	CalSize   int  `json:"cal_size"`            // clean images the victim calibrates on (default a ninth of TrainSize)
	// Candidates is how many images targets are chosen from: of the test part, then training images
	// that are left over (default 4000, or as many as there are).
	Candidates  int   `json:"candidates"`
	Victim      Model `json:"victim"`
	Surrogate   Kinds `json:"surrogate"` // default: one, as the victim's
	VictimTrain Train `json:"victim_train"`
	// SurrogateTrain is the surrogates' training (default: as the victim's).
	SurrogateTrain Train  `json:"surrogate_train"`
	Precision      string `json:"precision"` // f32 (default), bf16, tf32 (GPUs), or auto
	// VictimCommand is a program and its arguments that train the victims in gocp's place (package trainer),
	// and ReferenceCommand those that train the benign models which are compared with them (default: the
	// same). None: gocp trains Victim.
	VictimCommand    []string `json:"victim_command,omitempty"`
	ReferenceCommand []string `json:"reference_command,omitempty"`
	// Subgroups are those of the goal unequal, one of which each repeat attacks.
	Subgroups Subgroups `json:"subgroups,omitzero"`
	// Defense is what all models but the adversary's are trained under: names with commas, of filters (defense.Filters)
	// that drop training images, one after the other, and at most one of train.Defenses.
	Defense string `json:"defense,omitempty"`
	// Training is that one, with its settings.
	Training train.Defense `json:"training_defense,omitzero"`

	// Workers is how many models are trained side by side (default: one for each core). It does
	// not change the results and is no part of the run's identity.
	Workers int `json:"-"`
	// Memory is how many bytes all of them may take on a device at once (default: three quarters of what
	// is free when one begins to craft). It doesn't either.
	Memory int64 `json:"-"`
	// VictimsAtOnce is how many of those programs run side by side (default 1), VictimTimeout how long each
	// may take (default: as long as it likes). They don't either.
	VictimsAtOnce int           `json:"-"`
	VictimTimeout time.Duration `json:"-"`
}

// calShare is how many images are trained on for each that is calibrated on, unless something is said.
const calShare = 9

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// or is m with what it leaves out taken from d, if it is the same architecture.
func (m Model) or(d Model) Model {
	if orDefault(&m.Arch, d.Arch); m.Arch != d.Arch {
		return m
	}
	orDefault(&m.Width, d.Width)
	orDefault(&m.Stem, d.Stem)
	orDefault(&m.Head, d.Head)
	orDefault(&m.Dropout, d.Dropout)
	orDefault(&m.BatchNorm, d.BatchNorm)
	return m
}

func (m Model) withDefaults() Model {
	orDefault(&m.Arch, "convnet")
	s := nn.Spec{Arch: m.Arch, Width: m.Width, Stem: m.Stem, Head: m.Head, BatchNorm: m.BatchNorm}.WithDefaults()
	m.Width, m.Stem, m.Head, m.BatchNorm = s.Width, s.Stem, s.Head, s.BatchNorm
	return m
}

// WithDefaults returns c with every field that was left zero set to its default.
func (c Config) WithDefaults() Config {
	orDefault(&c.Goal.Name, "overconfidence")
	orDefault(&c.Score.Name, "hps")
	orDefault(&c.Score.U, conformal.DrawOne)
	orDefault(&c.Miscoverage, "0.1")
	if c.Budget == "" {
		c.Budget = c.defaultBudget()
	}
	if c.Craft.Bases == "" && !c.Craft.TurnsLabels() {
		c.Craft.Bases = c.defaultBases()
	}
	if len(c.Conditions) == 0 {
		c.Conditions = c.conditions()
	}
	orDefault(&c.Repeats, c.defaultRepeats())
	if c.divides() {
		c.Subgroups = c.Subgroups.withDefaults()
		orDefault(&c.Targets, 16)
	}
	orDefault(&c.Targets, 1)
	orDefault(&c.Victims, 2)
	orDefault(&c.GaussVictims, (c.Victims+1)/2)
	orDefault(&c.Surrogates, max(3, len(c.Surrogate)))
	orDefault(&c.Attackers, min(max(2, len(c.Surrogate)), c.Surrogates))
	orDefault(&c.References, 3)
	orDefault(&c.Controls, 3)
	orDefault(&c.TrainSize, 4500)
	orDefault(&c.CalSize, c.TrainSize/calShare)
	orDefault(&c.Candidates, 4000)
	orDefault(&c.Victim.Arch, "convnet")
	c.Surrogate = c.Surrogate.withDefaults(c.Victim)
	c.Victim = c.Victim.withDefaults()
	if reflect.ValueOf(c.SurrogateTrain).IsZero() {
		c.SurrogateTrain = c.VictimTrain
	}
	c.VictimTrain, c.SurrogateTrain = c.VictimTrain.withDefaults(c.Victim.Arch), c.SurrogateTrain.withDefaults(c.Surrogate.archs()...)
	// Crafting with another augmentation than the victim's is a known way to fail.
	if t := c.SurrogateTrain; c.Craft.Shift == 0 && !c.Craft.Flip && t.augments() {
		c.Craft.Shift, c.Craft.Pad, c.Craft.Flip = t.Shift, t.Pad, on(t.Flip)
	}
	c.Craft = c.Craft.WithDefaults()
	if len(c.ReferenceCommand) == 0 {
		c.ReferenceCommand = c.VictimCommand
	}
	orDefault(&c.VictimsAtOnce, 1)
	orDefault(&c.Precision, "f32")
	if _, name, err := defenses(c.Defense); err == nil {
		c.Training.Name = name
		c.Training = c.Training.WithDefaults()
	}
	return c
}

// conditions are those that there can be: noise of pixels, or of labels.
func (c Config) conditions() []result.Condition {
	if c.Craft.TurnsLabels() {
		return []result.Condition{result.Attack, result.RandLabel, result.Clean}
	}
	return []result.Condition{result.Attack, result.RandUn, result.RandGa, result.Clean}
}

// control is the noise that the attack is held against.
func (c Config) control() result.Condition { return c.conditions()[1] }

// defaultBudget is where the goal's effect is clear and the prediction still stands.
func (c Config) defaultBudget() string {
	if g, err := attack.NewGoal(c.Goal); err == nil && g.Grows() {
		return "0.01"
	}
	return "0.04"
}

// defaultRepeats is enough for the effect to stand clear of chance: targets differ more in how far
// their sets can grow than in how far they can shrink.
func (c Config) defaultRepeats() int {
	if c.divides() {
		return 6
	}
	if g, err := attack.NewGoal(c.Goal); err == nil && g.Grows() {
		return 20
	}
	return 12
}

// defaultBases is nearest where the budget is split among labels, which is what makes it go far.
// Poisons of the predicted class are many of that class's images; when they are the nearest ones,
// they sharpen the class around the target whatever is done to them, and the noise control, on the
// same images, takes half of the effect (docs/math.md). Random ones leave the attack as strong.
func (c Config) defaultBases() string {
	if c.divides() {
		return attack.BasesNearest // near the subgroup
	}
	if g, err := attack.NewGoal(c.Goal); err == nil && g.Grows() {
		return attack.BasesNearest
	}
	return attack.BasesRandom
}

// What an audit can have of models, and trainings of victims.
const (
	mostModels  = 1 << 16
	mostVictims = 1 << 20
)

// Validate reports the first thing that is wrong with c (after WithDefaults), as a usage error.
// What depends on the data is checked when it is split.
func (c Config) Validate() error {
	if _, err := attack.NewGoal(c.Goal); err != nil {
		return err
	}
	if err := attack.CheckScore(c.Score); err != nil {
		return err
	}
	level, err := conformal.ParseLevel(c.Miscoverage)
	if err != nil {
		return usage.Wrap(err)
	}
	if err := c.Craft.Validate(); err != nil {
		return err
	}
	if c.Budget == BudgetAuto && c.Craft.Misclassifies() {
		return usage.Errorf("budget auto keeps the prediction, which the method %s is to change; give a number, such as 0.04", c.Craft.Method)
	}
	if c.Goal.Reckless && c.Craft.Misclassifies() {
		return usage.Errorf("goal %s: the method %s has no stealth terms to leave out", c.Goal.Name, c.Craft.Method)
	}
	for i, cond := range c.Conditions {
		if slices.Contains(c.Conditions[:i], cond) {
			return usage.Errorf("condition %s is there twice", cond)
		}
		if !slices.Contains(result.Conditions[:], cond) {
			return usage.Errorf("unknown condition %q (known: %s)", cond, joinConditions(result.Conditions[:]))
		}
		if known := c.conditions(); !slices.Contains(known, cond) {
			return usage.Errorf("condition %s does nothing here: with poison %s there are %s", cond, c.Craft.Poison, joinConditions(known))
		}
	}
	for _, n := range []struct {
		name string
		v    int
		min  int
	}{
		{"repeats", c.Repeats, 1}, {"targets", c.Targets, 1}, {"victims", c.Victims, 1},
		{"victims under Gaussian noise", c.GaussVictims, 1}, {"surrogates", c.Surrogates, 1},
		{"attackers", c.Attackers, 1}, {"references", c.References, 1}, {"controls", c.Controls, 1},
		{"training images", c.TrainSize, 1}, {"calibration images", c.CalSize, 1},
		{"target candidates", c.Candidates, 1}, {"workers", c.Workers, 0}, {"victims at once", c.VictimsAtOnce, 1},
	} {
		if n.v < n.min {
			return usage.Errorf("audit: %d %s; there must be at least %d", n.v, n.name, n.min)
		}
	}
	// One digit too many is noticed here, not when memory is full.
	for _, n := range []struct {
		name string
		v    int
	}{{"surrogates", c.Surrogates}, {"references", c.References}, {"controls", c.Controls}, {"repeats", c.Repeats}, {"victims", c.Victims}} {
		if n.v > mostModels {
			return usage.Errorf("audit: %d %s; there can be at most %d", n.v, n.name, mostModels)
		}
	}
	if n := c.Repeats * c.Victims * len(c.Conditions); n > mostVictims {
		return usage.Errorf("audit: %d repeats of %d victims under each of %d conditions are %d trainings; there can be at most %d", c.Repeats, c.Victims, len(c.Conditions), n, mostVictims)
	}
	switch {
	case len(c.Surrogate) > c.Surrogates:
		return usage.Errorf("audit: %d kinds of surrogates, but only %d surrogates; there must be one of each", len(c.Surrogate), c.Surrogates)
	case c.Attackers > c.Surrogates:
		return usage.Errorf("audit: %d attackers among %d surrogates; at most all of them can attack", c.Attackers, c.Surrogates)
	case c.GaussVictims > c.Victims:
		return usage.Errorf("audit: %d victims under Gaussian noise, but only %d victims", c.GaussVictims, c.Victims)
	case c.CalSize < level.MinCalibration():
		return usage.Errorf("audit: %d calibration images are too few for miscoverage %s, which needs at least %d", c.CalSize, c.Miscoverage, level.MinCalibration())
	}
	if err := cmp.Or(knownPrecision(c.Precision), c.validateSubgroups()); err != nil {
		return err
	}
	switch {
	case len(c.VictimCommand) == 0 && len(c.ReferenceCommand) > 0:
		return usage.Errorf("audit: there is a command for the benign models and none for the victims; they are compared, so give both")
	case len(c.VictimCommand) > 0 && c.Defense != "":
		return usage.Errorf("audit: the defence %s is part of how gocp trains, and a command trains in its place; leave one of the two out", c.Defense)
	case c.VictimTimeout < 0:
		return usage.Errorf("audit: victims may take %v; that must be above 0", c.VictimTimeout)
	}
	if _, _, err := defenses(c.Defense); err != nil {
		return err
	}
	if err := c.VictimTrain.validate(c.Training); err != nil {
		return err
	}
	for _, m := range c.Surrogate {
		if err := c.SurrogateTrain.of(m.Arch).validate(train.Defense{}); err != nil {
			return err
		}
	}
	n, err := c.poisonCount()
	if err != nil {
		return err
	}
	if n < 1 {
		return usage.Errorf("budget %s of %d training images is less than one image; raise --budget", c.fraction(), c.TrainSize)
	}
	return nil
}

func joinConditions(cs []result.Condition) string {
	s := make([]string, len(cs))
	for i, c := range cs {
		s[i] = string(c)
	}
	return strings.Join(s, ", ")
}

// fraction is the budget asked for, or where auto begins.
func (c Config) fraction() string {
	if c.Budget == BudgetAuto {
		return c.defaultBudget()
	}
	return c.Budget
}

// poisonCount is P = ⌊ξ·|D_tr|⌋ in exact arithmetic.
func (c Config) poisonCount() (int, error) {
	r, ok := new(big.Rat), false
	if f := c.fraction(); len(f) <= 20 && strings.Trim(f, "0123456789.") == "" {
		r, ok = r.SetString(f)
	}
	if !ok || r.Sign() <= 0 || r.Cmp(big.NewRat(1, 1)) > 0 {
		return 0, usage.Errorf("budget %q is neither %q nor a decimal above 0 and at most 1, such as 0.04", c.Budget, BudgetAuto)
	}
	r.Mul(r, new(big.Rat).SetInt64(int64(c.TrainSize)))
	return int(new(big.Int).Quo(r.Num(), r.Denom()).Int64()), nil
}
