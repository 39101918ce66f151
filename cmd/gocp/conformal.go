package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/conformalio"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/report"
	"github.com/gocp/gocp/gocp/usage"
)

// auto is the value of flags whose number is chosen from a tuning part.
const auto = "auto"

func conformalCommand() *cli.Command {
	return &cli.Command{
		Name:  "conformal",
		Usage: "conformal prediction on anyone's logits, probabilities or features",
		Description: "Files end in " + matrix.Formats + ".\n" +
			"One array of several, or some columns, are FILE:NAME, FILE:A,B,C or FILE:logit_*.\n" +
			"No model, image or device is involved.",
		Subcommands: []*cli.Command{
			conformalCalibrate(), conformalPredict(), conformalEvaluate(), conformalCompare(), conformalFull(),
			conformalCross(), conformalRSCP(), conformalRPS(), conformalRisk(),
		},
	}
}

// Scores that draw u, and that have a weight λ.
var (
	scoresOfU      = []string{"aps", "raps", "saps"}
	scoresOfLambda = []string{"raps", "saps"}
)

// variantRules are those of variantFlags.
func variantRules() []rule {
	return []rule{
		only("--score "+orList(scoresOfU), is("score", scoresOfU...), "randomized", "u"),
		only("--score "+orList(scoresOfLambda), is("score", scoresOfLambda...), "lambda"),
		only("--score raps", is("score", "raps"), "k-reg"),
	}
}

func inputFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "logits", Usage: "file of logits, a row for each sample"},
		&cli.StringFlag{Name: "probs", Usage: "file of probabilities, instead of logits"},
		exactSumsFlag(),
	}
}

func exactSumsFlag() cli.Flag {
	return &cli.BoolFlag{Name: "exact-sums", Usage: "refuse rows of probabilities that miss 1 by the rounding of few digits, instead of dividing them by their sum"}
}

// readingRules are those of how files are read, and of the flags that all commands here have.
func readingRules() []rule {
	return []rule{
		above0("workers"),
		only("--probs", given("probs"), "exact-sums"),
		only("text files", func(c *cli.Context) bool {
			return slices.ContainsFunc(c.Command.Flags, func(f cli.Flag) bool {
				name := f.Names()[0]
				if slices.Contains([]string{"out", "threshold-out", "report", "threshold"}, name) {
					return false
				}
				switch f.(type) {
				case *cli.StringFlag:
					return matrix.IsText(c.String(name))
				case *cli.StringSliceFlag:
					return slices.ContainsFunc(c.StringSlice(name), matrix.IsText)
				}
				return false
			})
		}, "header"),
	}
}

func input(c *cli.Context) (conformalio.Input, error) {
	logits, probs := c.String("logits"), c.String("probs")
	switch {
	case (logits == "") == (probs == ""):
		return conformalio.Input{}, usage.Errorf("%s needs either --logits or --probs", c.Command.HelpName)
	case logits != "":
		return conformalio.Input{File: logits, Form: conformalio.FormLogits}, nil
	}
	return conformalio.Input{File: probs, Form: conformalio.FormProbabilities}, nil
}

func variantFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "score", Value: "hps", Usage: "non-conformity score: " + strings.Join(conformal.Names(), ", ")},
		&cli.BoolFlag{Name: "randomized", Usage: "draw u for each sample, instead of u = 1"},
		&cli.StringFlag{Name: "u", Usage: "where u comes from: one, sample, label"},
		&cli.StringFlag{Name: "lambda", Usage: "penalty of raps or weight of saps, or auto", DefaultText: "0"},
		&cli.StringFlag{Name: "k-reg", Usage: "rank up to which raps has no penalty, or auto with lambda", DefaultText: "0"},
		&cli.BoolFlag{Name: "nonempty", Usage: "put the top label into sets that would be empty"},
	}
}

// variant reads variantFlags; chosen tells that λ, and k_reg, come from a tuning part.
func variant(c *cli.Context) (v conformal.Variant, chosen bool, err error) {
	v = conformal.Variant{Name: c.String("score"), U: conformal.DrawOne, Nonempty: c.Bool("nonempty")}
	if c.Bool("randomized") {
		v.U = conformal.DrawSample
	}
	if c.IsSet("u") {
		u := conformal.Draw(c.String("u"))
		if c.IsSet("randomized") && c.Bool("randomized") != (u != conformal.DrawOne) {
			return v, false, usage.Errorf("--randomized=%t and --u %s contradict each other", c.Bool("randomized"), u)
		}
		v.U = u
	}
	chosen = c.String("lambda") == auto
	if v.Name == "raps" && chosen && c.IsSet("k-reg") && c.String("k-reg") != auto || !chosen && c.String("k-reg") == auto {
		return v, false, usage.Errorf("--lambda and --k-reg are either both auto or both numbers")
	}
	if chosen {
		return v, true, nil
	}
	if c.IsSet("lambda") {
		if v.Lambda, err = strconv.ParseFloat(c.String("lambda"), 64); err != nil {
			return v, false, usage.Errorf("--lambda is %q; it must be a number or auto", c.String("lambda"))
		}
	}
	if c.IsSet("k-reg") {
		if v.KReg, err = strconv.Atoi(c.String("k-reg")); err != nil {
			return v, false, usage.Errorf("--k-reg is %q; it must be a whole number or auto", c.String("k-reg"))
		}
	}
	if _, err := conformal.NewScorer(v); err != nil {
		return v, false, usage.Wrap(err)
	}
	return v, false, nil
}

func miscoverageFlag() cli.Flag {
	return &cli.StringFlag{Name: "miscoverage", Value: "0.1", Usage: "share of sets that may miss the true label, as a decimal or a fraction"}
}

func miscoverage(c *cli.Context) (conformal.Level, error) {
	l, err := conformal.ParseLevel(c.String("miscoverage"))
	if err != nil {
		return l, usage.Wrap(err)
	}
	return l, nil
}

func runFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "workers", Usage: "rows in work side by side; results do not depend on it", DefaultText: "all cores"},
		&cli.StringFlag{Name: "header", Usage: "whether a first line of numbers in a text file holds names: yes, no", DefaultText: "by what it holds"},
		quietFlag(), jsonFlag(),
	}
}

// conformalRun does the work of a command under its progress bar.
func conformalRun[T any](c *cli.Context, work func(conformalio.Run) (T, error)) (T, error) {
	r, done := newReporter(c)
	defer done()
	return work(conformalio.Run{Context: c.Context, Progress: r, Workers: c.Int("workers"), Seed: c.Uint64("seed"),
		Header: c.String("header"), ExactSums: c.Bool("exact-sums")})
}

// show prints a result as JSON or as text.
func show(c *cli.Context, v any, text func(w io.Writer)) error {
	if c.Bool("json") {
		return printJSON(c.App.Writer, v)
	}
	var b strings.Builder
	text(&b)
	_, err := io.WriteString(c.App.Writer, b.String())
	return err
}

func conformalCalibrate() *cli.Command {
	return &cli.Command{
		Name:      "calibrate",
		Usage:     "find the threshold on labelled samples",
		UsageText: "gocp conformal calibrate --logits cal.npy --labels cal_y.npy --score aps --miscoverage 0.1 --out thr.json",
		Flags: append(append(append(inputFlags(), variantFlags()...),
			&cli.StringFlag{Name: "labels", Usage: "file of true labels, from 0"},
			miscoverageFlag(),
			&cli.StringFlag{Name: "by", Value: "marginal", Usage: "a threshold for each class, group or cluster: marginal, class, group, cluster"},
			&cli.StringFlag{Name: "groups", Usage: "file of a group for each sample, whole numbers, with --by group"},
			&cli.IntFlag{Name: "min-cell", Usage: "least samples for a threshold of a cell's own", DefaultText: "the least with a finite one"},
			&cli.StringFlag{Name: "below", Value: "infinite", Usage: "what smaller cells get: infinite, marginal, pool"},
			&cli.IntFlag{Name: "clusters", Usage: "how many, with --by cluster", DefaultText: "by the number of samples"},
			&cli.StringFlag{Name: "temperature", Usage: "divide logits by this, or auto"},
			&cli.StringFlag{Name: "tune", Usage: "logits or probabilities of the part that decides on auto and clusters"},
			&cli.StringFlag{Name: "tune-labels", Usage: "its labels"},
			&cli.Float64Flag{Name: "tune-share", Usage: "a random share of the samples as that part, instead of files"},
			seedFlag(), outFlag("threshold file to write (JSON)")),
			runFlags()...),
		Before: refuse(readingRules(), variantRules(), []rule{
			only("--by class, group or cluster", is("by", "class", "group", "cluster"), "min-cell", "below"),
			only("--by group", is("by", "group"), "groups"), only("--by cluster", is("by", "cluster"), "clusters"),
			only("--tune", given("tune"), "tune-labels"), apart("tune", "tune-share"),
			above0("min-cell", "clusters", "tune-share"),
		}),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "labels", "out")); err != nil {
				return err
			}
			in, err := input(c)
			if err != nil {
				return err
			}
			v, chosen, err := variant(c)
			if err != nil {
				return err
			}
			level, err := miscoverage(c)
			if err != nil {
				return err
			}
			if c.String("tune") != "" && c.String("tune-labels") == "" {
				return usage.Errorf("--tune needs --tune-labels")
			}
			job := conformalio.CalibrateJob{Input: in, Labels: c.String("labels"), Groups: c.String("groups"), Score: v, Auto: chosen,
				Miscoverage: level, Clusters: c.Int("clusters"), Tune: c.String("tune"), TuneLabels: c.String("tune-labels"), TuneShare: c.Float64("tune-share"),
				Conditioning: conformal.Conditioning{By: conformal.Condition(c.String("by")), MinCell: c.Int("min-cell"), Below: conformal.Below(c.String("below"))}}
			switch text := c.String("temperature"); text {
			case "":
			case auto:
				job.FitTemperature = true
			default:
				if job.Temperature, err = strconv.ParseFloat(text, 64); err != nil || !(job.Temperature > 0) || math.IsInf(job.Temperature, 1) {
					return usage.Errorf("--temperature is %q; it must be a number above 0 or auto", text)
				}
			}
			cal, err := conformalRun(c, func(run conformalio.Run) (*conformalio.Calibration, error) {
				job.Run = run
				return job.Calibrate()
			})
			if err != nil {
				return err
			}
			if err := cal.Save(c.String("out")); err != nil {
				return err
			}
			return show(c, cal, func(w io.Writer) { printConformalCalibration(w, c.String("out"), cal) })
		},
	}
}

func printConformalCalibration(w io.Writer, out string, c *conformalio.Calibration) {
	t := c.Thresholds
	fmt.Fprintf(w, "%s: %s, miscoverage %s, %d samples of %d labels: τ = %.6g, the score of rank %d among %d\n", out, c.Score, c.Miscoverage, c.N, t.K, t.All.Tau, t.All.Rank, t.All.N)
	fell := 0
	for _, cell := range t.Cells {
		if cell.Fallback != "" {
			fell++
		}
	}
	if len(t.Cells) > 0 {
		fmt.Fprintf(w, "thresholds by %s: %d cells, %d below %d samples or in no cluster (these have: %s)\n", t.Conditioning.By, len(t.Cells), fell, t.Conditioning.MinCell, t.Conditioning.Below)
	}
	printNotes(w, c.Notes)
	if c.Temperature != 0 {
		fmt.Fprintf(w, "temperature %.6g\n", c.Temperature)
	}
}

func printNotes(w io.Writer, notes []string) {
	for _, n := range notes {
		fmt.Fprintln(w, n)
	}
}

func thresholdFlag() cli.Flag {
	return &cli.StringFlag{Name: "threshold", Aliases: []string{"t"}, Usage: "threshold file, as gocp conformal calibrate writes it"}
}

func conformalPredict() *cli.Command {
	return &cli.Command{
		Name:      "predict",
		Usage:     "write prediction sets",
		UsageText: "gocp conformal predict --threshold thr.json --logits test.npy --out sets.npy",
		Flags: append(append(inputFlags(), thresholdFlag(),
			&cli.StringFlag{Name: "groups", Usage: "file of a group for each sample, for a threshold by group"},
			outFlag("sets to write: .npy (uint8, samples × labels), .jsonl or .csv")), runFlags()...),
		Before: refuse(readingRules()),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "threshold", "out")); err != nil {
				return err
			}
			in, err := input(c)
			if err != nil {
				return err
			}
			cal, err := conformalio.LoadCalibration(c.String("threshold"))
			if err != nil {
				return err
			}
			p, err := conformalRun(c, func(run conformalio.Run) (*conformalio.Predicted, error) {
				return conformalio.PredictJob{Run: run, Calibration: cal, Input: in, Groups: c.String("groups"), Out: c.String("out")}.Predict()
			})
			if err != nil {
				return err
			}
			return show(c, p, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %d sets of %.4f labels on average, %d empty, %d with one label\n", p.Out, p.N, p.MeanSize, p.Empty, p.Singleton)
				printNotes(w, p.Notes)
			})
		},
	}
}

func conformalEvaluate() *cli.Command {
	return &cli.Command{
		Name:  "evaluate",
		Usage: "coverage and sizes on labelled samples, for a threshold or over many random splits",
		UsageText: "gocp conformal evaluate --threshold thr.json --logits test.npy --labels test_y.npy --json\n" +
			"gocp conformal evaluate --splits 100 --logits all.npy --labels all_y.npy --score aps",
		Flags: append(append(append(inputFlags(), thresholdFlag(),
			&cli.StringFlag{Name: "labels", Usage: "file of true labels, from 0"},
			&cli.StringFlag{Name: "groups", Usage: "file of a group for each sample"},
			&cli.StringFlag{Name: "features", Usage: "file of features in which to seek the worst slice"}, pageFlag()),
			append(splitFlags(0, 0), variantFlags()...)...), runFlags()...),
		Before: refuse(readingRules(), []rule{
			only("--threshold", given("threshold"), "groups", "features"),
			only("--splits", given("splits"), "splits", "share", "tune-share", "temperature", "miscoverage", "seed",
				"score", "randomized", "u", "lambda", "k-reg", "nonempty"),
			only("--lambda auto", is("lambda", auto), "tune-share"),
			above0("splits", "share", "tune-share", "temperature"),
		}, variantRules()),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "labels")); err != nil {
				return err
			}
			if (c.String("threshold") == "") == (c.Int("splits") == 0) {
				return usage.Errorf("%s needs either --threshold or --splits", c.Command.HelpName)
			}
			if c.Int("splits") != 0 {
				v, chosen, err := variant(c)
				if err != nil {
					return err
				}
				return conformalSplits(c, []conformal.Variant{v}, chosen)
			}
			in, err := input(c)
			if err != nil {
				return err
			}
			cal, err := conformalio.LoadCalibration(c.String("threshold"))
			if err != nil {
				return err
			}
			e, err := conformalRun(c, func(run conformalio.Run) (*conformalio.Evaluation, error) {
				return conformalio.EvaluateJob{Run: run, Calibration: cal, Input: in, Labels: c.String("labels"), Groups: c.String("groups"), Features: c.String("features")}.Evaluate()
			})
			if err != nil {
				return err
			}
			if err := page(c, func(w io.Writer, about report.About) error {
				about.Sources, about.Seed = cal.Sources, cal.Seed
				return report.WriteEvaluation(w, e, about)
			}); err != nil {
				return err
			}
			return show(c, e, func(w io.Writer) { printConformalEvaluation(w, e) })
		},
	}
}

func pageFlag() cli.Flag {
	return &cli.StringFlag{Name: "report", Usage: "HTML page to write"}
}

// page writes the page that --report asks for.
func page(c *cli.Context, write func(w io.Writer, about report.About) error) error {
	if c.String("report") == "" {
		return nil
	}
	return atomicfile.Write(c.String("report"), func(w io.Writer) error {
		return write(w, report.About{Version: version().Gocp, Seed: c.Uint64("seed")})
	})
}

// splitFlags are those of random splits, with how many there are and what auto gets unless told.
func splitFlags(splits int, tuneShare float64) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "splits", Value: splits, Usage: "random splits into calibration and test samples"},
		&cli.Float64Flag{Name: "share", Value: 0.5, Usage: "of the samples that calibrates in each split"},
		&cli.Float64Flag{Name: "tune-share", Value: tuneShare, Usage: "of the samples that is set aside for auto"},
		&cli.Float64Flag{Name: "temperature", Usage: "divide logits by this"},
		miscoverageFlag(), seedFlag(),
	}
}

func conformalSplits(c *cli.Context, scores []conformal.Variant, chosen bool) error {
	in, err := input(c)
	if err != nil {
		return err
	}
	level, err := miscoverage(c)
	if err != nil {
		return err
	}
	r, err := conformalRun(c, func(run conformalio.Run) ([]conformalio.SplitsResult, error) {
		return conformalio.SplitsJob{Run: run, Input: in, Labels: c.String("labels"), Scores: scores, Miscoverage: level, Splits: c.Int("splits"),
			Share: c.Float64("share"), TuneShare: c.Float64("tune-share"), Auto: chosen, Temperature: c.Float64("temperature")}.Evaluate()
	})
	if err != nil {
		return err
	}
	if err := page(c, func(w io.Writer, about report.About) error { return report.WriteComparison(w, r, about) }); err != nil {
		return err
	}
	return show(c, r, func(w io.Writer) { printConformalSplits(w, r) })
}

func conformalCompare() *cli.Command {
	return &cli.Command{
		Name:      "compare",
		Usage:     "all scores side by side over random splits of one data set",
		UsageText: "gocp conformal compare --logits all.npy --labels all_y.npy",
		Flags: append(append(inputFlags(), append(splitFlags(100, 0.1), pageFlag(),
			&cli.StringFlag{Name: "labels", Usage: "file of true labels, from 0"})...), runFlags()...),
		Before: refuse(readingRules(), []rule{above0("splits", "share", "tune-share", "temperature")}),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "labels")); err != nil {
				return err
			}
			return conformalSplits(c, []conformal.Variant{
				{Name: "hps"}, {Name: "margin"},
				{Name: "aps"}, {Name: "aps", U: conformal.DrawSample}, {Name: "aps", U: conformal.DrawLabel},
				{Name: "raps"}, {Name: "raps", U: conformal.DrawSample},
				{Name: "saps"}, {Name: "saps", U: conformal.DrawSample},
			}, true)
		},
	}
}

func printConformalSplits(w io.Writer, results []conformalio.SplitsResult) {
	r := results[0]
	fmt.Fprintf(w, "%d splits into %d calibration and %d test samples, miscoverage %s: coverage %.4f ± %.4f expected\n", r.Splits, r.Calibration, r.Test, r.Miscoverage, r.Expected, r.ExpectedSD)
	width := 0
	for _, r := range results {
		width = max(width, len([]rune(r.Score.String())))
	}
	fmt.Fprintf(w, "%-*s  %-17s %-17s %7s %7s %7s %8s\n", width, "score", "coverage", "size", "empty", "single", "sscv", "outside")
	for _, r := range results {
		fmt.Fprintf(w, "%-*s  %.4f ± %.4f   %7.3f ± %.3f   %6.1f%% %6.1f%% %7.3f %7.1f%%\n", width, r.Score, r.Coverage.Mean, r.Coverage.SD, r.MeanSize.Mean, r.MeanSize.SD,
			100*r.Empty.Mean, 100*r.Singleton.Mean, r.Violation.Mean, 100*r.Outside)
	}
	fmt.Fprintln(w, "± is the standard deviation over splits; sscv the largest gap of coverage among sizes; outside the share of splits beyond the law's central 95 %")
	var notes []string
	for _, r := range results {
		for _, n := range r.Notes {
			if !slices.Contains(notes, n) {
				notes = append(notes, n)
			}
		}
	}
	printNotes(w, notes)
}

func printConformalEvaluation(w io.Writer, e *conformalio.Evaluation) {
	fmt.Fprintf(w, "%d samples, %s, miscoverage %s\n", e.N, e.Score, e.Miscoverage)
	fmt.Fprintf(w, "coverage   %.4f  (95 %% interval %.4f to %.4f)\n", e.Coverage.Rate, e.Coverage.Low, e.Coverage.High)
	if x := e.Expected; x != nil {
		where := "inside"
		switch {
		case x.ByTies:
			where = "by ties above"
		case !x.Inside:
			where = "outside"
		}
		fmt.Fprintf(w, "           %s the band %.4f to %.4f that holds 95 %% of exchangeable data, mean %.4f\n", where, x.Low, x.High, x.Mean)
	}
	fmt.Fprintf(w, "accuracy   %.4f\n", e.Accuracy)
	fmt.Fprintf(w, "mean size  %.4f  (%d empty, %d with one label, %d filled; median %d, nine in ten up to %d, largest %d)\n",
		e.MeanSize, e.Empty, e.Singleton, e.Filled, e.SizeQuantiles[2], e.SizeQuantiles[4], e.SizeQuantiles[5])
	strata := func(name string, list []conformal.Stratum) {
		for _, s := range list {
			label := strconv.Itoa(s.Low)
			switch {
			case s.High > 1<<40:
				label += " and more"
			case s.High != s.Low:
				label += " to " + strconv.Itoa(s.High)
			}
			fmt.Fprintf(w, "  %s %-12s coverage %.4f of %d, mean size %.3f\n", name, label, s.Coverage.Rate, s.Coverage.N, s.MeanSize)
		}
	}
	strata("size", e.BySize)
	strata("rank of the true label", e.ByDifficulty)
	strata("group", e.ByGroup)
	worst := -1
	for k, p := range e.Classes {
		if p.N > 0 && (worst < 0 || p.Rate < e.Classes[worst].Rate) {
			worst = k
		}
	}
	if worst >= 0 {
		p := e.Classes[worst]
		fmt.Fprintf(w, "lowest class %d: coverage %.4f of %d (95 %% interval %.4f to %.4f)\n", worst, p.Rate, p.N, p.Low, p.High)
	}
	if s := e.WorstSlice; s != nil {
		fmt.Fprintf(w, "worst slice: coverage %.4f of %d (95 %% interval %.4f to %.4f)\n", s.Coverage.Rate, s.Coverage.N, s.Coverage.Low, s.Coverage.High)
	}
	printNotes(w, e.Notes)
}

func conformalFull() *cli.Command {
	return &cli.Command{
		Name:      "full",
		Usage:     "full conformal prediction: a head on features, refit for every candidate label",
		UsageText: "gocp conformal full --features x.npy --labels y.npy --test-features tx.npy --out sets.npy",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "features", Usage: "file of features, a row for each labelled sample"},
			&cli.StringFlag{Name: "labels", Usage: "their labels, from 0"},
			&cli.StringFlag{Name: "test-features", Usage: "features of the samples that want sets"},
			&cli.StringFlag{Name: "test-labels", Usage: "their labels, to measure coverage"},
			&cli.IntFlag{Name: "classes", Usage: "number of labels", DefaultText: "the largest label and one"},
			&cli.StringFlag{Name: "head", Value: "ridge", Usage: "ridge (leave-one-out scores in closed form) or softmax"},
			&cli.Float64Flag{Name: "lambda", Value: 1, Usage: "weight of the penalty ‖W‖²"},
			&cli.BoolFlag{Name: "bias", Usage: "add a feature that is 1"},
			&cli.StringFlag{Name: "score", Value: "residual", Usage: "of a sample: residual, margin"},
			miscoverageFlag(), outFlag("sets to write: .npy, .jsonl or .csv"),
		}, runFlags()...),
		Before: refuse(readingRules(), []rule{above0("classes", "lambda")}),
		Action: func(c *cli.Context) error {
			if err := first(noArgs(c), needFlags(c, "features", "labels", "test-features")); err != nil {
				return err
			}
			level, err := miscoverage(c)
			if err != nil {
				return err
			}
			r, err := conformalRun(c, func(run conformalio.Run) (*conformalio.FullResult, error) {
				return conformalio.FullJob{Run: run, Features: c.String("features"), Labels: c.String("labels"), TestFeatures: c.String("test-features"),
					TestLabels: c.String("test-labels"), Classes: c.Int("classes"), Head: c.String("head"), Lambda: c.Float64("lambda"), Bias: c.Bool("bias"),
					Score: conformal.HeadScore(c.String("score")), Miscoverage: level, Out: c.String("out")}.Predict()
			})
			if err != nil {
				return err
			}
			return show(c, r, func(w io.Writer) {
				fmt.Fprintf(w, "full conformal prediction, %s head on %d features, λ = %g, score %s, miscoverage %s: %d labelled, %d test samples\n",
					r.Head, r.Features, r.Lambda, r.Score, r.Miscoverage, r.N, r.Test)
				fmt.Fprintf(w, "mean size  %.4f\n", r.MeanSize)
				if p := r.Coverage; p != nil {
					fmt.Fprintf(w, "coverage   %.4f  (95 %% interval %.4f to %.4f)\n", p.Rate, p.Low, p.High)
				}
				printNotes(w, r.Notes)
				if r.Unsettled > 0 {
					fmt.Fprintf(w, "%d candidates were within rounding of the threshold and are in their sets\n", r.Unsettled)
				}
			})
		},
	}
}
