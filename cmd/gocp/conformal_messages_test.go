package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/npy"
)

// TestConformalMessages: what numbers alone would let one misread is said in words, by every command that
// meets it.
func TestConformalMessages(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, n int, line func(i int) string) {
		t.Helper()
		var b strings.Builder
		for i := range n {
			fmt.Fprintln(&b, line(i))
		}
		if err := os.WriteFile(filepath.Join(dir, name+".csv"), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Logits of three labels, the true one first in turn; label 2 is never true among the few.
	logits := func(i int) string { return fmt.Sprintf("%.2f,%.2f,%.2f", float64(i*7%5)+.25, float64(i*3%4)+.5, .75) }
	for _, n := range []int{5, 20, 40} {
		write(fmt.Sprint("z", n), n, logits)
		write(fmt.Sprint("y", n), n, func(i int) string { return fmt.Sprint(i % 2) })
		write(fmt.Sprint("g", n), n, func(i int) string { return fmt.Sprint(i % 2) })
		write(fmt.Sprint("x", n), n, func(i int) string { return fmt.Sprintf("%.2f,%.2f", float64(i%3)+.5, float64(i%5)-.25) })
		write(fmt.Sprint("truth", n), n, func(i int) string { return [2]string{"1,0,1", "0,1,0"}[i%2] })
		write(fmt.Sprint("votes", n), n, func(i int) string { return [2]string{"3,1,1", "1,3,1"}[i%2] })
	}
	write("g7", 20, func(i int) string { return fmt.Sprint(i % 2 * 7) })
	write("y3", 20, func(i int) string { return fmt.Sprint(i % 3) })
	// Probabilities of exactly 0 and 1: the first is right in four cases of five, the second always.
	write("sure", 50, func(i int) string { return "1.0,0.0,0.0" })
	write("often", 50, func(i int) string { return fmt.Sprint(min(1, i%5/4)) })
	write("always", 50, func(i int) string { return "0" })
	// Two probabilities only, right in 19 of 20: 0.9 is promised, and ties make it 0.95.
	write("rounded", 2000, func(i int) string { return "0.75,0.25" })
	write("most", 2000, func(i int) string { return fmt.Sprint(i * 7 % 20 / 19) })

	few := "calibration samples are too few for miscoverage 0.1: every set holds every label; at least 9 are needed"
	zero := "the true label has a probability of exactly 0, more than miscoverage 0.1 allows for"
	calibrate := "conformal calibrate --miscoverage 0.1 --out thr.json --quiet "
	predict := "conformal predict --threshold thr.json --out s.npy --quiet "
	evaluate := "conformal evaluate --threshold thr.json --quiet "
	for _, c := range []struct {
		name  string
		first string // a command that comes before
		args  string
		want  string
	}{
		{"few", "", calibrate + "--logits z5.csv --labels y5.csv", "5 " + few},
		{"few, predicted", calibrate + "--logits z5.csv --labels y5.csv", predict + "--logits z20.csv", "5 " + few},
		{"few, evaluated", calibrate + "--logits z5.csv --labels y5.csv", evaluate + "--logits z20.csv --labels y20.csv", "5 " + few},
		{"few in a split", "", "conformal evaluate --splits 3 --share 0.4 --logits z20.csv --labels y20.csv --quiet", "8 calibration samples of a split are too few for miscoverage 0.1: every set holds every label; at least 9 are needed"},
		{"few for risk", "", "conformal risk --logits z5.csv --truth truth5.csv --risk 0.1 --out thr.json --quiet", "5 samples are too few for risk 0.1: every set holds every label; at least 9 are needed"},
		{"few for risk, predicted", "conformal risk --logits z5.csv --truth truth5.csv --risk 0.1 --out thr.json --quiet", predict + "--logits z20.csv", "5 samples are too few for risk 0.1"},
		{"few, full", "", "conformal full --features x5.csv --labels y5.csv --test-features x20.csv --test-labels y20.csv --quiet", "5 labelled samples are too few for miscoverage 0.1"},
		{"few, cross", "", "conformal cross --logits z5.csv --labels y5.csv --folds g5.csv --test-logits z20.csv --test-logits z20.csv --test-labels y20.csv --quiet", "5 labelled samples are too few"},
		{"few, rscp", "", "conformal rscp --logits z20.csv --labels y20.csv --test-logits z20.csv --test-labels y20.csv --sigma 1 --correction hoeffding --beta 0.04 --quiet", "20 calibration samples are too few for miscoverage 1/50: every set holds every label; at least 49 are needed"},
		{"few, rps", "", "conformal rps --votes votes20.csv --labels y20.csv --parts g20.csv --test-votes votes20.csv --test-labels y20.csv --quiet --miscoverage 0.1", "2 of 2 calibration parts have too few samples for miscoverage 1/20 of one part and vote for every label; each needs at least 19"},
		{"a class never seen", "", calibrate + "--by class --logits z20.csv --labels y20.csv", "1 of 3 classes has no calibration sample: it gets τ = +∞"},
		{"a class never seen, evaluated", calibrate + "--by class --below marginal --logits z20.csv --labels y20.csv", evaluate + "--logits z20.csv --labels y3.csv", "6 of 20 samples are of 1 class that calibration never saw: these get the marginal threshold"},
		{"small classes", "", calibrate + "--by class --min-cell 12 --logits z20.csv --labels y20.csv", "2 of 3 classes have fewer than 12 calibration samples: they get τ = +∞"},
		{"few in the pool", "", calibrate + "--by class --below pool --logits z5.csv --labels y5.csv", "5 calibration samples in small classes together are too few for miscoverage 0.1: their labels are in every set; at least 9 are needed"},
		{"few in the pool, predicted", calibrate + "--by class --below pool --logits z5.csv --labels y5.csv", predict + "--logits z20.csv", "5 calibration samples in small classes together are too few"},
		{"a group never seen", calibrate + "--by group --groups g20.csv --logits z20.csv --labels y20.csv", predict + "--groups g7.csv --logits z20.csv", "10 of 20 samples are in 1 group that calibration never saw (7): they get τ = +∞"},
		{"zeros, aps, u = 1", "", calibrate + "--score aps --probs sure.csv --labels often.csv", zero},
		{"zeros, aps, u drawn", "", calibrate + "--score aps --randomized --probs sure.csv --labels often.csv", zero},
		{"zeros, aps, u by label", calibrate + "--score aps --u label --probs sure.csv --labels often.csv", predict + "--probs sure.csv", zero},
		{"zeros, raps", "", calibrate + "--score raps --lambda 0.1 --k-reg 3 --randomized --probs sure.csv --labels often.csv", zero},
		{"zeros, hps", calibrate + "--score hps --probs sure.csv --labels often.csv", evaluate + "--probs sure.csv --labels often.csv", zero},
		{"ones, aps, u = 1", "", calibrate + "--score aps --probs sure.csv --labels always.csv", "in 50 of 50 calibration samples (100 %) the true label has a probability of exactly 1 and in 0 of exactly 0: with u = 1 both score 1"},
		{"ties", calibrate + "--probs rounded.csv --labels most.csv", evaluate + "--probs rounded.csv --labels most.csv", "95 % of the calibration scores and 95 % of the test scores are equal to τ, and all of those are inside; this is no sign against exchangeability"},
		{"ties, the place", calibrate + "--probs rounded.csv --labels most.csv", evaluate + "--probs rounded.csv --labels most.csv", "by ties above the band"},
		{"ties, many splits", "", "conformal evaluate --splits 10 --probs rounded.csv --labels most.csv --quiet", "hps: in 100 % of the splits coverage lies above the band by ties: 94.9 % of the test scores are equal to τ"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, args := range []string{c.first, c.args} {
				if args == "" {
					continue
				}
				o := gocp(t, dir, strings.Fields(args)...)
				if o.code != exitOK {
					t.Fatalf("%s: status %d: %s", args, o.code, o.stderr)
				}
				if args == c.args && !strings.Contains(o.stdout, c.want) {
					t.Errorf("%s:\n%swant %q", args, o.stdout, c.want)
				}
			}
		})
	}
	// And where there is nothing to say, nothing is said.
	for _, args := range []string{calibrate + "--logits z40.csv --labels y40.csv", predict + "--logits z20.csv", "conformal evaluate --splits 3 --logits z40.csv --labels y40.csv --quiet"} {
		o := gocp(t, dir, strings.Fields(args)...)
		for _, word := range []string{"too few", "exactly", "ties", "never"} {
			if o.code != exitOK || strings.Contains(o.stdout, word) {
				t.Errorf("%s: status %d, %q in\n%s", args, o.code, word, o.stdout)
			}
		}
	}
}

// TestConformalNoRows: nothing is calibrated on no rows, judged by none or predicted for none.
func TestConformalNoRows(t *testing.T) {
	dir := t.TempDir()
	conformalData(t, dir, "cal", 20)
	for name, a := range map[string]*npy.Array{"z": npy.Float32(nil, 0, 3), "y": npy.Int64(nil, 0)} {
		f, err := os.Create(filepath.Join(dir, name+".npy"))
		if err == nil {
			err = errors.Join(npy.Write(f, a), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	args := func(text string) []string { return append([]string{"conformal"}, strings.Fields(text)...) }
	if o := gocp(t, dir, args("calibrate --logits cal.csv --labels cal_y.csv --out thr.json --quiet")...); o.code != exitOK {
		t.Fatal(o.stderr)
	}
	for _, text := range []string{
		"predict --threshold thr.json --logits z.npy --out s.npy --quiet",
		"calibrate --logits z.npy --labels y.npy --out x.json --quiet",
		"risk --logits z.npy --truth z.npy --out x.json --quiet",
		"evaluate --threshold thr.json --logits z.npy --labels y.npy --quiet",
		"evaluate --splits 3 --logits z.npy --labels y.npy --quiet",
		"full --features z.npy --labels y.npy --classes 3 --test-features cal.csv --out s.npy --quiet",
		"cross --logits z.npy --labels y.npy --folds y.npy --test-logits cal.csv --out s.npy --quiet",
		"rscp --logits z.npy --labels y.npy --test-logits cal.csv --sigma 1 --out s.npy --quiet",
	} {
		refuses(t, dir, "there are no rows", args(text)...)
	}
}
