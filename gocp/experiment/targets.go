package experiment

import (
	"fmt"
	"slices"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/usage"
)

// A judge turns logits into prediction sets, the same way for every model of a run: the same
// score, the same u for the same image.
type judge struct {
	scorer *conformal.Scorer
	level  conformal.Level
	uCal   []float64 // of calibration images
	uAux   []float64 // of the adversary's calibration images
	uTest  []float64 // of the test part
	labels []int     // of the test part
}

// A verdict is what one calibrated model says of the whole test part.
type verdict struct {
	threshold conformal.Threshold
	probs     *conformal.Probs
	scores    []float64 // [m,K]
	sets      *conformal.Sets
	dropped   *result.Dropped // before it was trained
}

func newJudge(c Config, s *splits) (*judge, error) {
	v := c.Score
	scorer, err := conformal.NewScorer(v)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	level, err := conformal.ParseLevel(c.Miscoverage)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	v = scorer.Variant()
	draw := func(what string, p part) []float64 {
		return v.Uniforms(rng.Stream("u "+what, c.Seed), 0, p.Len(), s.classes)
	}
	return &judge{scorer: scorer, level: level, uCal: draw("calibration", s.cal), uAux: draw("auxiliary", s.auxCal),
		uTest: draw("test", s.whole), labels: ints(s.whole.Labels)}, nil
}

func ints(y []int32) []int {
	out := make([]int, len(y))
	for i, v := range y {
		out[i] = int(v)
	}
	return out
}

// rule calibrates a model and predicts the whole test part.
func (j *judge) rule(l *logits, cal part, u []float64) (*verdict, error) {
	p, probs, err := l.probs(cal.Len(), len(j.labels))
	if err != nil {
		return nil, err
	}
	v := &verdict{dropped: l.dropped, probs: probs}
	if v.threshold, err = j.scorer.Calibrate(p, ints(cal.Labels), u, j.level); err != nil {
		return nil, err
	}
	if v.scores, err = j.scorer.All(v.probs, j.uTest); err != nil {
		return nil, err
	}
	v.sets, err = j.scorer.Predict(v.probs, j.uTest, v.threshold)
	return v, err
}

// excess is S − τ of a label of a test image.
func (v *verdict) excess(i, y int) float64 { return v.scores[i*v.probs.K+y] - v.threshold.Tau }

// belief joins what the surrogates say of test image i.
func belief(vs []*verdict, i, label int) attack.Belief {
	k := vs[0].probs.K
	b := attack.Belief{Label: label, Image: i, Prob: make([]float64, k), Excess: make([]float64, k)}
	for _, v := range vs {
		for y := range k {
			b.Prob[y] += v.probs.At(i, y) / float64(len(vs))
			b.Excess[y] += v.excess(i, y) / float64(len(vs))
		}
		b.Sets = append(b.Sets, v.sets.Labels(i))
	}
	b.Predicted = conformal.Top(b.Prob)
	return b
}

// A target is a test image whose set the adversary wants to change.
type target struct {
	row    int // in splits.whole
	belief attack.Belief
	aim    attack.Aim
	shown  []int // set sizes under the surrogates

	picture string // its file in the run folder
}

// newTarget is what the goal wants of the image in that row.
func newTarget(goal attack.Goal, row int, b attack.Belief) (target, error) {
	aim, err := goal.Aim(b)
	if err != nil {
		return target{}, err
	}
	t := target{row: row, belief: b, aim: aim}
	for _, set := range b.Sets {
		t.shown = append(t.shown, len(set))
	}
	return t, nil
}

// A group is the targets of one repeat, and the bystanders whose sets are to stay as they are.
type group struct {
	targets    []target
	bystanders []target
	subgroup   *int // that is attacked, if there are subgroups
}

// bystandersPerTarget keeps the crafting loss balanced between those it attacks and those it spares.
const bystandersPerTarget = 4

// choose groups the first eligible candidates by predicted class; with one target in a group that
// is the first eligible candidates, in random order. Only surrogates are asked.
func choose(c Config, goal attack.Goal, s *splits, j *judge, surrogates []*verdict) ([]group, error) {
	count, err := c.poisonCount()
	if err != nil {
		return nil, err
	}
	room := s.room()
	var groups []group
	waiting := map[int][]target{} // by predicted class
	// In an order of their own: targets come from the test part and from spare images alike.
	order := rng.New(c.Seed, rng.Stream("candidates")).Perm(s.candidates)
	eligible, poor := 0, 0
	for _, i := range order {
		b := belief(surrogates, i, j.labels[i])
		if len(groups) == c.Repeats || s.copied[i] || !goal.Eligible(b) {
			continue
		}
		eligible++
		t, err := newTarget(goal, i, b)
		if err != nil {
			return nil, err
		}
		w := append(waiting[b.Predicted], t)
		if !c.fits(count, sourcesOf(goal, w), room) {
			poor++
			continue
		}
		if len(w) == c.Targets {
			groups = append(groups, group{targets: w})
			w = nil
		}
		waiting[b.Predicted] = w
	}
	if len(groups) < c.Repeats {
		less := ""
		if poor > 0 {
			less = fmt.Sprintf(" (%d more need poisons of classes that have too few images for them)", poor)
		}
		copies := ""
		if n := len(s.copied); n > 0 {
			copies = fmt.Sprintf(" (%d are left out as exact copies of images that models train or calibrate on)", n)
		}
		return nil, usage.Errorf("audit: only %d of %d candidates%s are fair targets for %s%s, enough for %d of %d repeats of %d; lower --repeats or give more candidates",
			eligible-poor, s.candidates, copies, c.Goal.Name, less, len(groups), c.Repeats, c.Targets)
	}
	return groups, nil
}

// sourcesOf are the classes that poisons for the targets of one group come from.
func sourcesOf(goal attack.Goal, targets []target) []int {
	var classes []int
	for _, t := range targets {
		classes = append(classes, goal.Classes(t.belief, t.aim)...)
	}
	slices.Sort(classes)
	return slices.Compact(classes)
}

// attacked lists the labels of an aim with their roles, added ones first.
func attacked(a attack.Aim) []result.Attacked {
	var out []result.Attacked
	for _, y := range a.Add {
		out = append(out, result.Attacked{Label: y, Role: result.RoleAdd})
	}
	for _, y := range a.Remove {
		out = append(out, result.Attacked{Label: y, Role: result.RoleRemove})
	}
	return out
}
