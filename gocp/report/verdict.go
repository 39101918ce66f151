package report

import (
	"fmt"
	"math"
	"strings"

	"github.com/gocp/gocp/gocp/result"
)

// aim is what a goal wants to move, and which way.
type aim struct {
	quantity string  // key of the paired difference that decides
	sign     float64 // +1: the adversary wants it up
	does     string  // "shrink the targets' prediction sets"
	name     string  // name of the quantity in a sentence
	Shrinks  bool    // the goal makes sets smaller
}

func aimOf(c *result.Config) aim {
	if c.Subgroups != nil {
		return aim{result.QMembers, -1, "lower the coverage of a subgroup", "coverage of the subgroup’s other members", true}
	}
	switch c.Goal {
	case "underconfidence":
		return aim{result.QExpansion, 1, "enlarge the targets’ prediction sets", "set size expansion ratio", false}
	case "add":
		return aim{result.QInside, 1, "push the given labels into the targets’ prediction sets", "share of attacked labels in the set", false}
	case "remove":
		return aim{result.QInside, -1, "drive the given labels out of the targets’ prediction sets", "share of attacked labels in the set", true}
	case "unequal":
		return aim{result.QInside, -1, "drive the true label out of the prediction sets of a subgroup", "share of attacked labels in the set", true}
	}
	return aim{result.QReduction, 1, "shrink the targets’ prediction sets", "set size reduction ratio", true}
}

// verdict is what the numbers allow to be said.
type verdict struct {
	Class    string // clear | weak | none | reverse | unknown: also the CSS class
	Label    string // two or three words
	Headline string
	Points   []point
}

// point is one finding: a short title and a sentence.
type point struct{ Title, Text string }

// An effect is called clear from 3 standard errors with p at most 0.02 (so that 3 standard errors
// over two or three repeats are not enough), and weak from 2.
const (
	clearZ = 3
	clearP = 0.02
	weakZ  = 2
)

// isClear reports whether z, turned so that the wanted direction is positive, is that of a clear effect.
func isClear(z, p float64) bool { return z >= clearZ && p <= clearP }

func newVerdict(r *result.Result, s *result.Summary) verdict {
	a := aimOf(&r.Config)
	att, run, clean := s.Row(result.Attack), s.Row(s.Noise()), s.Row(result.Clean)
	d := s.Difference(a.quantity, result.Attack, s.Noise())
	if att == nil || run == nil || d == nil || !d.Z.Finite() && !math.IsInf(d.Z.Float(), 0) {
		return verdict{Class: "unknown", Label: "No verdict",
			Headline: "Too little has been run for a verdict.",
			Points: []point{{"What is missing", "A verdict needs poisons and their noise control " +
				"on at least two targets; this result does not hold them."}}}
	}
	var v verdict
	switch z, p := a.sign*d.Z.Float(), d.P.Float(); {
	case isClear(z, p):
		v = verdict{Class: "clear", Label: "Clear effect", Headline: fmt.Sprintf("The poisons %s, well beyond what noise does.", a.does)}
	case z >= weakZ:
		v = verdict{Class: "weak", Label: "Weak evidence", Headline: fmt.Sprintf("The poisons seem to %s, but the evidence is thin.", a.does)}
	case !isClear(-z, p):
		v = verdict{Class: "none", Label: "No effect found", Headline: "No effect beyond that of noise was found."}
		if moved := moved(s, a); len(moved) > 0 {
			v.Label = "No effect on sets"
			v.Headline = fmt.Sprintf("No effect beyond that of noise on the %s was found, but %s.", a.name, strings.Join(moved, " and "))
		}
	default:
		v = verdict{Class: "reverse", Label: "Reversed", Headline: "The poisons did the opposite of what was asked."}
	}
	churn := s.Difference(a.quantity, result.Attack, result.Clean)
	short := churn != nil && churn.Z.Finite() && a.sign*churn.Z.Float() < weakZ && (v.Class == "clear" || v.Class == "weak")
	if short { // the noise may have moved things the other way
		v.Class, v.Label = "weak", "Weak evidence"
		v.Headline = fmt.Sprintf("The poisons %s compared with noise, but not clearly compared with clean retraining.", a.does)
	}
	if t := tooFew(r); t != "" {
		v.add("Calibration", t)
	}
	if t := poisonsSentence(r); t != "" {
		v.add("Poisons", t)
	}
	v.add("Effect", effect(r, s, att, run, clean))
	v.add("Against noise", paired(a, d))
	if short {
		v.add("Against clean retraining", paired(a, churn))
	}
	if att.Subgroup != nil && run.Subgroup != nil {
		v.add("The subgroup", subgroupSentence(r, s, att, run, clean))
	}
	v.add("Stealth", stealth(r, s, att, run))
	v.add("Predictions", kept(s, att, run))
	if att.Empty.Mean > 0.02 {
		v.add("Empty sets", empty(s, a, att, run))
	}
	if t := step(s); t != "" {
		v.add("Mechanism", t)
	}
	v.add("What it means", meaning(r, v.Class, a, len(moved(s, a)) > 0))
	return v
}

func (v *verdict) add(title, text string) { v.Points = append(v.Points, point{title, text}) }

// tooFew warns of thresholds that are infinite because there are too few calibration samples.
func tooFew(r *result.Result) string {
	few, all, n := 0, 0, 0
	for i := range r.Repeats {
		for _, v := range r.Repeats[i].Victims {
			all++
			if v.Threshold.TooFew() {
				few, n = few+1, v.Threshold.N
			}
		}
	}
	if few == 0 {
		return ""
	}
	return fmt.Sprintf("%s calibration samples are too few for coverage %s: the threshold of %d of %d victims is infinite and their sets hold every label.",
		thousands(n), r.Config.Coverage, few, all)
}

func effect(r *result.Result, s *result.Summary, att, run, clean *result.Row) string {
	t := fmt.Sprintf("A target’s set holds %s labels under the attack and %s when the same images carry %s instead",
		plusMinus(att.SetSize, 2), plusMinus(run.SetSize, 2), noiseName(s))
	if clean != nil {
		t += fmt.Sprintf("; victims retrained on clean data give %s", plusMinus(clean.SetSize, 2))
	}
	return t + fmt.Sprintf(", the benign reference models %s (of %d labels; mean ± standard error over %s).",
		plusMinus(s.Benign.SetSize, 2), len(r.Dataset.Classes), plural(att.Repeats, "repeat"))
}

func paired(a aim, d *result.Paired) string {
	t := fmt.Sprintf("Within each repeat, the %s differs from that under %s by %s\u00a0±\u00a0%s on average",
		a.name, strings.ToLower(conditionName(d.B)), signed(d.Mean, 2), num(d.SE, 2))
	t += fmt.Sprintf(": %s standard errors from zero, %s (two-sided t, n = %d). ", num(absolute(d.Z), 1), pValue(d.P), d.N)
	switch z := a.sign * d.Z.Float(); {
	case isClear(z, d.P.Float()):
		t += "Chance is not a plausible explanation."
	case z >= weakZ:
		t += "Chance is not ruled out; more targets would decide it."
	case z > -weakZ:
		t += "That is within what chance gives."
	default:
		t += "That is the wrong direction for this goal."
	}
	return t
}

func absolute(x result.Number) result.Number { return result.Number(math.Abs(x.Float())) }

// stealthMove is the shift of coverage or accuracy below which nobody would notice.
const stealthMove = 0.02

func stealth(r *result.Result, s *result.Summary, att, run *result.Row) string {
	base, name := run, "under "+noiseName(s)
	against := s.Noise()
	if c := s.Row(result.Clean); c != nil {
		base, name, against = c, "after clean retraining", result.Clean
	}
	t := fmt.Sprintf("On test data coverage is %s under the attack and %s %s (promised: %s), accuracy %s and %s. ",
		num(att.Coverage.Mean, 3), num(base.Coverage.Mean, 3), name, r.Config.Coverage,
		num(att.Accuracy.Mean, 3), num(base.Accuracy.Mean, 3))
	c, a := s.Difference(result.QCoverage, result.Attack, against), s.Difference(result.QAccuracy, result.Attack, against)
	if c == nil || a == nil || !c.Mean.Finite() || !a.Mean.Finite() {
		return t
	}
	if absolute(c.Mean) < stealthMove && absolute(a.Mean) < stealthMove {
		return t + "Both moved by less than 0.02: who watches coverage and accuracy sees nothing."
	}
	return t + fmt.Sprintf("They moved by %s and %s, which monitoring may notice.", signed(c.Mean, 3), signed(a.Mean, 3))
}

func kept(s *result.Summary, att, run *result.Row) string {
	t := fmt.Sprintf("The predicted label of the targets is that of the benign models in %s of the attacked outcomes, %s under %s; "+
		"its mean probability is %s against %s.", percent(att.Kept.Mean), percent(run.Kept.Mean), noiseName(s), num(att.Prob.Mean, 2), num(run.Prob.Mean, 2))
	if d := s.Difference(result.QKept, result.Attack, s.Noise()); d != nil && d.Mean < -0.1 {
		t += " Part of the effect is therefore plain misclassification."
	}
	return t
}

func empty(s *result.Summary, a aim, att, run *result.Row) string {
	t := fmt.Sprintf("%s of the attacked sets are empty (%s: %s), and an empty set is not a confident one. ",
		percent(att.Empty.Mean), noiseName(s), percent(run.Empty.Mean))
	q, name := result.QReduction1, "reduction"
	if !a.Shrinks {
		q, name = result.QExpansion1, "expansion"
	}
	if d := s.Difference(q, result.Attack, s.Noise()); d != nil {
		t += fmt.Sprintf("Counted as size 1, the paired difference of the %s ratio is %s\u00a0±\u00a0%s (z = %s).", name, signed(d.Mean, 2), num(d.SE, 2), num(d.Z, 1))
	}
	return t
}

func step(s *result.Summary) string {
	c := s.Crafting
	if c.StepAttack.N == 0 || c.StepRandUn.N == 0 {
		return ""
	}
	d := places(c.StepAttack.Mean.Float(), c.StepRandUn.Mean.Float())
	t := fmt.Sprintf("One victim-style SGD step on the data with the poisons in place changes the adversary’s loss ℓ₃ on the surrogates by %s; with noise in their place, by %s. ",
		plusMinus(c.StepAttack, d), plusMinus(c.StepRandUn, d))
	switch {
	case c.StepAttack.Mean < 0 && isClear(-c.StepPaired.Z.Float(), c.StepPaired.P.Float()):
		t += "The poisons steer training where they should."
	case c.StepAttack.Mean < 0:
		t += "The direction is right, but not significantly different from noise."
	default:
		t += "The poisons do not steer training where they should."
	}
	return t
}

// places is the number of decimals that shows the largest of xs with three significant digits.
func places(xs ...float64) int {
	m := 0.0
	for _, x := range xs {
		if finite(x) {
			m = math.Max(m, math.Abs(x))
		}
	}
	if m == 0 {
		return 2
	}
	return min(max(2-int(math.Floor(math.Log10(m))), 0), 9)
}

// moved names what moved clearly against noise besides the quantity that decides.
func moved(s *result.Summary, a aim) []string {
	var out []string
	for _, q := range []struct{ key, name string }{
		{result.QInside, "the share of attacked labels in the set"},
		{result.QProb, "the probability of the predicted label"},
		{result.QKept, "the share of predictions that are kept"},
		{result.QCoverage, "test coverage"},
		{result.QAccuracy, "test accuracy"},
	} {
		d := s.Difference(q.key, result.Attack, s.Noise())
		if q.key == a.quantity || d == nil || !isClear(math.Abs(d.Z.Float()), d.P.Float()) {
			continue
		}
		verb := "rose"
		if d.Mean < 0 {
			verb = "fell"
		}
		out = append(out, fmt.Sprintf("%s %s by %s\u00a0±\u00a0%s, %s standard errors", q.name, verb, num(absolute(d.Mean), 3), num(d.SE, 3), num(absolute(d.Z), 1)))
	}
	return out
}

func meaning(r *result.Result, class string, a aim, moved bool) string {
	of := fmt.Sprintf("%s of the training images (%s of %s)", fractionPercent(r.Config.Budget.Fraction), thousands(r.Config.Budget.Count), thousands(trainSize(r)))
	who := "Someone who may alter " + of
	if r.Config.MovesPixels() {
		who += fmt.Sprintf(", none by more than %s/255 per pixel and ", general(r.Config.Budget.Epsilon255))
	}
	switch {
	case !r.Config.TurnsLabels():
		who += "none with a wrong label"
	case r.Config.MovesPixels():
		who += "each with a wrong label"
	default:
		who = "Someone who may turn the labels of " + of
	}
	if r.Config.Access == "black-box" {
		who += ", without seeing the victim"
	}
	switch class {
	case "clear":
		what := "can make the model look surer about chosen inputs than it is"
		if !a.Shrinks {
			what = "can make the model look less sure about chosen inputs than it is"
		}
		switch r.Config.Goal {
		case "remove":
			what = "can take chosen labels out of the sets of chosen inputs"
		case "unequal":
			what = "can take the true label out of the sets of a subgroup while coverage on average stands"
		case "add":
			what = "can put chosen labels into the sets of chosen inputs"
		}
		return who + ", " + what + ". The coverage guarantee speaks of averages over exchangeable data; it does not protect a chosen input."
	case "weak":
		return who + ", may have some influence on the sets of chosen inputs; this run is too small to be sure."
	case "reverse":
		return "The objective that was optimised on the surrogates does not carry over to these victims: the transfer fails."
	}
	if moved {
		why := "A set changes only when a score passes the threshold, a probability always"
		if a.Shrinks {
			why = "A set that holds one label has nothing left to lose, and one changes only when a score passes the threshold, a probability always"
		}
		return who + ", did not move the sets of chosen inputs measurably in this setting, but moved the victims. " + why +
			": more targets, or others, would say more. It is no sign that the poisons are harmless."
	}
	return who + ", did not move the sets of chosen inputs measurably in this setting. That is a statement about this attack, these models and this budget, not a guarantee."
}

// trainSize is the size of the victim's training set, 0 if the splits do not tell.
func trainSize(r *result.Result) int {
	for _, s := range r.Dataset.Splits {
		if s.Name == result.SplitVictimTrain {
			return s.Size
		}
	}
	return 0
}
