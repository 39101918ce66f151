package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/train"
)

// defendedBy tells what flags of defences go with.
func defendedBy(names ...string) (string, func(*experiment.Config) bool) {
	return "--defense " + orList(names), func(c *experiment.Config) bool { return slices.Contains(names, c.Training.Name) }
}

// defenseOptions are of defences, those of the names.
func defenseOptions(names []string) []auditOption {
	type C = experiment.Config
	of := func(name string) *C { return &C{Training: train.Defense{Name: name}.WithDefaults()} }
	return under("The defence, under which all models but the adversary's are trained", []auditOption{
		{
			flag: &cli.StringFlag{Name: "defense", Usage: "one of " + strings.Join(names, ", "), DefaultText: "none"},
			set: func(c *cli.Context, cfg *C) error {
				cfg.Defense = c.String("defense")
				return nil
			},
		},
		count("defense-copies", "maxup: copies of each sample, the worst of which counts", 2, of("maxup"), func(c *C) *int { return &c.Training.Copies }).only(defendedBy("maxup")),
		words("defense-vary", "maxup, augment: how images are varied, of "+strings.Join(train.Variations(), ", ")+"; maxup's are "+strings.Join(of("maxup").Training.Vary, ",")+" unless given, augment's "+strings.Join(of("augment").Training.Vary, ","),
			func(c *C) *[]string { return &c.Training.Vary }).only(defendedBy("maxup", "augment")),
		number("defense-radius", "sam: of the ball of parameters", 0, of("sam"), func(c *C) *float64 { return &c.Training.Radius }).only(defendedBy("sam")),
		number("defense-clip", "dp-sgd: largest norm of a sample's gradient", 0, of("dp-sgd"), func(c *C) *float64 { return &c.Training.Clip }).only(defendedBy("dp-sgd")),
		number("defense-noise", "dp-sgd: its standard deviation, as a multiple of that norm; 0: none, and no privacy", -1, of("dp-sgd"), func(c *C) *float64 { return &c.Training.Noise }).only(defendedBy("dp-sgd")),
		number("defense-delta", "dp-sgd: δ at which ε is told", 0, of("dp-sgd"), func(c *C) *float64 { return &c.Training.Delta }).only(defendedBy("dp-sgd")),
		number("defense-ball", "adversarial-poisoning: largest change of a pixel, in 255ths", 0, of("adversarial-poisoning"), func(c *C) *float64 { return &c.Training.Ball255 }).only(defendedBy("adversarial-poisoning")),
		count("defense-steps", "adversarial-poisoning: steps of signed Adam", 1, of("adversarial-poisoning"), func(c *C) *int { return &c.Training.Steps }).only(defendedBy("adversarial-poisoning")),
		number("defense-fraction", "epic: medoids, as a share of each class", 0, of("epic"), func(c *C) *float64 { return &c.Training.Fraction }).only(defendedBy("epic")),
		count("defense-from", "epic: epochs before samples are dropped; a quarter of all unless given", 1, of("epic"), func(c *C) *int { return &c.Training.From }).only(defendedBy("epic")),
		count("defense-every", "epic: epochs from one time to the next", 1, of("epic"), func(c *C) *int { return &c.Training.Every }).only(defendedBy("epic")),
	})
}
