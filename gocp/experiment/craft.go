package experiment

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// craft makes the poisons of group g and writes their bundle.
func (r *run) craft(ctx context.Context, g int) error {
	start, crafted := time.Now(), 0
	end := r.opt.Meter.Begin(roleCraft)
	defer func() { end(crafted) }()
	groups, err := r.targets()
	if err != nil {
		return err
	}
	p, err := r.problem(g, groups[g])
	if err != nil {
		return err
	}
	if err := r.folder.mine(); err != nil {
		return err
	}
	dir := r.folder.path(poisonsDir, bundleName(g))
	if err := os.RemoveAll(dir); err != nil { // what is left of a damaged one
		return fmt.Errorf("run folder: %w", err)
	}
	files, found, err := r.shared(ctx, func() (string, error) { return r.craftKey(g, groups[g], p) }, dir, func() ([]string, error) {
		b, err := r.bundle(ctx, g, groups[g], p)
		if err != nil {
			return nil, err
		}
		if err := r.folder.mine(); err != nil {
			return nil, err
		}
		crafted = len(b.Bases)
		return attack.WriteBundle(dir, b)
	})
	if err != nil {
		return err
	}
	for i, file := range files {
		files[i] = poisonsDir + "/" + bundleName(g) + "/" + file
	}
	if err := r.folder.journal.Wrote(files...); err != nil {
		return err
	}
	r.done(craftName(g))
	if found {
		r.found(roleCraft)
		return nil
	}
	r.opt.Tally.Add(TallyPoisons, crafted)
	return r.folder.tick("craft", time.Since(start))
}

// bundle makes the poisons that p asks for.
func (r *run) bundle(ctx context.Context, g int, gr group, p *attack.Problem) (*attack.Bundle, error) {
	onDevice, ended := steady(ctx)
	defer ended()
	under := r.partial(ctx, craftName(g))
	if c, f := under.count(); f != nil && r.cfg.Budget == BudgetAuto && c.Count < p.Count {
		p.Count = c.Count // larger ones were tried
	}
	var poisons *attack.Poisons
	for {
		err := r.fleet.Do(onDevice, 1, func(s *device.Stream) (err error) {
			defer s.RangeOf("repeat", g).End()
			poisons, err = r.solve(s, g, p, under)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("group %d: %w", g, err)
		}
		if r.cfg.Budget != BudgetAuto {
			break
		}
		kept, err := r.keeps(ctx, g, gr, poisons)
		if err != nil {
			return nil, err
		}
		if kept || p.Count/2 < max(1, len(p.Classes)) {
			break
		}
		p.Count /= 2
	}
	b := &attack.Bundle{Poisons: poisons, Dataset: r.data.Train.SHA256}
	for _, i := range poisons.Bases {
		b.DataIndex = append(b.DataIndex, r.split.auxTrain.index[i])
	}
	for _, t := range gr.targets {
		b.Targets = append(b.Targets, attack.Aimed{Index: r.split.whole.index[t.row], Label: t.belief.Label, Aim: t.aim})
	}
	return b, nil
}

func craftName(g int) string { return "poisons-" + bundleName(g) }

// problem states the poisoning task of a group: two of the surrogates, their training images and
// what is wanted of each target.
func (r *run) problem(g int, gr group) (*attack.Problem, error) {
	p := &attack.Problem{Pool: r.split.auxTrain.Images, Score: r.judge.scorer.Variant(), Level: r.judge.level,
		Precision: precision(r.cfg.Precision), Seed: r.cfg.seedOf("craft", g), Memory: r.memory()}
	p.Training = func(i int) (nn.Spec, train.Config) {
		spec, recipe := r.surrogate(i)
		return spec, recipe.config(0, r.cfg.Precision)
	}
	var err error
	if p.Count, err = r.cfg.poisonCount(); err != nil {
		return nil, err
	}
	for i := range r.cfg.Attackers {
		name := benignName(roleSurrogate, i)
		m, err := nn.Load(r.folder.path(modelFile(name)))
		if err != nil {
			return nil, err
		}
		_, recipe := r.surrogate(i)
		p.Surrogates = append(p.Surrogates, attack.Surrogate{Name: name, Model: m, Calibration: r.split.auxCal.Images, Train: recipe.config(0, r.cfg.Precision)})
	}
	for _, t := range gr.targets {
		p.Targets = append(p.Targets, attack.Target{Image: r.split.whole.At(t.row), Aim: t.aim})
	}
	for _, t := range gr.bystanders {
		p.Targets = append(p.Targets, attack.Target{Image: r.split.whole.At(t.row), Aim: t.aim, Bystander: true})
	}
	if r.cfg.Craft.TurnsLabels() {
		p.Room = r.split.room()
	} else {
		p.Classes = sourcesOf(r.goal, gr.targets)
	}
	return p, nil
}

// solve makes the poisons and holds one training step on them against one on noise in their place.
func (r *run) solve(s *device.Stream, g int, p *attack.Problem, under *partial) (*attack.Poisons, error) {
	solver, err := attack.NewSolver(s, p, r.cfg.Craft)
	if err != nil {
		return nil, err
	}
	o := under.crafted(p.Count)
	o.Step, o.Last = r.bars.unit(roleCraft), r.cfg.Budget == BudgetAuto // what is tried out then takes as long again
	poisons, err := solver.PoisonsFrom(o)
	if err != nil {
		return nil, err
	}
	noise, err := r.noise(g, r.cfg.control(), poisons.Before, poisons.Bases)
	if err != nil {
		return nil, err
	}
	for _, x := range []struct {
		images attack.Images
		after  *attack.After
	}{{poisons.Before, &poisons.Report.Clean}, {poisons.Images(), &poisons.Report.Attack}, {noise.Images(), &poisons.Report.Noise}} {
		if *x.after, err = solver.Step(x.images, r.cfg.VictimTrain.LR); err != nil {
			return nil, err
		}
	}
	return poisons, nil
}

func (c Config) noiseSeed(g int, cond result.Condition) uint64 {
	return c.seedOf("noise "+string(cond), g)
}

// noise makes the poisons of a noise control for group g.
func (r *run) noise(g int, c result.Condition, bases attack.Images, index []int) (*attack.Poisons, error) {
	seed := r.cfg.noiseSeed(g, c)
	switch c {
	case result.RandGa:
		return attack.RandGa(bases, index, r.cfg.Craft.Epsilon255, seed)
	case result.RandLabel:
		return attack.RandLabel(bases, index, r.split.classes, r.cfg.Craft.Epsilon255, seed)
	}
	return attack.RandUn(bases, index, r.cfg.Craft.Epsilon255, seed)
}

// poisonsOf returns what a condition puts into the training data of group g's victims.
func (r *run) poisonsOf(g int, c result.Condition, b *attack.Bundle) (*attack.Poisons, error) {
	if c == result.Attack {
		return b.Poisons, nil
	}
	return r.noise(g, c, b.Before, b.Bases)
}

// inject returns the victim's training images with the poisons of group g in place, and which
// images they replaced. A black-box adversary's images replace as many of the victim's of the
// same class, whatever their labels are turned into; a white-box one's replace their own bases.
func (r *run) inject(g int, p *attack.Poisons) (attack.Images, []int, error) {
	place := p.Bases
	if !r.cfg.WhiteBox {
		var err error
		if place, err = r.places(g, p.Before.Labels); err != nil {
			return attack.Images{}, nil, err
		}
	}
	return replace(r.split.train.Images, p.Images(), place), place, nil
}

// replace returns a copy of images in which image place[i] is poison i.
func replace(images, poisons attack.Images, place []int) attack.Images {
	out := images
	out.Pixels, out.Labels = slices.Clone(images.Pixels), slices.Clone(images.Labels)
	for i, at := range place {
		copy(out.At(at), poisons.At(i))
		out.Labels[at] = poisons.Labels[i]
	}
	return out
}

// places draws which of the victim's images make room for the poisons of group g, class by class.
func (r *run) places(g int, labels []int32) ([]int, error) {
	place := make([]int, len(labels))
	for i := range place {
		place[i] = -1
	}
	if y := room(r.cfg.seedOf("places", g), r.split.train.Labels, r.split.classes, labels, place); y >= 0 {
		return nil, usage.Errorf("audit: the budget has more poisons of class %d than the victim has images of it; lower --budget", y)
	}
	return place, nil
}

// room gives every poison that has no place yet (−1) that of a training image of its class that
// is still free, drawn by the seed. It returns a class that ran out of images, −1 if none did.
func room(seed uint64, train []int32, classes int, labels []int32, place []int) (short int) {
	taken := make(map[int]bool, len(place))
	for _, at := range place {
		if at >= 0 {
			taken[at] = true
		}
	}
	byClass := make([][]int, classes)
	for i, y := range train {
		if !taken[i] {
			byClass[y] = append(byClass[y], i)
		}
	}
	for y, members := range byClass {
		src := rng.New(seed, uint64(y))
		src.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	}
	for i, y := range labels {
		if place[i] >= 0 {
			continue
		}
		if int(y) >= classes || len(byClass[y]) == 0 {
			return int(y)
		}
		place[i], byClass[y] = byClass[y][0], byClass[y][1:]
	}
	return -1
}

// retrained is how many fresh surrogates judge a budget under BudgetAuto, at least one of each kind.
const retrained = 2

func (r *run) judges() int { return max(retrained, len(r.surrogateSpecs)) }

// keeps reports whether surrogates that are retrained on the poisons still predict the targets as
// before.
func (r *run) keeps(ctx context.Context, g int, gr group, p *attack.Poisons) (bool, error) {
	images := replace(r.split.auxTrain.Images, p.Images(), p.Bases)
	var pixels []uint8
	for _, t := range gr.targets {
		pixels = append(pixels, r.split.whole.At(t.row)...)
	}
	k := r.split.classes
	mean := make([]float64, len(gr.targets)*k)
	onDevice, ended := steady(ctx)
	defer ended()
	var names []string
	defer func() {
		if ctx.Err() == nil {
			r.done(names...)
		}
	}()
	for i := range r.judges() {
		name := fmt.Sprintf("budget-%s-%d-%d", bundleName(g), len(p.Bases), i)
		names = append(names, name)
		err := r.fleet.Do(onDevice, 1, func(s *device.Stream) error {
			defer s.RangeOf("repeat", g).End()
			defer s.Range("try the budget").End()
			spec, recipe := r.surrogate(i)
			m, err := fit(s, spec, recipe, train.Defense{}, images, r.cfg.seedOf("budget", g, i), r.cfg.Precision, nil, nil, r.partial(ctx, name))
			if err != nil {
				return err
			}
			out, err := train.Predict(s, m, pixels, precision(r.cfg.Precision))
			if err != nil {
				return err
			}
			probs, err := conformal.Softmax(len(gr.targets), k, out.Logits)
			if err != nil {
				return err
			}
			for j := range mean {
				mean[j] += probs.At(j/k, j%k)
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	for i, t := range gr.targets {
		if conformal.Top(mean[i*k:(i+1)*k]) != t.belief.Predicted {
			return false, nil
		}
	}
	return true, nil
}
