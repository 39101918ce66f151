package result

import (
	"github.com/gocp/gocp/gocp/conformal"
)

// Schema is the version of result.json. It grows by one when a field changes its meaning or goes
// away; added fields do not change it.
const Schema = 1

// Condition names what was done to the victims' training data.
type Condition string

const (
	Attack Condition = "attack" // the crafted poisons
	RandUn Condition = "randun" // uniform noise in the ball, same images, same budget
	RandGa Condition = "randga" // Gaussian noise of the same second moment, clipped to the ball
	// RandLabel is where labels are turned: labels drawn from the others, same images, same budget, and where pixels move
	// too uniform noise.
	RandLabel Condition = "randlabel"
	Clean     Condition = "clean" // nothing: natural churn between training runs
)

// Conditions is the order in which conditions are shown.
var Conditions = [...]Condition{Attack, RandUn, RandGa, RandLabel, Clean}

// Role of an attacked label.
const (
	RoleAdd    = "add"    // the adversary wants it in the set
	RoleRemove = "remove" // the adversary wants it out of the set
)

// Result is the content of result.json. Everything in it follows from the command, the seed and
// the device, so the same command gives the same bytes; clock times and telemetry are kept apart.
type Result struct {
	Schema   int      `json:"schema"`
	Version  string   `json:"gocp"`                  // gocp's version
	Build    string   `json:"build,omitempty"`       // hash of the native half
	Kind     string   `json:"kind"`                  // "audit"
	Embedded bool     `json:"demo_sample,omitempty"` // the data are the sample shipped with gocp
	Config   Config   `json:"config"`
	Device   Device   `json:"device"`
	Dataset  Dataset  `json:"dataset"`
	Models   []Model  `json:"models,omitempty"` // surrogates, choosers, references
	Repeats  []Repeat `json:"repeats"`
	Summary  Summary  `json:"summary"` // = Summarise(Repeats)

	// Timings is not in result.json but in timings.json beside it.
	Timings []Timing `json:"-"`
	// Telemetry is not either but in telemetry.json; nil: nothing could be read.
	Telemetry *Telemetry `json:"-"`
}

// Config is what was asked for.
type Config struct {
	Goal   string `json:"goal"`             // overconfidence | underconfidence | add | remove | …
	Labels []int  `json:"labels,omitempty"` // given labels, for add and remove
	AddM   int    `json:"add_m,omitempty"`  // underconfidence: how many labels to add

	Score       conformal.Variant `json:"score"`
	Miscoverage string            `json:"miscoverage"` // decimal string ε
	Coverage    string            `json:"coverage"`    // decimal string 1−ε

	Budget Budget `json:"budget"`
	// Subgroups are those of the goal unequal.
	Subgroups *Subgroups `json:"subgroups,omitempty"`

	Poison string `json:"poison,omitempty"` // what poisons change: images (also ""), labels, both
	Rounds int    `json:"rounds,omitempty"` // of turning labels
	Bases  string `json:"bases,omitempty"`  // nearest | random | gradnorm | alignment; where labels are turned nearest or none
	// Diverse: of the best bases those were taken that lie apart.
	Diverse bool  `json:"diverse,omitempty"`
	Craft   Craft `json:"craft"`

	Access     string `json:"access"`     // "black-box" | "white-box"
	Surrogates int    `json:"surrogates"` // models the poisons are crafted on
	Choosers   int    `json:"choosers"`   // benign models that choose the targets
	References int    `json:"references"` // benign models that measure the benign size; disjoint from the choosers
	Victims    int    `json:"victims"`    // victims per repeat and condition
	Repeats    int    `json:"repeats"`    // target groups, each with its own poisons
	Targets    int    `json:"targets"`    // V, targets per repeat
	Seed       uint64 `json:"seed"`
	Precision  string `json:"precision"`
	// Defense is what all models but the adversary's were trained under: names with commas, of filters that dropped
	// training images, told the number of poisons, and of Training, with its settings; empty: none.
	Defense  string `json:"defense,omitempty"`
	Training string `json:"training_defense,omitempty"`

	SurrogateModel string `json:"surrogate_model"` // the model spec string, as in a safetensors file
	VictimModel    string `json:"victim_model"`    // empty where a command trains them
	SurrogateTrain Train  `json:"surrogate_train"`
	VictimTrain    Train  `json:"victim_train"` // likewise
	// VictimCommand trained the victims in gocp's place, ReferenceCommand the references and controls; nil:
	// gocp did.
	VictimCommand    *Command `json:"victim_command,omitempty"`
	ReferenceCommand *Command `json:"reference_command,omitempty"`
	// MoreSurrogates are the other kinds of surrogates, if there are any: the kinds take turns.
	MoreSurrogates []Kind `json:"more_surrogates,omitempty"`
}

// Command is a program that trains models.
type Command struct {
	Line  string            `json:"line"`            // as a shell would read it; files by their last names
	Files map[string]string `json:"files,omitempty"` // SHA-256 of those files, by name
}

// Kind is a network and how it is trained.
type Kind struct {
	Model string `json:"model"` // the model spec string
	Train Train  `json:"train"`
}

// TurnsLabels and MovesPixels tell what the poisons change.
func (c *Config) TurnsLabels() bool { return c.Poison == "labels" || c.Poison == "both" }
func (c *Config) MovesPixels() bool { return c.Poison != "labels" }

// Control is the noise that the attack is held against.
func (c *Config) Control() Condition {
	if c.TurnsLabels() {
		return RandLabel
	}
	return RandUn
}

// Subgroups are parts of the images, one of which each repeat attacks.
type Subgroups struct {
	By     string   `json:"by"`               // clusters | classes | coarse | the name of a file
	SHA256 string   `json:"sha256,omitempty"` // of the file
	Names  []string `json:"names"`
}

// Budget is how much of the training set the adversary replaces.
type Budget struct {
	Fraction   string `json:"fraction"`       // ξ₁, decimal string
	Count      int    `json:"count"`          // P = ⌊ξ₁·|D_tr|⌋
	Auto       bool   `json:"auto,omitempty"` // lowered until the surrogates keep the prediction
	Epsilon255 Number `json:"epsilon_255"`    // ball radius ϵ in 255ths of the pixel range
}

// Craft is the crafting loop.
type Craft struct {
	Method string `json:"method,omitempty"` // "alignment" (default) | "metapoison" | "witchesbrew"
	// Of metapoison: what it looks ahead from, and how far.
	Meta *MetaPoison `json:"metapoison,omitempty"`
	// AdversarialLabel is how a method that misclassifies chooses the label: "plausible" | "random".
	AdversarialLabel string `json:"adversarial_label,omitempty"`

	Align     string `json:"align"`               // sum | poison | batch
	Loss      string `json:"loss"`                // "pairwise" | "softquantile" | "crossentropy"
	Margin    Number `json:"margin"`              // m of the hinge
	Threshold string `json:"threshold,omitempty"` // in the loss's gradient: "fixed" | "moving"
	Window    int    `json:"window,omitempty"`    // pairs nearest to the rank; 0 = all
	Bandwidth Number `json:"bandwidth,omitempty"` // h of the soft quantile
	Keep      bool   `json:"keep_prediction"`     // stealth term on the predicted label
	KeepBeta  Number `json:"keep_beta,omitempty"` // its clamp β
	KeepTrue  bool   `json:"keep_true"`           // stealth term on the true label
	SAMRho    Number `json:"sam_rho"`             // radius of ℓ3; 0 = ℓ2 alone
	SAMP      Number `json:"sam_p"`               // p of the norm, may be inf
	SAMSteps  int    `json:"sam_steps"`           // ascent steps
	Steps     int    `json:"steps"`               // M
	Restarts  int    `json:"restarts"`            // R
	LR        Number `json:"lr"`                  // of signed Adam, in pixel units
	Batch     int    `json:"batch"`               // poisons per step
	Augment   bool   `json:"augment"`             // shift + flip while crafting
	Order     string `json:"order,omitempty"`     // "first" (default) | "second" | "unrolled"
	// Of second order: which (C + λI)⁻¹ stands before the adversary's gradient.
	Second *SecondOrder `json:"second_order,omitempty"`
}

// MetaPoison is the ensemble of surrogates that training is unrolled on.
type MetaPoison struct {
	Ages     int `json:"ages"`      // surrogates, of staggered ages
	Unroll   int `json:"unroll"`    // steps of SGD
	AgeEvery int `json:"age_every"` // crafting steps for each epoch that they age
}

// SecondOrder is the system that a second-order attack solves.
type SecondOrder struct {
	Mode       string `json:"mode"`           // "once" | "exact": a solve in every step
	Curvature  string `json:"curvature"`      // "ggn" | "hessian"
	Damping    string `json:"damping"`        // λ, or auto
	Solver     string `json:"solver"`         // "cg" | "lissa" | "kfac"
	Precond    string `json:"preconditioner"` // of cg: "none" | "kfac"
	Iterations int    `json:"iterations"`     // at most
	Tolerance  Number `json:"tolerance"`
	Images     int    `json:"images"` // at most
}

// Train is one training configuration.
type Train struct {
	Recipe      string `json:"recipe,omitempty"` // whose numbers stand where none were given
	Epochs      int    `json:"epochs"`
	Batch       int    `json:"batch"`
	LR          Number `json:"lr"`
	Schedule    string `json:"schedule,omitempty"`   // constant | steps | cosine
	Milestones  []int  `json:"milestones,omitempty"` // of steps: epochs
	Gamma       Number `json:"gamma,omitempty"`      // of steps: the factor
	Warmup      int    `json:"warmup,omitempty"`     // epochs
	Momentum    Number `json:"momentum"`
	Nesterov    bool   `json:"nesterov,omitempty"`
	WeightDecay Number `json:"weight_decay"`
	Shift       int    `json:"shift,omitempty"` // largest shift in pixels
	Pad         string `json:"pad,omitempty"`   // what it shows outside the image: zero | reflect
	Flip        bool   `json:"flip,omitempty"`
}

// Device is where it ran.
type Device struct {
	Backend string `json:"backend"`           // "host" | "cuda"
	Name    string `json:"name"`              // processor or GPU
	ISA     string `json:"isa,omitempty"`     // host kernels in use
	Cores   int    `json:"cores,omitempty"`   // of the host
	Driver  string `json:"driver,omitempty"`  // CUDA driver
	Library string `json:"library,omitempty"` // e.g. oneDNN 2.6.3
	Why     string `json:"why,omitempty"`     // why this device was taken
}

// Dataset is what it ran on.
type Dataset struct {
	Name    string   `json:"name"`
	Origin  string   `json:"origin,omitempty"` // where the images come from, in words
	SHA256  string   `json:"sha256"`
	H       int      `json:"h"`
	W       int      `json:"w"`
	C       int      `json:"c"`
	Classes []string `json:"classes"`
	Splits  []Split  `json:"splits"`
	// Copies is how many candidates were no targets because a training or calibration part holds an
	// exact copy of them.
	Copies int `json:"copies_left_out,omitempty"`
}

// SplitVictimTrain is the name of the split that holds the victims' training images.
const SplitVictimTrain = "victim train"

// Split is one disjoint part of the data.
type Split struct {
	Name   string `json:"name"`   // e.g. "victim train"
	Use    string `json:"use"`    // what it was used for, in words
	Size   int    `json:"size"`   // images
	SHA256 string `json:"sha256"` // of its indices and images
}

// Model is one benign model of the run: a surrogate, a chooser or a reference.
type Model struct {
	Role      string              `json:"role"` // "surrogate" | "chooser" | "reference"
	Seed      uint64              `json:"seed"`
	Spec      string              `json:"spec"`
	SHA256    string              `json:"sha256,omitempty"` // of the safetensors file
	Accuracy  Number              `json:"accuracy"`         // on the test data
	Coverage  Number              `json:"coverage"`
	MeanSize  Number              `json:"mean_size"`
	Threshold conformal.Threshold `json:"threshold"`
	Dropped   *Dropped            `json:"dropped,omitempty"`
}

// Dropped is what a defence left out of a model's training images.
type Dropped struct {
	Samples int `json:"samples"` // poisons among them
	Poisons int `json:"poisons"`
}

// Repeat is one independent draw of the experiment: a target group, its poisons, and the victims
// trained under each condition. Standard errors are taken over repeats.
type Repeat struct {
	ID      int      `json:"id"` // from 0
	Seed    uint64   `json:"seed"`
	Targets []Target `json:"targets"`
	// Subgroup is the number of the one that is attacked, if there are subgroups.
	Subgroup *int     `json:"subgroup,omitempty"`
	Poisons  Poisons  `json:"poisons"`
	Victims  []Victim `json:"victims"` // any order; conditions × seeds
}

// Target is a sample whose prediction set the adversary wants to change.
type Target struct {
	ID        int        `json:"id"`        // index in the data set part it comes from
	Label     int        `json:"label"`     // true label
	Predicted int        `json:"predicted"` // the benign predicted label ŷ
	Why       string     `json:"why"`       // reason for the choice, in words
	Chosen    []int      `json:"chosen"`    // set sizes under the choosers, never used to measure
	Benign    []int      `json:"benign"`    // set sizes under the reference benign models
	Attacked  []Attacked `json:"attacked"`  // R_v and A_v
	// Adversarial is the label that a method that misclassifies wants predicted.
	Adversarial *int   `json:"adversarial,omitempty"`
	Picture     string `json:"picture,omitempty"` // 8-bit PNG, path inside the run folder
	Near        *Near  `json:"near,omitempty"`
}

// Near is the training image of the victim that the first surrogate takes for most like a target.
type Near struct {
	ID    int `json:"id"` // index in the data set's training part
	Label int `json:"label"`
	// Distance is that of the surrogate's features over the root mean square of all targets' to all
	// training images: 0 for the same image, about 1 for one of no connection.
	Distance Number `json:"distance"`
	Levels   Number `json:"levels"`            // mean difference of the pixels, in levels of 255
	Picture  string `json:"picture,omitempty"` // 8-bit PNG, for the nearest pairs of a run
}

// Attacked is a label the adversary wants out of the set or in it.
type Attacked struct {
	Label int    `json:"label"`
	Role  string `json:"role"` // RoleAdd | RoleRemove
}

// Poisons is one crafted poison set and what crafting saw on the surrogates.
type Poisons struct {
	Dir    string `json:"dir,omitempty"` // folder inside the run folder
	SHA256 string `json:"sha256"`        // of the 8-bit images
	Count  int    `json:"count"`
	Labels []int  `json:"labels"` // classes the bases come from
	Bases  []int  `json:"bases"`  // indices in the victim's training set
	// Split is the poisons by class, beside the victim's training images of it.
	Split []PoisonedClass `json:"split,omitempty"`
	// InOwnPlace is how many replace the very image they were made from; the others replace another one
	// of their class.
	InOwnPlace int `json:"in_own_place,omitempty"`

	MaxAbs  Number `json:"max_abs"`  // largest |δ| on the 8-bit grid, in 255ths
	MeanAbs Number `json:"mean_abs"` // mean |δ|, in 255ths

	Restarts []Restart `json:"restarts"` // alignment curves
	Best     int       `json:"best"`     // the restart kept
	Phi      Number    `json:"phi"`      // Φ after quantisation to 8 bits

	Solves []Solve `json:"solves,omitempty"` // of second order, one for each surrogate
	Rounds []Round `json:"rounds,omitempty"` // of turning labels
	Turns  []Turn  `json:"turns,omitempty"`  // the most frequent first

	Lookahead *Lookahead `json:"lookahead,omitempty"` // of metapoison

	L2 Number `json:"l2"` // ℓ2 on the surrogates before crafting (mean)
	L3 Number `json:"l3"`

	// The SGD-step test: ℓ3 on the surrogates after one step of gradient descent on the training
	// data with poisons in place, less ℓ3 after the same step with the clean images in theirs;
	// negative is down, as the adversary wants.
	StepAttack Number `json:"step_attack"` // crafted poisons
	StepRandUn Number `json:"step_randun"` // noise on the same bases: RandUn, where labels are turned RandLabel
	StepLR     Number `json:"step_lr"`     // its learning rate
	L2After    Number `json:"l2_after"`    // ℓ2 and ℓ3 after the step on the crafted poisons
	L3After    Number `json:"l3_after"`

	Samples []Sample `json:"samples,omitempty"` // a few poisons to look at
}

// Lookahead is the mean over surrogates of ℓ2 after the unrolled steps.
type Lookahead struct {
	Epochs int    `json:"epochs"` // at which a surrogate starts afresh
	Batch  int    `json:"batch"`  // of an unrolled step
	Share  int    `json:"share"`  // of it poisons
	Before Number `json:"before"` // at the first crafting step
	After  Number `json:"after"`  // with the poisons on the 8-bit grid
}

// Solve is what the solve for s = (C + λI)⁻¹∇ℓ3 saw on one surrogate.
type Solve struct {
	Surrogate  string `json:"surrogate"`
	Images     int    `json:"images"` // that C is the mean over
	Damping    Number `json:"damping"`
	Iterations int    `json:"iterations"`
	Residual   Number `json:"residual"` // ‖∇ℓ3 − (C + λI)s‖ / ‖∇ℓ3‖
	Least      Number `json:"least_curvature"`
	Largest    Number `json:"largest_curvature"`
	Cosine     Number `json:"cosine"`  // cos(s, ∇ℓ3)
	Stopped    string `json:"stopped"` // converged | iterations | rounding | negative curvature | factors
}

// Turn counts poisons whose label was turned.
type Turn struct {
	From  int `json:"from"`
	To    int `json:"to"`
	Count int `json:"count"`
}

// Round is one choice of labels to turn, on the surrogates as they were then.
type Round struct {
	Turned int    `json:"turned"`
	L2     Number `json:"l2"`
	L3     Number `json:"l3"`
	Most   Number `json:"most"` // gain ⟨∇ℓ3, ∇l(X,Y′) − ∇l(X,Y)⟩/‖∇ℓ3‖ of the first label that it turned, mean over surrogates
	Least  Number `json:"least"`
}

// PoisonedClass is the part of one class in a poison set.
type PoisonedClass struct {
	Label int `json:"label"`
	Count int `json:"count"`
	Of    int `json:"of"` // images of the class in the victim's training set, before
}

// Restart is one run of the crafting loop.
type Restart struct {
	Seed uint64   `json:"seed"`
	Phi  []Number `json:"phi"` // Φ per step, mean over surrogates; 1 = perfectly aligned; none of metapoison

	Loss []Number `json:"loss,omitempty"` // of metapoison, per step
}

// Sample is one poison to show, as 8-bit PNG files inside the run folder.
type Sample struct {
	Base   int    `json:"base"` // index in the victim's training set
	Label  int    `json:"label"`
	Turned *int   `json:"turned_label,omitempty"` // of the poison, where it is another
	Before string `json:"before"`                 // the clean image
	After  string `json:"after"`                  // the poison
}

// Victim is one model trained from a fresh initialisation under one condition, calibrated on
// clean data. Victims of one repeat with the same seed are paired across conditions.
type Victim struct {
	Condition Condition           `json:"condition"`
	Seed      uint64              `json:"seed"`
	Threshold conformal.Threshold `json:"threshold"` // τ, rank, n of calibration
	Test      Test                `json:"test"`
	Dropped   *Dropped            `json:"dropped,omitempty"`
	Outcomes  []Outcome           `json:"outcomes"` // one per target, in the order of Repeat.Targets
}

// Test is the victim on test data (no targets among them).
type Test struct {
	N        int    `json:"n"`
	Covered  int    `json:"covered"`
	Correct  int    `json:"correct"`
	Empty    int    `json:"empty"`
	Coverage Number `json:"coverage"`
	Accuracy Number `json:"accuracy"`
	MeanSize Number `json:"mean_size"`
	// Agreement is the share of test images whose predicted label is that of the reference models'
	// mean: how much else the poisons changed.
	Agreement Number     `json:"agreement"`
	Classes   []PerClass `json:"classes"`          // by true label
	Groups    []PerGroup `json:"groups,omitempty"` // by subgroup
}

// PerClass is the test coverage of one class.
type PerClass struct {
	N       int `json:"n"`
	Covered int `json:"covered"`
}

// PerGroup is the test data of one subgroup.
type PerGroup struct {
	N       int `json:"n"`
	Covered int `json:"covered"`
	Correct int `json:"correct"`
	Size    int `json:"size"` // labels in all sets together
}

// Outcome is one target under one victim.
type Outcome struct {
	Set       []int    `json:"set"`       // labels, ascending
	Predicted int      `json:"predicted"` // the victim's predicted label
	Prob      Number   `json:"prob"`      // the victim's probability of the benign predicted label ŷ
	Margins   []Number `json:"margins"`   // S − τ of each attacked label, in the order of Target.Attacked; ≤ 0 is inside
}

// Timing is the wall time of one phase.
type Timing struct {
	Phase   string  `json:"phase"`
	Seconds float64 `json:"seconds"`
	Count   int     `json:"count,omitempty"` // models trained, poisons crafted, …
}
