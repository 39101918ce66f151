package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/conformalio"
	"github.com/gocp/gocp/gocp/usage"
)

func testFlags(of string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "labels", Usage: "file of true labels, from 0"},
		&cli.StringFlag{Name: "test-labels", Usage: "labels of the " + of + ", to measure coverage"},
		&cli.StringFlag{Name: "threshold-out", Usage: "JSON file for the thresholds and what made them"},
		outFlag("sets to write: .npy, .jsonl or .csv"),
		miscoverageFlag(),
	}
}

func testOf(c *cli.Context) conformalio.Test {
	return conformalio.Test{Labels: c.String("test-labels"), Out: c.String("out"), Threshold: c.String("threshold-out")}
}

// files reads a flag that is given once for each file.
func files(c *cli.Context, logits, probs string) (list []string, form conformalio.Form, err error) {
	a, b := c.StringSlice(logits), c.StringSlice(probs)
	switch {
	case (len(a) == 0) == (len(b) == 0):
		return nil, "", usage.Errorf("%s needs either --%s or --%s", c.Command.HelpName, logits, probs)
	case len(a) > 0:
		return a, conformalio.FormLogits, nil
	}
	return b, conformalio.FormProbabilities, nil
}

func conformalCross() *cli.Command {
	return &cli.Command{
		Name:      "cross",
		Usage:     "cross-conformal prediction (CV+, jackknife+): all samples train and calibrate",
		UsageText: "gocp conformal cross --logits oof.npy --labels y.npy --folds fold.npy --test-logits t0.npy --test-logits t1.npy --out sets.npy",
		Flags: append(append(append(inputFlags(), variantFlags()...), append(testFlags("test samples"), seedFlag(),
			&cli.StringFlag{Name: "folds", Usage: "file of the fold of each row, from 0; its logits come from the model without that fold"},
			&cli.StringSliceFlag{Name: "test-logits", Usage: "logits of the test samples by the model without fold 0, 1, …: once for each"},
			&cli.StringSliceFlag{Name: "test-probs", Usage: "probabilities instead"},
			&cli.BoolFlag{Name: "min-max", Usage: "the larger sets that are proven to cover"})...), runFlags()...),
		Before: refuse(readingRules(), variantRules()),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "labels", "folds")); err != nil {
				return err
			}
			in, err := input(c)
			if err != nil {
				return err
			}
			tests, form, err := files(c, "test-logits", "test-probs")
			if err != nil {
				return err
			}
			if form != in.Form {
				return usage.Errorf("%s needs the same form, logits or probabilities, for both parts", c.Command.HelpName)
			}
			v, err := fixedVariant(c)
			if err != nil {
				return err
			}
			return conformalMethod(c, func(run conformalio.Run, level conformal.Level) (*conformalio.MethodResult, error) {
				return conformalio.CrossJob{Run: run, Input: in, Labels: c.String("labels"), Folds: c.String("folds"), Tests: tests, Score: v,
					Miscoverage: level, MinMax: c.Bool("min-max"), Test: testOf(c)}.Predict()
			})
		},
	}
}

// fixedVariant is variant where nothing can be tuned.
func fixedVariant(c *cli.Context) (conformal.Variant, error) {
	v, chosen, err := variant(c)
	if err == nil && chosen {
		err = usage.Errorf("%s takes --lambda as a number, not auto", c.Command.HelpName)
	}
	return v, err
}

func conformalMethod(c *cli.Context, predict func(conformalio.Run, conformal.Level) (*conformalio.MethodResult, error)) error {
	level, err := miscoverage(c)
	if err != nil {
		return err
	}
	r, err := conformalRun(c, func(run conformalio.Run) (*conformalio.MethodResult, error) { return predict(run, level) })
	if err != nil {
		return err
	}
	return show(c, r, func(w io.Writer) { printMethod(w, r) })
}

func printMethod(w io.Writer, r *conformalio.MethodResult) {
	fmt.Fprintf(w, "%s, miscoverage %s: %d labelled, %d test samples, %d labels\n", r.Method, r.Miscoverage, r.N, r.Test, r.Labels)
	switch r.Method {
	case "cross":
		fmt.Fprintf(w, "%d folds, %s; coverage is proven to be %.4f at least\n", r.Folds, r.Score, r.Floor)
	case "rscp":
		fmt.Fprintf(w, "%d draws at σ = %g over %s, sets for inputs moved by up to %g in ℓ2\n", r.Draws, r.RSCP.Sigma, r.RSCP.Base, r.Radius)
	case "rps":
		fmt.Fprintf(w, "%d models, %d calibration parts, more than %d of them must agree (%s)\n", r.Models, r.Parts, r.Needed, r.Rule)
		coverage, size := 0, 0
		for i := range r.CoverageReliable {
			if r.CoverageReliable[i] {
				coverage++
			}
			if r.SizeReliable[i] {
				size++
			}
		}
		fmt.Fprintf(w, "against %d poisoned training and %d poisoned calibration parts: %d sets lose no label, %d gain none\n", r.TrainingRadius, r.CalibrationRadius, coverage, size)
	}
	fmt.Fprintf(w, "mean size  %.4f  (%d empty)\n", r.MeanSize, r.Empty)
	if p := r.Coverage; p != nil {
		fmt.Fprintf(w, "coverage   %.4f  (95 %% interval %.4f to %.4f)\n", p.Rate, p.Low, p.High)
	}
	printNotes(w, r.Notes)
}

func conformalRSCP() *cli.Command {
	return &cli.Command{
		Name:  "rscp",
		Usage: "sets that hold for inputs moved within an ℓ2 radius, from scores smoothed over noise",
		UsageText: "gocp conformal rscp --logits cal0.npy --logits cal1.npy … --labels cal_y.npy --test-logits t0.npy --test-logits t1.npy …\n" +
			"    --sigma 0.25 --radius 0.1 --correction bernstein --beta 0.005 --out sets.npy",
		Flags: append(append(variantFlags(), append(testFlags("test samples"), seedFlag(),
			&cli.StringSliceFlag{Name: "logits", Usage: "logits of the labelled samples under one draw of the noise: once for each draw"},
			&cli.StringSliceFlag{Name: "probs", Usage: "probabilities instead"},
			exactSumsFlag(),
			&cli.StringSliceFlag{Name: "test-logits", Usage: "of the test samples, once for each draw"},
			&cli.StringSliceFlag{Name: "test-probs", Usage: "probabilities instead"},
			&cli.Float64Flag{Name: "sigma", Usage: "scale of the Gaussian noise, in units of the input"},
			&cli.Float64Flag{Name: "radius", Usage: "ℓ2 distance within which the sets hold"},
			&cli.StringFlag{Name: "correction", Value: "none", Usage: "for the number of draws: none (RSCP), hoeffding, bernstein (RSCP+)"},
			&cli.StringFlag{Name: "beta", Usage: "chance that one bound of a correction fails; the miscoverage pays twice that"})...), runFlags()...),
		Before: refuse(readingRules(), variantRules(), []rule{
			only("--correction hoeffding or bernstein", is("correction", string(conformal.CorrectHoeffding), string(conformal.CorrectBernstein)), "beta"),
			above0("sigma"),
		}),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "labels", "sigma")); err != nil {
				return err
			}
			cal, form, err := files(c, "logits", "probs")
			if err != nil {
				return err
			}
			tests, testForm, err := files(c, "test-logits", "test-probs")
			if err != nil {
				return err
			}
			if form != testForm {
				return usage.Errorf("%s needs the same form, logits or probabilities, for both parts", c.Command.HelpName)
			}
			v, err := fixedVariant(c)
			if err != nil {
				return err
			}
			rscp := conformal.RSCP{Base: v, Sigma: c.Float64("sigma"), Correction: conformal.Correction(c.String("correction"))}
			if text := c.String("beta"); text != "" {
				if rscp.Beta, err = conformal.ParseLevel(text); err != nil {
					return usage.Errorf("--beta is %q; it must be a decimal between 0 and 1", text)
				}
			}
			return conformalMethod(c, func(run conformalio.Run, level conformal.Level) (*conformalio.MethodResult, error) {
				return conformalio.RSCPJob{Run: run, Form: form, Draws: cal, Labels: c.String("labels"), Tests: tests, RSCP: rscp, Miscoverage: level,
					Radius: c.Float64("radius"), Test: testOf(c)}.Predict()
			})
		},
	}
}

func conformalRPS() *cli.Command {
	return &cli.Command{
		Name:  "rps",
		Usage: "sets with certificates against poisoned training and calibration data, from votes",
		UsageText: "gocp conformal rps --votes cal_votes.npy --labels cal_y.npy --parts part.npy --test-votes test_votes.npy\n" +
			"    --training-radius 1 --calibration-radius 1 --out sets.npy --json",
		Flags: append(append(testFlags("test samples"),
			&cli.StringFlag{Name: "votes", Usage: "file of votes of the models for each label, a row for each labelled sample"},
			&cli.StringFlag{Name: "parts", Usage: "file of the calibration part of each, from 0"},
			&cli.StringFlag{Name: "test-votes", Usage: "votes for the test samples"},
			&cli.StringFlag{Name: "rule", Value: string(conformal.VoteMajority), Usage: "of the parts' vote: majority (proven), binomial (as published)"},
			&cli.IntFlag{Name: "training-radius", Usage: "poisoned training parts"},
			&cli.IntFlag{Name: "calibration-radius", Usage: "poisoned calibration parts"}), runFlags()...),
		Before: refuse(readingRules()),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "votes", "labels", "parts", "test-votes")); err != nil {
				return err
			}
			return conformalMethod(c, func(run conformalio.Run, level conformal.Level) (*conformalio.MethodResult, error) {
				return conformalio.RPSJob{Run: run, Votes: c.String("votes"), Labels: c.String("labels"), Parts: c.String("parts"), Tests: c.String("test-votes"),
					Rule: conformal.VoteRule(strings.ToLower(c.String("rule"))), Miscoverage: level, Training: c.Int("training-radius"),
					Calibration: c.Int("calibration-radius"), Test: testOf(c)}.Predict()
			})
		},
	}
}

func conformalRisk() *cli.Command {
	return &cli.Command{
		Name:      "risk",
		Usage:     "find the threshold that bounds the expected share of true labels a set misses",
		UsageText: "gocp conformal risk --logits cal.npy --truth cal_sets.npy --risk 0.1 --out thr.json",
		Flags: append(append(append(inputFlags(), variantFlags()...),
			&cli.StringFlag{Name: "truth", Usage: "file of true labels as samples × labels of 0 and 1; a sample can have several"},
			&cli.StringFlag{Name: "risk", Value: "0.1", Usage: "expected share of a sample's true labels that its set may miss"},
			&cli.Float64Flag{Name: "temperature", Usage: "divide logits by this"},
			seedFlag(), outFlag("threshold file to write (JSON), for gocp conformal predict")), runFlags()...),
		Before: refuse(readingRules(), variantRules(), []rule{above0("temperature")}),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "truth", "out")); err != nil {
				return err
			}
			in, err := input(c)
			if err != nil {
				return err
			}
			v, err := fixedVariant(c)
			if err != nil {
				return err
			}
			level, err := conformal.ParseLevel(c.String("risk"))
			if err != nil {
				return usage.Errorf("--risk is %q; it must be a decimal or a fraction between 0 and 1", c.String("risk"))
			}
			cal, err := conformalRun(c, func(run conformalio.Run) (*conformalio.Calibration, error) {
				return conformalio.RiskJob{Run: run, Input: in, Truth: c.String("truth"), Score: v, Risk: level, Temperature: c.Float64("temperature")}.Calibrate()
			})
			if err != nil {
				return err
			}
			if err := cal.Save(c.String("out")); err != nil {
				return err
			}
			return show(c, cal, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s, risk %s, %d samples: τ = %.6g, with %d of %d true labels inside\n", c.String("out"), cal.Score, cal.Miscoverage, cal.N,
					cal.Thresholds.All.Tau, min(cal.Thresholds.All.Rank, cal.Thresholds.All.N), cal.Thresholds.All.N)
				printNotes(w, cal.Notes)
			})
		},
	}
}
