package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/report"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/slurm"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// reportFile is the report's name inside a run folder.
const reportFile = "report.html"

// The options of an audit in groups: its parts take some of them each.

type auditOption = option[experiment.Config]

var defaults = experiment.Config{}.WithDefaults()

// goals, scores and ball are what options go with.
func goals(names ...string) (string, func(*experiment.Config) bool) {
	return "--goal " + orList(names), func(c *experiment.Config) bool { return slices.Contains(names, c.Goal.Name) }
}

func scores(names ...string) (string, func(*experiment.Config) bool) {
	return "--score " + orList(names), func(c *experiment.Config) bool { return slices.Contains(names, c.Score.Name) }
}

func ball() (string, func(*experiment.Config) bool) {
	return "the worst case in a ball, not with --plain", func(c *experiment.Config) bool { return !c.Craft.Plain }
}

func craftBy(names ...string) (string, func(*experiment.Config) bool) {
	return "--method " + orList(names), func(c *experiment.Config) bool { return slices.Contains(names, c.Craft.Method) }
}

func pixels() (string, func(*experiment.Config) bool) {
	return "--poison images or both", func(c *experiment.Config) bool { return c.Craft.MovesPixels() }
}

func aligns() (string, func(*experiment.Config) bool) {
	return "--method alignment or witchesbrew and --poison images or both", func(c *experiment.Config) bool {
		return c.Craft.MovesPixels() && c.Craft.Method != attack.MethodMetaPoison
	}
}

func turns() (string, func(*experiment.Config) bool) {
	return "--poison labels or both", func(c *experiment.Config) bool { return c.Craft.TurnsLabels() }
}

func chosen() (string, func(*experiment.Config) bool) {
	return "--poison images", func(c *experiment.Config) bool { return !c.Craft.TurnsLabels() }
}

func order2() (string, func(*experiment.Config) bool) {
	return "--order 2", func(c *experiment.Config) bool { return c.Craft.Order == 2 }
}

func iterates() (string, func(*experiment.Config) bool) {
	return "--order 2 and --solver " + orList([]string{curvature.CG, curvature.LiSSA}), func(c *experiment.Config) bool {
		return c.Craft.Order == 2 && c.Craft.Second.Solver != curvature.Kron
	}
}

// ofSets are the methods whose loss is one of prediction sets.
func ofSets() (string, func(*experiment.Config) bool) {
	return "a method whose loss is of prediction sets", func(c *experiment.Config) bool { return !c.Craft.Misclassifies() }
}

// brew has the defaults of witchesbrew.
var brew = experiment.Config{Craft: attack.Config{Method: attack.MethodWitchesBrew}}.WithDefaults()

// unrolled has the defaults of metapoison.
var unrolled = experiment.Config{Craft: attack.Config{Method: attack.MethodMetaPoison}}.WithDefaults()

// second has the defaults of second order.
var second = experiment.Config{Craft: attack.Config{Order: 2}}.WithDefaults()

func goalOptions() []auditOption {
	type C = experiment.Config
	d := defaults
	return under("The goal", []auditOption{
		text("goal", "what the adversary wants: "+strings.Join(attack.GoalNames(), ", "), &d, func(c *C) *string { return &c.Goal.Name }),
		words("labels", "goals add and remove: the labels by name or number, such as cat,dog or 3,5; a name comes first", func(c *C) *[]string { return &c.Goal.Words }).only(goals("add", "remove")),
		truth("true-label", "goal remove: the true label", func(c *C) *bool { return &c.Goal.True }).only(goals("remove")),
		count("add-count", "goal underconfidence: how many labels to add", 1, &C{Goal: attack.GoalConfig{Count: 4}}, func(c *C) *int { return &c.Goal.Count }).only(goals("underconfidence")),
		truth("reckless", "let the prediction and the true label change", func(c *C) *bool { return &c.Goal.Reckless }).
			only("--goal overconfidence, underconfidence, add or remove, and a method that keeps them", func(c *C) bool {
				return slices.Contains([]string{"overconfidence", "underconfidence", "add", "remove"}, c.Goal.Name) && !c.Craft.Misclassifies()
			}),
	})
}

// scoreOptions are those of scores among the named.
func scoreOptions(names []string) []auditOption {
	type C = experiment.Config
	d := defaults
	return under("The prediction sets", []auditOption{
		text("score", "non-conformity score: "+strings.Join(names, ", "), &d, func(c *C) *string { return &c.Score.Name }),
		text("u", "the u of randomised scores: one, sample, label", &d, func(c *C) *string { return (*string)(&c.Score.U) }).only(scores(scoresOfU...)),
		number("lambda", "raps, saps: weight of the rank", 0, &d, func(c *C) *float64 { return &c.Score.Lambda }).only(scores(scoresOfLambda...)),
		count("kreg", "raps: ranks without a penalty", 0, &d, func(c *C) *int { return &c.Score.KReg }).only(scores("raps")),
		truth("nonempty", "give empty sets the top label", func(c *C) *bool { return &c.Score.Nonempty }),
		text("miscoverage", "ε: sets miss the true label this often", &d, func(c *C) *string { return &c.Miscoverage }),
	})
}

func craftOptions() []auditOption {
	type C = experiment.Config
	d := defaults
	return under("The poisons", []auditOption{
		text("method", "how they are crafted: "+strings.Join(attack.MethodNames(), ", "), &d, func(c *C) *string { return &c.Craft.Method }),
		count("ages", "surrogates that training is unrolled on, of staggered ages", 1, &unrolled, func(c *C) *int { return &c.Craft.Meta.Ages }).only(craftBy(attack.MethodMetaPoison)),
		count("unroll", "steps of training that are unrolled", 1, &unrolled, func(c *C) *int { return &c.Craft.Meta.Unroll }).only(craftBy(attack.MethodMetaPoison)),
		count("age-every", "steps of crafting after which these surrogates train for an epoch", 1, &unrolled, func(c *C) *int { return &c.Craft.Meta.AgeEvery }).only(craftBy(attack.MethodMetaPoison)),
		text("adversarial-label", "what targets are to be taken for: "+strings.Join(attack.AdversarialLabels(), ", "), &brew, func(c *C) *string { return &c.Craft.AdversarialLabel }).only(craftBy(attack.MethodWitchesBrew)),
		text("budget", "share of the training set that is poisoned, or auto", &C{Budget: d.Budget + "; 0.01 where sets are to grow"}, func(c *C) *string { return &c.Budget }),
		text("poison", "what poisons change: images, their pixels; labels; both", &d, func(c *C) *string { return &c.Craft.Poison }),
		count("rounds", "parts in which labels are turned; between them the surrogates train on for an epoch", 1, &C{Craft: attack.Config{Rounds: 1}}, func(c *C) *int { return &c.Craft.Rounds }).only(turns()),
		number("epsilon", "largest change of a pixel, in 255ths", 0, &d, func(c *C) *float64 { return &c.Craft.Epsilon255 }).only(pixels()),
		text("bases", "which images become poisons: "+strings.Join(attack.Choices(), ", "),
			&C{Craft: attack.Config{Bases: d.Craft.Bases + "; nearest where sets are to grow"}}, func(c *C) *string { return &c.Craft.Bases }),
		truth("diverse", "of the best of them, take those that lie apart", func(c *C) *bool { return &c.Craft.Diverse }).only(chosen()),
		text("align", "what is aligned: poison, sum, batch", &d, func(c *C) *string { return &c.Craft.Align }).only(aligns()),
		text("loss", "the adversary's loss: pairwise, softquantile", &d, func(c *C) *string { return &c.Craft.Loss }).only(ofSets()),
		count("order", "1: along the adversary's gradient; 2: along the inverse curvature of the training loss times it", 1, &d, func(c *C) *int { return &c.Craft.Order }).only(craftBy(attack.MethodAlignment)),
		text("second-order", "once: one solve a surrogate; exact: two in every step, as the paper does", &second, func(c *C) *string { return &c.Craft.Second.Mode }).only(order2()),
		text("curvature", "of which matrix: "+strings.Join(curvature.Kinds(), ", "), &second, func(c *C) *string { return &c.Craft.Second.Curvature }).only(order2()),
		text("damping", "λ, what is added to its diagonal, or auto: the least at which the solver converges", &second, func(c *C) *string { return &c.Craft.Second.Damping }).only(order2()),
		text("solver", "how the system is solved: "+strings.Join(curvature.Solvers(), ", "), &second, func(c *C) *string { return &c.Craft.Second.Solver }).only(order2()),
		text("preconditioner", "of --solver cg: "+strings.Join(curvature.Preconditioners(), ", "), &second, func(c *C) *string { return &c.Craft.Second.Preconditioner }).
			only("--order 2 and --solver cg", func(c *C) bool { return c.Craft.Order == 2 && c.Craft.Second.Solver == curvature.CG }),
		count("solve-iterations", "iterations of the solver, at most", 1, &second, func(c *C) *int { return &c.Craft.Second.Iterations }).only(iterates()),
		number("solve-tolerance", "residual at which the solver ends, as a share of the gradient's norm", 0, &second, func(c *C) *float64 { return &c.Craft.Second.Tolerance }).only(iterates()),
		count("curvature-images", "of how many of the adversary's training images the curvature is taken, at most", 1, &second, func(c *C) *int { return &c.Craft.Second.Images }).only(order2()),
		count("steps", "steps of crafting; of metapoison 60 unless given", 1, &d, func(c *C) *int { return &c.Craft.Steps }).only(pixels()),
		count("restarts", "restarts of crafting; the best is kept", 1, &d, func(c *C) *int { return &c.Craft.Restarts }).only(pixels()),
		count("craft-batch", "mini-batch of --align batch", 1, &d, func(c *C) *int { return &c.Craft.Batch }).
			only("--align batch", func(c *C) bool { return c.Craft.Align == attack.AlignBatch }),
		number("step-size", "step of crafting, as a share of epsilon", 0, &d, func(c *C) *float64 { return &c.Craft.StepSize }).only(pixels()),
		text("start", "where crafting starts: uniform, normal", &d, func(c *C) *string { return &c.Craft.Start }).only(pixels()),
		text("threshold", "in the loss's gradient, the threshold is fixed, or moving with the calibration scores", &d, func(c *C) *string { return &c.Craft.Threshold }).only(ofSets()),
		number("keep-beta", "how far the prediction is secured before the loss stops caring", 0, &d, func(c *C) *float64 { return &c.Craft.KeepBeta }).
			only("a goal that keeps the prediction, not with --reckless or a method that misclassifies", func(c *C) bool { return !c.Goal.Reckless && !c.Craft.Misclassifies() }),
		number("margin", "margin of the hinges", -1, &d, func(c *C) *float64 { return &c.Craft.Margin }).only(ofSets()),
		count("window", "pairwise loss: calibration scores next to the rank; 0: all", 0, &d, func(c *C) *int { return &c.Craft.Window }).
			only("--loss pairwise", func(c *C) bool { return c.Craft.Loss == attack.LossPairwise }),
		number("bandwidth", "soft quantile: bandwidth, as a share of the ranks", 0, &C{Craft: attack.Config{Bandwidth: 0.01}}, func(c *C) *float64 { return &c.Craft.Bandwidth }).
			only("--loss softquantile", func(c *C) bool { return c.Craft.Loss == attack.LossSoftQuantile }),
		truth("plain", "minimise the loss itself and not its worst case in a ball of parameters", func(c *C) *bool { return &c.Craft.Plain }).only(craftBy(attack.MethodAlignment)),
		number("sam-rho", "radius of that ball", 0, &d, func(c *C) *float64 { return &c.Craft.SAMRho }).only(ball()),
		upTo(math.Inf(1), "sam-p", "norm of that ball, above 1; +Inf too", 0, &d, func(c *C) *float64 { return (*float64)(&c.Craft.SAMP) }).only(ball()),
		count("sam-steps", "ascent steps in that ball", 1, &d, func(c *C) *int { return &c.Craft.SAMSteps }).only(ball()),
	})
}

func sizeOptions() []auditOption {
	type C = experiment.Config
	d := defaults
	return under("The experiment", []auditOption{
		count("repeats", "groups of targets, each with its own poisons; where sets are to grow 20 unless given, 6 of unequal", 1, &d, func(c *C) *int { return &c.Repeats }),
		count("set-size", "size of the sets that targets begin with; 0: what suits the goal", 0, &d, func(c *C) *int { return &c.Goal.Size }),
		count("targets", "targets of a group; of unequal, all of one subgroup, 16 unless given", 1, &d, func(c *C) *int { return &c.Targets }),
		text("subgroups", "goal unequal: how images are divided, each repeat attacks one part: clusters of the surrogates' features, classes, coarse classes of CIFAR-100, or a file with a number for each image of the test part",
			&C{Subgroups: experiment.Subgroups{By: experiment.SubgroupClusters}}, func(c *C) *string { return &c.Subgroups.By }).only(goals("unequal")),
		count("clusters", "how many clusters", 2, &C{Subgroups: experiment.Subgroups{Clusters: 20}}, func(c *C) *int { return &c.Subgroups.Clusters }).
			only("--subgroups clusters", func(c *C) bool { return c.Subgroups.By == experiment.SubgroupClusters }),
		count("victims", "victims of a group, under attack and randun; half as many under randga, and under clean the controls", 1, &d, func(c *C) *int { return &c.Victims }),
		{
			flag: &cli.StringFlag{Name: "conditions", Usage: "what is compared", DefaultText: joinConditions(d.Conditions)},
			set: func(c *cli.Context, cfg *C) error {
				cfg.Conditions = nil
				for _, w := range strings.Split(c.String("conditions"), ",") {
					cfg.Conditions = append(cfg.Conditions, result.Condition(strings.TrimSpace(w)))
				}
				return nil
			},
		},
		count("surrogates", "models of the adversary", 1, &d, func(c *C) *int { return &c.Surrogates }),
		count("attackers", "surrogates that poisons are crafted on", 1, &d, func(c *C) *int { return &c.Attackers }),
		count("references", "benign models that measure the sets before", 1, &d, func(c *C) *int { return &c.References }),
		count("controls", "benign models that show the churn of retraining", 1, &d, func(c *C) *int { return &c.Controls }).
			only("--conditions that hold clean", func(c *C) bool { return slices.Contains(c.Conditions, result.Clean) }),
		truth("white-box", "the adversary sees the victim's own data", func(c *C) *bool { return &c.WhiteBox }),
		count("train-size", "images a victim trains on", 1, &d, func(c *C) *int { return &c.TrainSize }),
		count("cal-size", "images a victim calibrates on; with another --train-size a ninth of it unless given", 1, &d, func(c *C) *int { return &c.CalSize }),
		count("candidates", "images that targets are chosen from: test images, then left over training images", 1, &d, func(c *C) *int { return &c.Candidates }),
	})
}

// recipeOptions come before the flags that override a recipe's numbers.
func recipeOptions() []auditOption {
	return under("The models", []auditOption{{
		flag: &cli.StringFlag{Name: "recipe", Usage: "how models are trained, where no flag says otherwise: " + strings.Join(experiment.Recipes(), ", "), DefaultText: experiment.DefaultRecipe},
		set: func(c *cli.Context, cfg *experiment.Config) error {
			cfg.VictimTrain, cfg.SurrogateTrain = experiment.Train{Recipe: c.String("recipe")}, experiment.Train{}
			cfg.Craft.Shift, cfg.Craft.Pad, cfg.Craft.Flip = 0, "", false
			return nil
		},
	}})
}

func modelOptions() []auditOption {
	type C = experiment.Config
	d := defaults
	steps := func(c *C) bool { return c.VictimTrain.Schedule == train.Steps }
	return under("The models", []auditOption{
		text("arch", "network: "+strings.Join(nn.Architectures(), ", "), &d, func(c *C) *string { return &c.Victim.Arch }),
		count("width", "channels of its first layer; others have defaults of their own", 1, &d, func(c *C) *int { return &c.Victim.Width }),
		text("stem", "how it begins: of convnet stride, pool; of the others cifar, imagenet", &d, func(c *C) *string { return &c.Victim.Stem }),
		text("head", "how vgg ends: linear (its default), mlp", &d, func(c *C) *string { return &c.Victim.Head }),
		truth("batchnorm", "with batch normalisation, where that is open", func(c *C) *bool { return &c.Victim.BatchNorm }),
		number("dropout", "rate of its dropout layers, of mobilenet_v2 and of vgg's mlp; 0: none", -1, &d, func(c *C) *float64 { return &c.Victim.Dropout }),
		count("epochs", "training epochs", 1, &d, func(c *C) *int { return &c.VictimTrain.Epochs }),
		count("batch", "training batch", 1, &d, func(c *C) *int { return &c.VictimTrain.Batch }),
		number("lr", "learning rate", 0, &d, func(c *C) *float64 { return &c.VictimTrain.LR }),
		text("schedule", "its course: "+strings.Join(train.Schedules(), ", "), &d, func(c *C) *string { return &c.VictimTrain.Schedule }),
		{
			flag: &cli.StringFlag{Name: "milestones", Usage: "the epochs after which it drops, such as 15,25,35"},
			set: func(c *cli.Context, cfg *C) (err error) {
				if cfg.VictimTrain.Milestones, err = parseInts(c.String("milestones")); err != nil {
					return usage.Errorf("--milestones: %w", err)
				}
				return nil
			},
			with: "--schedule steps", when: steps,
		},
		number("gamma", "what it is multiplied by there", 0, &C{VictimTrain: experiment.Train{Gamma: 0.1}}, func(c *C) *float64 { return &c.VictimTrain.Gamma }).only("--schedule steps", steps),
		count("warmup", "epochs in which it rises from 0", 0, &d, func(c *C) *int { return &c.VictimTrain.Warmup }),
		number("momentum", "momentum", -1, &d, func(c *C) *float64 { return &c.VictimTrain.Momentum }),
		{
			flag: &cli.BoolFlag{Name: "nesterov", Usage: "Nesterov's momentum"},
			set: func(c *cli.Context, cfg *C) error {
				v := c.Bool("nesterov")
				cfg.VictimTrain.Nesterov = &v
				return nil
			},
		},
		number("weight-decay", "weight decay", -1, &d, func(c *C) *float64 { return &c.VictimTrain.WeightDecay }),
	})
}

// surrogateOptions are of audits in which the adversary does not know the victims' network.
func surrogateOptions() []auditOption {
	type C = experiment.Config
	list := func(name, help string) auditOption {
		return auditOption{flag: &cli.StringFlag{Name: name, Usage: help}, set: surrogateKinds}
	}
	return under("The surrogates, where they are other networks than the victims", []auditOption{
		list("surrogate-arch", "their network; a list such as resnet18,vgg11 is an ensemble of several kinds, which take turns"),
		list("surrogate-width", "channels of its first layer, one number for all kinds or one for each; so for the others"),
		list("surrogate-stem", "how it begins"),
		list("surrogate-head", "how it ends, of vgg"),
		{
			flag: &cli.BoolFlag{Name: "surrogate-batchnorm", Usage: "with batch normalisation, all of them"},
			set: func(c *cli.Context, cfg *C) error {
				if err := surrogateKinds(c, cfg); err != nil {
					return err
				}
				for i := range cfg.Surrogate {
					cfg.Surrogate[i].BatchNorm = c.Bool("surrogate-batchnorm")
				}
				return nil
			},
		},
	})
}

// surrogateKinds reads the flags that list something for each kind of surrogates; a word that is
// empty leaves it to the network.
func surrogateKinds(c *cli.Context, cfg *experiment.Config) error {
	lists, longest, n := map[string][]string{}, "", 1
	for _, name := range []string{"surrogate-arch", "surrogate-width", "surrogate-stem", "surrogate-head"} {
		if !c.IsSet(name) {
			continue
		}
		lists[name] = strings.Split(c.String(name), ",")
		switch k := len(lists[name]); {
		case k > 1 && n > 1 && k != n:
			return usage.Errorf("--%s names %d kinds and --%s %d; give as many, or one for all", longest, n, name, k)
		case k > 1:
			longest, n = name, k
		}
	}
	if have := len(cfg.Surrogate); have == 0 || n > 1 && have != n {
		cfg.Surrogate = make(experiment.Kinds, n)
	}
	for name, list := range lists {
		for i := range cfg.Surrogate {
			m, word := &cfg.Surrogate[i], strings.TrimSpace(list[i%len(list)])
			switch {
			case word == "":
			case name == "surrogate-arch":
				m.Arch = word
			case name == "surrogate-stem":
				m.Stem = word
			case name == "surrogate-head":
				m.Head = word
			default:
				width, err := strconv.Atoi(word)
				if err != nil || width < 1 {
					return usage.Errorf("--%s: %q is no width; it must be a whole number of at least 1", name, word)
				}
				m.Width = width
			}
		}
	}
	return nil
}

func sharedOptions() []auditOption {
	type C = experiment.Config
	d := defaults
	return []auditOption{
		seed("seed of everything that is drawn", func(c *C) *uint64 { return &c.Seed }),
		{
			flag: &cli.IntFlag{Name: "shift", Usage: "training and crafting shift images by at most this many pixels"},
			set: func(c *cli.Context, cfg *C) error {
				v := c.Int("shift")
				switch {
				case v < 0:
					return usage.Errorf("--shift is %d; it must be 0 or more", v)
				case v == 0:
					v = -1 // none, whatever the recipe
				}
				// Crafting with another augmentation than the victim's is a known way to fail.
				cfg.VictimTrain.Shift, cfg.Craft.Shift = v, v
				return nil
			},
		},
		{
			flag: &cli.BoolFlag{Name: "flip", Usage: "training and crafting mirror images"},
			set: func(c *cli.Context, cfg *C) error {
				v := c.Bool("flip")
				cfg.VictimTrain.Flip, cfg.Craft.Flip = &v, v
				return nil
			},
		},
		option[C]{
			flag: &cli.StringFlag{Name: "pad", Usage: "what a shift shows outside the image: " + strings.Join(train.Pads(), ", "), DefaultText: train.PadZero},
			set: func(c *cli.Context, cfg *C) error {
				cfg.VictimTrain.Pad, cfg.Craft.Pad = c.String("pad"), c.String("pad")
				return nil
			},
		}.only("--shift", func(c *C) bool { return max(c.VictimTrain.Shift, c.Craft.Shift) > 0 }),
		text("precision", precisionHelp, &d, func(c *C) *string { return &c.Precision }),
	}
}

func auditOptions() []auditOption {
	return slices.Concat(recipeOptions(), sharedOptions(), goalOptions(), scoreOptions(attack.ScoreNames()), craftOptions(), sizeOptions(), modelOptions(), defenseOptions(experiment.DefenseNames()), surrogateOptions(), victimOptions())
}

func joinConditions(conditions []result.Condition) string {
	words := make([]string, len(conditions))
	for i, c := range conditions {
		words[i] = string(c)
	}
	return strings.Join(words, ",")
}

// quick is an audit with fewer targets and models: it shows that everything works, in a minute or
// two, and proves little.
func quick(c *experiment.Config) {
	c.Repeats, c.Victims, c.GaussVictims = 4, 1, 1
	c.Surrogates, c.Attackers, c.References, c.Controls = 2, 2, 2, 1
}

func auditCommand() *cli.Command {
	options := auditOptions()
	return &cli.Command{
		Name:  "audit",
		Usage: "train, attack and measure; write a folder with a report",
		Description: "With --out alone it is the demo of make run, in f32 and trained for longer: an adversary who sees none\n" +
			"of the victim's data poisons 4 % of a training set of real images to make the prediction sets of chosen\n" +
			"targets overconfident.\n" +
			"An interrupted run goes on with --resume and ends with the same bytes. Several processes, on one machine\n" +
			"or many that share a file system, do it together with --shard; gocp collect then writes the report.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "run folder to write"},
			&cli.BoolFlag{Name: "resume", Usage: "go on with the run that the folder holds"},
			&cli.BoolFlag{Name: "prepare", Usage: "check the settings, write them into the folder and stop: gocp slurm submit and --resume begin the run"},
			dataFlag(), testSplitFlag(),
			&cli.StringFlag{Name: "config", Usage: "file with the configuration; flags come on top"},
			&cli.BoolFlag{Name: "quick", Usage: "a short run that shows that everything works"},
			&cli.IntFlag{Name: "workers", Usage: "models trained side by side; does not change results", DefaultText: "one a core"},
			memoryFlag(), metricsFlag(), deviceFlag(), devicesFlag(), jsonFlag(), quietFlag(),
		}, slices.Concat(shardFlags(), readingFlags(), flagsOf(options))...),
		Before: refuse([]rule{above0("workers")}, shardRules()),
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return audit(c, options)
		},
	}
}

func audit(c *cli.Context, options []option[experiment.Config]) error {
	dir := c.String("out")
	if dir == "" {
		return usage.Errorf("gocp audit needs a folder to write: --out runs/first")
	}
	shard, sharded, err := shardOf(c)
	if err != nil {
		return err
	}
	cfg, set, err := auditConfig(c, options, dir)
	if err != nil {
		return err
	}
	whole := cfg.WithDefaults()
	if err := first(whole.Validate(), wanted(c, options, &whole)); err != nil {
		return err
	}
	d, err := loadData(set)
	if err != nil {
		return err
	}
	if !c.Bool("quiet") {
		tellFindings(c, d)
	}
	if c.Bool("prepare") {
		if err := experiment.Prepare(dir, cfg, d); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.App.Writer, "%s is prepared; gocp slurm submit %[1]s, or gocp audit --resume --out %[1]s, begins it\n", dir)
		return err
	}
	var res *result.Result
	err = watchedAll(c, func(ctx context.Context, devs []*device.Device, w watch) error {
		o := experiment.Options{Dir: dir, Resume: c.Bool("resume"), Progress: w.Progress, Version: version().Gocp, More: devs[1:], Meter: w.Meter, Tally: w.Tally,
			Shard: shard, TakeOver: c.Bool("take-over"), Life: slurm.Current().Life()}
		if sharded {
			return experiment.RunShard(ctx, devs[0], cfg, d, o)
		}
		res, err = experiment.Audit(ctx, devs[0], cfg, d, o)
		return err
	})
	switch {
	case err != nil && sharded:
		return again(err)
	case err != nil:
		return unlessWarned(c.Context, unfinished(err, dir))
	case sharded:
		_, err := fmt.Fprintf(c.App.Writer, "%s is done; gocp collect %s joins them all\n", shard, dir)
		return err
	}
	return showResult(c, dir, res)
}

// showResult writes the report of a run and prints it.
func showResult(c *cli.Context, dir string, res *result.Result) error {
	if err := writeReport(dir, res); err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, res)
	}
	if err := report.Text(c.App.Writer, res); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.App.Writer, "\nReport: %s\n", filepath.Join(dir, reportFile))
	return err
}

// unfinished adds to an audit's failure how to go on, if there is something to go on from.
func unfinished(err error, dir string) error {
	if _, _, none := experiment.LoadConfig(dir); none != nil || usage.Is(err) {
		return err
	}
	if errors.Is(err, context.Canceled) {
		err = context.Canceled
	}
	hint := ""
	if errors.Is(err, device.ErrOutOfMemory) {
		hint = "; fewer --workers need less, and --memory says how much there is for them"
	}
	return fmt.Errorf("%w%s; what is done is kept: gocp audit --resume --out %s goes on where this stopped", err, hint, dir)
}

// auditConfig is the configuration from, in this order, the run that is resumed, a file, --quick
// and the flags, and the data set.
func auditConfig(c *cli.Context, options []option[experiment.Config], dir string) (cfg experiment.Config, set data.Ref, err error) {
	set.Name = c.String("data")
	if set.Reading, err = reading(c); err != nil {
		return cfg, set, err
	}
	if c.Bool("resume") {
		old, oldSet, err := experiment.LoadConfig(dir)
		if err != nil {
			return cfg, set, err
		}
		cfg = old
		if !c.IsSet("data") {
			set.Name = oldSet.Name
		}
		if !readAnew(c) {
			set.Reading = oldSet.Reading
		}
	}
	if path := c.String("config"); path != "" {
		if cfg, err = readConfig(path); err != nil {
			return cfg, set, err
		}
	}
	// Surrogates that were as the victims stay so, whatever the flags make of these.
	if len(cfg.Surrogate) == 1 && cfg.Surrogate[0] == cfg.Victim {
		cfg.Surrogate = nil
	}
	if reflect.DeepEqual(cfg.SurrogateTrain, cfg.VictimTrain) {
		cfg.SurrogateTrain = experiment.Train{}
	}
	if slices.Equal(cfg.ReferenceCommand, cfg.VictimCommand) { // so for commands
		cfg.ReferenceCommand = nil
	}
	if c.Bool("quick") {
		quick(&cfg)
	}
	if err := apply(c, options, &cfg); err != nil {
		return cfg, set, err
	}
	cfg.Workers = c.Int("workers")
	cfg.Memory, err = memory(c)
	return cfg, set, err
}

// writeReport writes report.html into the run folder.
func writeReport(dir string, res *result.Result) error {
	return atomicfile.Write(filepath.Join(dir, reportFile), func(w io.Writer) error {
		return report.Write(w, res, os.DirFS(dir))
	})
}
