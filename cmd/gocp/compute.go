package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/checkpoint"
	"github.com/gocp/gocp/gocp/compute"
	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

var modes = []string{"eval", "train"}

// precisionHelp is of commands that decide; tf32 is refused on a CPU.
const precisionHelp = "of convolutions: f32, bf16, tf32 (GPUs), or auto: bf16 where the device is faster at it"

func computeCommand() *cli.Command {
	return &cli.Command{
		Name:      "compute",
		Usage:     "quantities of a model as numbers, to hold against another framework (docs/compute.md)",
		ArgsUsage: "WHAT…",
		Description: "WHAT is one or more of " + strings.Join(compute.Quantities(), ", ") + ".\n" +
			"The input holds x [N,C,H,W], y [N], v.<parameter>, u [N], target.*; docs/compute.md defines them and the output.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "model", Usage: "the model, a safetensors `FILE`"},
			&cli.StringFlag{Name: "in", Usage: "the inputs, a safetensors `FILE`"},
			&cli.StringFlag{Name: "out", Usage: "where the answers go, a safetensors `FILE`"},
			&cli.StringFlag{Name: "precision", Value: "f32", Usage: "of products: " + strings.Join(kernel.Precisions(), ", ") + " (GPUs)"},
			&cli.StringFlag{Name: "mode", Value: "eval", Usage: "of batch norm: " + strings.Join(modes, ", ")},
			&cli.StringFlag{Name: "score", Value: "hps", Usage: "for scores and l2: " + strings.Join(kernel.ScoreNames(), ", ")},
			&cli.Float64Flag{Name: "lambda", Value: 0.1, Usage: "raps: penalty a rank"},
			&cli.IntFlag{Name: "kreg", Value: 2, Usage: "raps: ranks without a penalty"},
			&cli.StringFlag{Name: "form", Value: compute.Pairwise, Usage: "of l2: pairwise, softquantile"},
			&cli.StringFlag{Name: "miscoverage", Value: "0.1", Usage: "l2: ε, exactly as this decimal says"},
			&cli.Float64Flag{Name: "margin", Value: 0.3, Usage: "l2: margin of the hinges"},
			&cli.IntFlag{Name: "window", Usage: "l2 pairwise: only so many ranks nearest to the threshold's; 0: all"},
			&cli.Float64Flag{Name: "bandwidth", Value: 1, Usage: "l2 softquantile: of the kernel, in ranks"},
			&cli.Float64Flag{Name: "beta", Value: 2, Usage: "l2: clamp of the keep-prediction term"},
			&cli.Float64Flag{Name: "rho", Value: 0.05, Usage: "sam: radius of the ball"},
			&cli.Float64Flag{Name: "p", Value: 2, Usage: "sam: norm of the ball, above 1, inf allowed"},
			&cli.StringFlag{Name: "of", Value: "loss", Usage: "sam: whose gradient: loss, l2"},
			&cli.StringFlag{Name: "curvature", Value: curvature.GGN, Usage: "ihvp: of which matrix: " + strings.Join(curvature.Kinds(), ", ")},
			&cli.Float64Flag{Name: "damping", Value: 0.1, Usage: "ihvp: λ, what is added to the diagonal of the mean loss's matrix"},
			deviceFlag(),
		}, saidFlags()...),
		Before: refuse(computeRules()),
		Action: runCompute,
	}
}

// computeRules say which quantities the flags are for.
func computeRules() []rule {
	asked := func(c *cli.Context, what ...string) bool {
		return slices.ContainsFunc(c.Args().Slice(), func(a string) bool { return slices.Contains(what, a) })
	}
	l2 := func(c *cli.Context) bool {
		return asked(c, compute.L2) || asked(c, compute.SAM) && c.String("of") == "l2"
	}
	return []rule{
		only("scores or l2", func(c *cli.Context) bool { return asked(c, compute.Scores) || l2(c) }, "score", "lambda", "kreg"),
		only("--score raps", is("score", "raps"), "lambda", "kreg"),
		only("l2", l2, "form", "miscoverage", "margin", "window", "bandwidth", "beta"),
		only("--form "+compute.Pairwise, is("form", compute.Pairwise), "window"),
		only("--form "+compute.SoftQuantile, is("form", compute.SoftQuantile), "bandwidth"),
		only("sam", func(c *cli.Context) bool { return asked(c, compute.SAM) }, "of", "rho", "p"),
		only("ihvp", func(c *cli.Context) bool { return asked(c, compute.IHVP) }, "curvature", "damping"),
		above0("bandwidth", "rho", "damping"),
		func(c *cli.Context) error {
			if p := c.Float64("p"); !(p > 1) {
				return usage.Errorf("--p is %g; it must be above 1, inf is allowed", p)
			}
			return nil
		},
	}
}

func runCompute(c *cli.Context) error {
	if err := useDevice(c); err != nil {
		return err
	}
	if err := needFlags(c, "model", "in", "out"); err != nil {
		return err
	}
	mode := slices.Index(modes, c.String("mode"))
	if mode < 0 {
		return unknown("mode", c.String("mode"), modes)
	}
	precision, err := kernel.ParsePrecision(c.String("precision"))
	if err != nil {
		return err
	}
	about, err := said(c)
	if err != nil {
		return err
	}
	model, _, err := checkpoint.Load(c.String("model"), about)
	if err != nil {
		return err
	}
	if c.IsSet("mode") && !model.BatchNorm {
		return idle("mode", "models with batch norm")
	}
	in, err := safetensors.Load(c.String("in"))
	if err != nil {
		return err
	}
	r := compute.Request{
		Model: model, In: in, What: c.Args().Slice(),
		Mode: nn.Mode(mode), Precision: precision,
		Score: compute.ScoreOptions{Kind: c.String("score"), Lambda: c.Float64("lambda"), KReg: c.Int("kreg")},
		L2: compute.L2Options{Form: c.String("form"), Miscoverage: c.String("miscoverage"), Margin: c.Float64("margin"),
			Window: c.Int("window"), Bandwidth: c.Float64("bandwidth"), KeepBeta: c.Float64("beta")},
		SAM:       compute.SAMOptions{Of: c.String("of"), Rho: c.Float64("rho"), P: c.Float64("p")},
		Curvature: compute.CurvatureOptions{Kind: c.String("curvature"), Damping: c.Float64("damping")},
	}
	out, err := computeOn(c, r)
	if err != nil {
		return err
	}
	if err := out.Save(c.String("out")); err != nil {
		return fmt.Errorf("writing the answers: %w", err)
	}
	return nil
}

// computeOn opens a device for one request.
func computeOn(c *cli.Context, r compute.Request) (out *safetensors.File, err error) {
	d, err := device.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return compute.Run(c.Context, d, r)
}
