package train

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// Config of a training run. The zero value is the victims' recipe of Li et al. (2024),
// section 4, of a length that suits small networks: 20 epochs, batch 128, learning rate 0.01,
// momentum 0.9, weight decay 5e-4, no augmentation.
type Config struct {
	Epochs      int              `json:"epochs"`       // 0: 20
	Batch       int              `json:"batch"`        // 0: 128
	LR          float64          `json:"lr"`           // 0: 0.01
	Schedule    string           `json:"schedule"`     // of the learning rate: one of Schedules; "": Constant
	Milestones  []int            `json:"milestones"`   // of Steps: the epochs, in ascending order, after which the rate drops
	Gamma       float64          `json:"gamma"`        // of Steps: the factor; 0: 0.1
	Warmup      int              `json:"warmup"`       // epochs in which the rate rises from 0, in equal steps
	Momentum    *float64         `json:"momentum"`     // nil: 0.9
	Nesterov    bool             `json:"nesterov"`     // Nesterov's momentum, as in PyTorch
	WeightDecay *float64         `json:"weight_decay"` // nil: 5e-4
	Shift       int              `json:"shift"`        // random shifts of up to so many pixels: a random crop of the padded image
	Pad         string           `json:"pad"`          // what they show outside the image: one of Pads; "": PadZero
	Flip        bool             `json:"flip"`         // random horizontal flips
	Seed        uint64           `json:"seed"`         // order and augmentation; initialisation is the model's own
	Precision   kernel.Precision `json:"precision"`
	Defense     Defense          `json:"defense,omitzero"` // what a step does to take their effect from poisons
}

// WithDefaults returns c with the defaults filled in.
func (c Config) WithDefaults() Config {
	if c.Epochs == 0 {
		c.Epochs = 20
	}
	if c.Batch == 0 {
		c.Batch = 128
	}
	if c.LR == 0 {
		c.LR = 0.01
	}
	if c.Schedule == "" {
		c.Schedule = Constant
	}
	if c.Gamma == 0 {
		c.Gamma = 0.1
	}
	if c.Pad == "" {
		c.Pad = PadZero
	}
	if c.Momentum == nil {
		m := 0.9
		c.Momentum = &m
	}
	if c.WeightDecay == nil {
		wd := 5e-4
		c.WeightDecay = &wd
	}
	c.Defense = c.Defense.WithDefaults()
	return c
}

// Validate reports the first value that training cannot work with, as a usage error.
func (c Config) Validate() error {
	c = c.WithDefaults()
	bad := func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) || v < 0 }
	switch {
	case c.Epochs < 1:
		return usage.Errorf("train: %d epochs; at least 1 is needed", c.Epochs)
	case c.Batch < 1:
		return usage.Errorf("train: a batch of %d; at least 1 is needed", c.Batch)
	case bad(c.LR):
		return usage.Errorf("train: learning rate %v; it must be positive and finite", c.LR)
	case bad(*c.Momentum) || *c.Momentum >= 1:
		return usage.Errorf("train: momentum %v; it must be in [0,1)", *c.Momentum)
	case bad(*c.WeightDecay):
		return usage.Errorf("train: weight decay %v; it must be 0 or more and finite", *c.WeightDecay)
	case c.Shift < 0:
		return usage.Errorf("train: shift %d; it must be 0 or more", c.Shift)
	case !slices.Contains(Pads(), c.Pad):
		return usage.Errorf("train: unknown padding %q (known: %s)", c.Pad, strings.Join(Pads(), ", "))
	case c.Nesterov && *c.Momentum == 0:
		return usage.Errorf("train: Nesterov's momentum without momentum; give one above 0")
	}
	if err := c.checkSchedule(); err != nil {
		return err
	}
	return c.Defense.Validate()
}

// A Set is labelled images.
type Set struct {
	Images []uint8 // [n,H,W,C]
	Labels []int32 // [n]
}

func (set Set) check(spec nn.Spec) error {
	size := spec.H * spec.W * spec.C
	if len(set.Labels) == 0 {
		return usage.Errorf("train: the training set is empty")
	}
	if len(set.Images) != len(set.Labels)*size {
		return usage.Errorf("train: %d bytes of images for %d labels; the network's input is %d bytes an image (%dx%dx%d)",
			len(set.Images), len(set.Labels), size, spec.H, spec.W, spec.C)
	}
	for i, y := range set.Labels {
		if y < 0 || int(y) >= spec.Classes {
			return usage.Errorf("train: label %d of sample %d is outside 0..%d", y, i, spec.Classes-1)
		}
	}
	return nil
}

// State is training between two steps: what Run needs to go on to the same result.
type State struct {
	Epoch    int       // epochs done
	Step     int       // steps done of the next one
	Momentum []float32 // SGD's momentum buffer
	Losses   []float32 // of the samples that the next epoch has visited, in their order
	Dropped  []int32   // numbers of samples that the defence has dropped, in rising order, without what the next epoch drops when it begins
}

// checkDropped refuses numbers that training n samples under d cannot have dropped.
func (st State) checkDropped(d Defense, n int) error {
	before := int32(-1)
	for _, i := range st.Dropped {
		if i <= before || int(i) >= n || !d.Drops() {
			return fmt.Errorf("train: the checkpoint says that sample %d was dropped of %d, after sample %d; samples have to be of the set, in rising order, and the defence one that drops", i, n, before)
		}
		before = i
	}
	return nil
}

// Options of a run that do not change its result, but for Stop.
type Options struct {
	Progress   func(epoch int, loss float64) // after each epoch, with its mean training loss
	Checkpoint func(*nn.Model, State) error  // after each epoch, with copies it may keep
	Stop       int                           // end after so many epochs, as if interrupted there; 0: after all
	// Due, if given, is asked before each step whether a checkpoint is to be made there; then none is
	// made after epochs. Under a defence it is asked only before an epoch's first step.
	Due func() bool
	// Interrupt, if given, is asked before each step whether to make a checkpoint and to end with
	// context.Canceled; after the last one only whether to make a checkpoint. Under a defence as Due.
	Interrupt func() bool
	Resume    *State                // start from here instead of epoch 0; the model must be the checkpoint's
	Dropped   func(samples []int32) // hears at the end which samples the defence has dropped
}

// Run trains m in place on set. On an error m is left as it was.
func Run(s *device.Stream, m *nn.Model, set Set, cfg Config, o Options) error {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return err
	}
	if err := set.check(m.Spec); err != nil {
		return err
	}
	from := State{}
	if o.Resume != nil {
		from = *o.Resume
		switch {
		case len(from.Momentum) != len(m.Theta):
			return fmt.Errorf("train: the checkpoint's momentum has %d values; the model has %d parameters", len(from.Momentum), len(m.Theta))
		case from.Epoch < 0 || from.Epoch > cfg.Epochs || from.Step < 0 || from.Step > 0 && from.Epoch == cfg.Epochs || len(from.Losses) != min(from.Step*cfg.Batch, len(set.Labels)) || (from.Step-1)*cfg.Batch > len(set.Labels):
			return fmt.Errorf("train: the checkpoint is of step %d of epoch %d, with %d losses; this run has %d epochs of %d samples in batches of %d", from.Step, from.Epoch, len(from.Losses), cfg.Epochs, len(set.Labels), cfg.Batch)
		case from.Step > 0 && cfg.Defense.Name != "":
			return fmt.Errorf("train: the checkpoint is of step %d of epoch %d; under %s training goes on from the beginning of an epoch", from.Step, from.Epoch, cfg.Defense.Name)
		}
		if err := from.checkDropped(cfg.Defense, len(set.Labels)); err != nil {
			return err
		}
	}
	defer s.Scope()()
	t := newTrainer(s, m, set, cfg)
	way, err := t.way()
	if err != nil {
		return err
	}
	if o.Resume != nil {
		device.Upload(s, t.momentum, from.Momentum)
		t.dropped = slices.Clone(from.Dropped)
	} else {
		s.Memset32(t.momentum, 0, len(m.Theta))
	}
	last := cfg.Epochs
	if o.Stop > 0 {
		last = min(last, o.Stop)
	}
	save := func(epoch, step int) error {
		trained, err := t.download(m)
		if err != nil {
			return err
		}
		st := State{Epoch: epoch, Step: step, Momentum: make([]float32, len(m.Theta)), Losses: make([]float32, min(step*cfg.Batch, t.n)), Dropped: slices.Clone(t.dropped)}
		if err := device.Download(s, st.Momentum, t.momentum); err != nil {
			return err
		}
		if step > 0 {
			if err := device.Download(s, st.Losses, t.losses); err != nil {
				return err
			}
		}
		return o.Checkpoint(trained, st)
	}
	for epoch := from.Epoch; epoch < last; epoch++ {
		if err := s.Context().Err(); err != nil {
			return err
		}
		// Inside of its epochs only plain training stands where its steps say: what another way visits may
		// depend on the parameters at the beginning.
		_, anywhere := way.(plain)
		loss, err := t.epoch(way, epoch, from, func(step int) error {
			if step > 0 && !anywhere {
				return nil
			}
			stop := o.Interrupt != nil && o.Interrupt()
			if o.Checkpoint != nil && (stop || o.Due != nil && o.Due()) {
				if err := save(epoch, step); err != nil {
					return err
				}
			}
			if stop {
				return context.Canceled
			}
			return nil
		})
		from = State{}
		if err != nil {
			return fmt.Errorf("train: epoch %d: %w", epoch+1, err)
		}
		if math.IsNaN(loss) || math.IsInf(loss, 0) {
			return fmt.Errorf("train: the loss is %v after epoch %d; a smaller learning rate than %g may help", loss, epoch+1, cfg.LR)
		}
		if o.Progress != nil {
			o.Progress(epoch+1, loss)
		}
		if o.Checkpoint != nil && o.Due == nil {
			if err := save(epoch+1, 0); err != nil {
				return err
			}
		}
	}
	if o.Checkpoint != nil && o.Interrupt != nil && o.Interrupt() { // whoever waits for the model may stop before it is written
		if err := save(last, 0); err != nil {
			return err
		}
	}
	t.freeNet() // before there are two models
	trained, err := t.download(m)
	if err != nil {
		return err
	}
	m.Theta, m.Running = trained.Theta, trained.Running
	if o.Dropped != nil {
		o.Dropped(t.dropped)
	}
	return nil
}

// A trainer holds a run's memory on the device.
type trainer struct {
	s    *device.Stream
	cfg  Config
	spec nn.Spec
	n    int // samples
	room int // the most samples of a step

	known   []int32 // the samples' labels
	dropped []int32 // numbers of samples that the defence has dropped, in rising order

	net               *nn.Net
	freeNet           func()
	images, labels    device.Ptr // the whole set
	plan              device.Ptr // [steps,1+room], of this epoch: a step's learning rate, float32, and its images, int32
	planned           int        // how many steps it has room for
	lr, index         device.Ptr // the part of it that belongs to the step under way: float32, int32[room]
	batchLabels       device.Ptr // int32[room]
	aug               kernel.Augmentation
	step              device.Ptr // uint64: counts steps for the draws of augmentation and dropout
	theta, grad       tensor.Tensor
	momentum, running device.Ptr
	x                 tensor.Tensor
	losses            device.Ptr // float32 [visits], of this epoch, in visiting order
	visits            int        // how many samples there is room for

	lists map[list]*device.Graph // what steps do, recorded
}

// A list is a recorded part of steps: its name, and the samples of the batch.
type list struct {
	name string
	size int
}

func newTrainer(s *device.Stream, m *nn.Model, set Set, cfg Config) *trainer {
	n := len(set.Labels)
	room := cfg.Defense.room(min(cfg.Batch, n), n)
	t := &trainer{s: s, cfg: cfg, spec: m.Spec, n: n, room: room, known: set.Labels,
		images: s.Alloc(len(set.Images)), labels: s.Alloc(4 * n),
		lr: s.Alloc(4 * (1 + room)), batchLabels: s.Alloc(4 * room), step: s.Alloc(8),
		theta: tensor.New(s, len(m.Theta)), grad: tensor.New(s, len(m.Theta)), momentum: s.Alloc(4 * len(m.Theta)),
		x:     tensor.New(s, room, m.H, m.W, m.C),
		lists: map[list]*device.Graph{},
	}
	t.index = t.lr.Add(4)
	if cfg.Shift > 0 || cfg.Flip {
		t.aug = kernel.Augmentation{Draws: s.Alloc(4 * 3 * room), Reflect: cfg.Pad == PadReflect}
	}
	device.Upload(s, t.images, set.Images)
	device.Upload(s, t.labels, set.Labels)
	device.Upload(s, t.theta.P, m.Theta)
	if len(m.Running) > 0 {
		t.running = s.Alloc(4 * len(m.Running))
		device.Upload(s, t.running, m.Running)
	}
	t.freeNet = s.Scope()
	t.net = nn.NewNet(s, m.Spec, room, nn.Options{Precision: cfg.Precision, Persample: cfg.Defense.persample()})
	return t
}

// epoch visits every sample once, or what the defence lets it visit, and returns the mean loss. It goes on after
// the steps that from has done of it. before is called before each step, before the first one also before the defence
// looks what the epoch visits: what it drops then is in no checkpoint of the epoch's beginning. Its error ends the epoch.
func (t *trainer) epoch(way way, epoch int, from State, before func(step int) error) (float64, error) {
	defer t.s.RangeOf("epoch", epoch).End()
	s := t.s
	if from.Step == 0 {
		if err := before(0); err != nil {
			return 0, err
		}
	}
	batches, err := way.batches(epoch)
	if err != nil {
		return 0, err
	}
	seen := t.upload(epoch, batches)
	if seen > t.visits {
		s.Free(t.losses)
		t.losses, t.visits = s.Alloc(4*seen), seen
	}
	seen = len(from.Losses)
	if from.Step > 0 {
		device.Upload(s, t.losses, from.Losses)
		if t.draws() {
			device.Upload(s, t.step, []uint64{t.number(epoch, from.Step)})
		}
	}
	for k, batch := range batches {
		if k < from.Step {
			continue
		}
		if s.Context().Err() != nil {
			return 0, s.Context().Err()
		}
		if k > 0 {
			if err := before(k); err != nil {
				return 0, err
			}
		}
		size := len(batch)
		step := s.RangeOf("step", k)
		if size > 0 && size < t.spec.MinBatch() {
			step.End()
			break // batch norm has one value of a channel: PyTorch refuses such a batch, loaders drop it
		}
		s.Copy(t.lr, t.plan.Add(4*k*(1+t.room)), 4*(1+size))
		if err := way.step(epoch, k, batch); err != nil {
			return 0, err
		}
		if size > 0 {
			s.Copy(t.losses.Add(4*seen), t.net.LossBuffer(), 4*size)
		}
		seen += size
		step.End()
	}
	if seen == 0 {
		return 0, s.Err()
	}
	each := make([]float32, seen)
	if err := device.Download(s, each, t.losses); err != nil {
		return 0, err
	}
	var sum float64
	for _, l := range each {
		sum += float64(l)
	}
	return sum / float64(seen), nil
}

// shuffled cuts the samples, in an order that is drawn for the epoch, into batches.
func (t *trainer) shuffled(epoch int, samples []int32) [][]int32 {
	var batches [][]int32
	for i, p := range rng.New(t.cfg.Seed, rng.Stream("order", uint64(epoch))).Perm(len(samples)) {
		if i%t.cfg.Batch == 0 {
			batches = append(batches, nil)
		}
		last := &batches[len(batches)-1]
		*last = append(*last, samples[p])
	}
	return batches
}

// all are the numbers of all samples.
func (t *trainer) all() []int32 {
	samples := make([]int32, t.n)
	for i := range samples {
		samples[i] = int32(i)
	}
	return samples
}

// upload puts an epoch's rates and batches on the device and returns how many samples it visits.
func (t *trainer) upload(epoch int, batches [][]int32) (seen int) {
	s, steps := t.s, len(batches)
	if steps > t.planned {
		s.Free(t.plan)
		t.plan, t.planned = s.Alloc(4*(1+t.room)*steps), steps
	}
	plan := make([]int32, steps*(1+t.room))
	for k, batch := range batches {
		at := k * (1 + t.room)
		plan[at] = int32(math.Float32bits(float32(t.cfg.rate(epoch, k, steps))))
		copy(plan[at+1:], batch)
		seen += len(batch)
	}
	device.Upload(s, t.plan, plan)
	if t.draws() { // every step adds one
		device.Upload(s, t.step, []uint64{t.number(epoch, 0)})
	}
	return seen
}

// number counts steps through a run: no two have the same.
func (t *trainer) number(epoch, k int) uint64 {
	return uint64(epoch*((t.n+t.cfg.Batch-1)/t.cfg.Batch) + k)
}

// do does a part of a step on a batch of so many samples. It is recorded when it is first done.
func (t *trainer) do(name string, size int, record func()) {
	at := list{name, size}
	g := t.lists[at]
	if g == nil {
		var err error
		g, err = t.s.Capture(func() {
			defer t.s.Range("record a step").End()
			record()
		})
		if err != nil {
			t.s.Fail(fmt.Errorf("train: record a step: %w", err))
			return
		}
		t.lists[at] = g
	}
	g.Launch()
}

// drawn draws the step's shifts and flips, and lets the next step draw others.
func (t *trainer) drawn(size int) {
	if t.aug.Draws != 0 {
		kernel.AugmentDraw(t.s, t.cfg.Seed, t.step, size, t.cfg.Shift, t.cfg.Flip, t.aug.Draws)
	}
	if t.draws() {
		kernel.Increment(t.s, t.step)
	}
}

// batch is the first so many places of the batch's images.
func (t *trainer) batch(x tensor.Tensor, size int) tensor.Tensor {
	return x.Slice(0, size, t.spec.H, t.spec.W, t.spec.C)
}

// load gathers the batch's images, augmented, and its labels.
func (t *trainer) load(size int, x tensor.Tensor) {
	kernel.Gather(t.s, t.images, t.index, t.aug, size, t.spec.H, t.spec.W, t.spec.C, x)
	kernel.GatherInt32(t.s, t.labels, t.index, size, t.batchLabels)
}

// forward is a forward pass in training mode with the parameters theta.
func (t *trainer) forward(theta, x tensor.Tensor) {
	t.net.Forward(nn.Pass{Mode: nn.Train, Theta: theta, Running: t.running, X: x, Draws: nn.Draws{Seed: t.cfg.Seed, Step: t.step}})
}

// descend is SGD's step along grad, the gradient summed over so many samples.
func (t *trainer) descend(samples float64) {
	kernel.SGD(t.s, t.theta.P, t.grad.P, t.momentum, t.lr, *t.cfg.Momentum, *t.cfg.WeightDecay, 1/samples, t.cfg.Nesterov, t.theta.Len())
}

// draws reports whether a step draws anything on the device.
func (t *trainer) draws() bool { return t.aug.Draws != 0 || t.spec.Dropout > 0 }

// download returns a copy of m with the parameters as they are now.
func (t *trainer) download(m *nn.Model) (*nn.Model, error) {
	trained := m.Clone()
	if err := device.Download(t.s, trained.Theta, t.theta.P); err != nil {
		return nil, err
	}
	return trained, device.Download(t.s, trained.Running, t.running)
}
