package train

import (
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
	return c.checkSchedule()
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

// State is training between two epochs: what Run needs to go on to the same result.
type State struct {
	Epoch    int       // epochs done
	Momentum []float32 // SGD's momentum buffer
}

// Options of a run that do not change its result.
type Options struct {
	Progress   func(epoch int, loss float64) // after each epoch, with its mean training loss
	Checkpoint func(*nn.Model, State) error  // after each epoch, with copies it may keep
	Resume     *State                        // start from here instead of epoch 0; the model must be the checkpoint's
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
	if o.Resume != nil && len(o.Resume.Momentum) != len(m.Theta) {
		return fmt.Errorf("train: the checkpoint's momentum has %d values; the model has %d parameters", len(o.Resume.Momentum), len(m.Theta))
	}
	defer s.Scope()()
	t, first := newTrainer(s, m, set, cfg), 0
	if o.Resume != nil {
		first = o.Resume.Epoch
		device.Upload(s, t.momentum, o.Resume.Momentum)
	} else {
		s.Memset32(t.momentum, 0, len(m.Theta))
	}
	for epoch := first; epoch < cfg.Epochs; epoch++ {
		if err := s.Context().Err(); err != nil {
			return err
		}
		loss, err := t.epoch(epoch)
		if err != nil {
			return fmt.Errorf("train: epoch %d: %w", epoch+1, err)
		}
		if math.IsNaN(loss) || math.IsInf(loss, 0) {
			return fmt.Errorf("train: the loss is %v after epoch %d; a smaller learning rate than %g may help", loss, epoch+1, cfg.LR)
		}
		if o.Progress != nil {
			o.Progress(epoch+1, loss)
		}
		if o.Checkpoint != nil {
			trained, err := t.download(m)
			if err != nil {
				return err
			}
			st := State{Epoch: epoch + 1, Momentum: make([]float32, len(m.Theta))}
			if err := device.Download(s, st.Momentum, t.momentum); err != nil {
				return err
			}
			if err := o.Checkpoint(trained, st); err != nil {
				return err
			}
		}
	}
	t.freeNet() // before there are two models
	trained, err := t.download(m)
	if err != nil {
		return err
	}
	m.Theta, m.Running = trained.Theta, trained.Running
	return nil
}

// A trainer holds a run's memory on the device.
type trainer struct {
	s    *device.Stream
	cfg  Config
	spec nn.Spec
	n    int // samples

	net               *nn.Net
	freeNet           func()
	images, labels    device.Ptr // the whole set
	plan              device.Ptr // [steps,1+batch], of this epoch: a step's learning rate, float32, and its images, int32
	lr, index         device.Ptr // the part of it that belongs to the step under way: float32, int32[batch]
	batchLabels       device.Ptr // int32[batch]
	aug               kernel.Augmentation
	step              device.Ptr // uint64: counts steps for the draws of augmentation and dropout
	theta, grad       tensor.Tensor
	momentum, running device.Ptr
	x                 tensor.Tensor
	losses            device.Ptr // float32[n], of this epoch, in visiting order

	steps map[int]*device.Graph // recorded steps, by batch: the full one, and an epoch's last
}

func newTrainer(s *device.Stream, m *nn.Model, set Set, cfg Config) *trainer {
	n := len(set.Labels)
	batch := min(cfg.Batch, n)
	t := &trainer{s: s, cfg: cfg, spec: m.Spec, n: n,
		images: s.Alloc(len(set.Images)), labels: s.Alloc(4 * n), plan: s.Alloc(4 * (1 + batch) * ((n + batch - 1) / batch)),
		lr: s.Alloc(4 * (1 + batch)), batchLabels: s.Alloc(4 * batch),
		step: s.Alloc(8), losses: s.Alloc(4 * n),
		theta: tensor.New(s, len(m.Theta)), grad: tensor.New(s, len(m.Theta)), momentum: s.Alloc(4 * len(m.Theta)),
		x:     tensor.New(s, batch, m.H, m.W, m.C),
		steps: map[int]*device.Graph{},
	}
	t.index = t.lr.Add(4)
	if cfg.Shift > 0 || cfg.Flip {
		t.aug = kernel.Augmentation{Draws: s.Alloc(4 * 3 * batch), Reflect: cfg.Pad == PadReflect}
	}
	device.Upload(s, t.images, set.Images)
	device.Upload(s, t.labels, set.Labels)
	device.Upload(s, t.theta.P, m.Theta)
	if len(m.Running) > 0 {
		t.running = s.Alloc(4 * len(m.Running))
		device.Upload(s, t.running, m.Running)
	}
	t.freeNet = s.Scope()
	t.net = nn.NewNet(s, m.Spec, batch, nn.Options{Precision: cfg.Precision})
	return t
}

// epoch visits every sample once and returns the mean loss.
func (t *trainer) epoch(epoch int) (float64, error) {
	defer t.s.RangeOf("epoch", epoch).End()
	s, batch := t.s, min(t.cfg.Batch, t.n)
	steps := (t.n + batch - 1) / batch
	plan := make([]int32, steps*(1+batch))
	for k := range steps {
		plan[k*(1+batch)] = int32(math.Float32bits(float32(t.cfg.rate(epoch, k, steps))))
	}
	for i, p := range rng.New(t.cfg.Seed, rng.Stream("order", uint64(epoch))).Perm(t.n) {
		plan[1+i+i/batch] = int32(p)
	}
	device.Upload(s, t.plan, plan)
	if t.draws() { // every step adds one
		device.Upload(s, t.step, []uint64{uint64(epoch * steps)})
	}
	for k := 0; k < steps; k++ {
		if s.Context().Err() != nil {
			return 0, s.Context().Err()
		}
		size := min(batch, t.n-k*batch)
		step := s.RangeOf("step", k)
		if size < t.spec.MinBatch() {
			step.End()
			break // batch norm has one value of a channel: PyTorch refuses such a batch, loaders drop it
		}
		s.Copy(t.lr, t.plan.Add(4*k*(1+batch)), 4*(1+size))
		t.run(size)
		s.Copy(t.losses.Add(4*k*batch), t.net.LossBuffer(), 4*size)
		step.End()
	}
	losses := make([]float32, t.n)
	if err := device.Download(s, losses, t.losses); err != nil {
		return 0, err
	}
	var sum float64
	for _, l := range losses {
		sum += float64(l)
	}
	return sum / float64(t.n), nil
}

// run does one step, which is recorded when it is first done.
func (t *trainer) run(size int) {
	g := t.steps[size]
	if g == nil {
		var err error
		if g, err = t.s.Capture(func() { t.record(size) }); err != nil {
			t.s.Fail(fmt.Errorf("train: record a step: %w", err))
			return
		}
		t.steps[size] = g
	}
	g.Launch()
}

// record issues the launches of one step on the batch in index.
func (t *trainer) record(size int) {
	defer t.s.Range("record a step").End()
	s, spec := t.s, t.spec
	if t.aug.Draws != 0 {
		kernel.AugmentDraw(s, t.cfg.Seed, t.step, size, t.cfg.Shift, t.cfg.Flip, t.aug.Draws)
	}
	if t.draws() {
		kernel.Increment(s, t.step)
	}
	x := t.x.Slice(0, size, spec.H, spec.W, spec.C)
	kernel.Gather(s, t.images, t.index, t.aug, size, spec.H, spec.W, spec.C, x)
	kernel.GatherInt32(s, t.labels, t.index, size, t.batchLabels)
	t.net.Forward(nn.Pass{Mode: nn.Train, Theta: t.theta, Running: t.running, X: x, Draws: nn.Draws{Seed: t.cfg.Seed, Step: t.step}})
	_, dlogits := t.net.Loss(t.batchLabels)
	t.net.Backward(dlogits, t.grad, tensor.Tensor{})
	t.net.UpdateRunning(t.running)
	kernel.SGD(s, t.theta.P, t.grad.P, t.momentum, t.lr, *t.cfg.Momentum, *t.cfg.WeightDecay, 1/float64(size), t.cfg.Nesterov, t.theta.Len())
}

// draws reports whether a step draws anything.
func (t *trainer) draws() bool { return t.aug.Draws != 0 || t.spec.Dropout > 0 }

// download returns a copy of m with the parameters as they are now.
func (t *trainer) download(m *nn.Model) (*nn.Model, error) {
	trained := m.Clone()
	if err := device.Download(t.s, trained.Theta, t.theta.P); err != nil {
		return nil, err
	}
	return trained, device.Download(t.s, trained.Running, t.running)
}
