package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/conformalio"
)

func evaluation(n, k int) *conformalio.Evaluation {
	e := &conformalio.Evaluation{Score: conformal.Variant{Name: "raps", Lambda: 0.1}, Miscoverage: conformal.MustLevel("0.1")}
	e.N, e.Sizes = n, make([]int, k+1)
	for i := range n {
		e.Sizes[(i*i)%(k+1)]++
	}
	e.Coverage = conformal.NewProportion(n*9/10, n, conformal.Confidence)
	for y := range k {
		e.Classes = append(e.Classes, conformal.NewProportion(y%7, 7*min(1, n), conformal.Confidence))
	}
	return e
}

func TestConformalPages(t *testing.T) {
	full := evaluation(400, 30)
	full.Expected = &conformalio.Expected{Mean: 0.9, Low: 0.86, High: 0.94, Inside: true}
	full.SizeQuantiles = []int{0, 1, 2, 3, 4, 5}
	full.BySize = []conformal.Stratum{{Low: 0, High: 1, Coverage: full.Coverage}, {Low: 2, High: 1 << 50, Coverage: full.Coverage}}
	full.ByDifficulty, full.ByGroup = full.BySize, full.BySize[:1]
	full.WorstSlice = &conformal.Slab{Coverage: full.Coverage}
	outside := evaluation(400, 3)
	outside.Expected = &conformalio.Expected{Mean: 0.8, Low: 0.7, High: 0.85}
	ties := evaluation(400, 3)
	ties.Expected = &conformalio.Expected{Mean: 0.8, Low: 0.7, High: 0.85, ByTies: true, Tied: 300}
	ties.Notes = []string{"coverage lies above the band by ties"}
	for name, c := range map[string]struct {
		e    *conformalio.Evaluation
		want []string
	}{
		"full":    {full, []string{"as promised", "2 and more", "the 20 lowest of 30", "Worst slice", "cal&lt;1&gt;.npy", "deadbeef"}},
		"outside": {outside, []string{"outside the band", "label 2"}},
		"ties":    {ties, []string{"lies above the band of exchangeable data, by ties", "coverage lies above the band by ties."}},
		"nothing": {evaluation(0, 1), []string{"no band", "0 samples"}},
	} {
		var b bytes.Buffer
		err := WriteEvaluation(&b, c.e, About{Version: "v1", Seed: 3, Sources: []conformalio.Source{{Role: "calibration", Name: "cal<1>.npy", SHA256: "deadbeef"}}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wellFormed(t, name, b.String())
		keep(t, "evaluation-"+name, b.Bytes())
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
		if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
			t.Errorf("%s: a number is none", name)
		}
	}
	list := []conformalio.SplitsResult{
		{Score: conformal.Variant{Name: "hps"}, Miscoverage: conformal.MustLevel("0.1"), Splits: 10, Calibration: 50, Test: 50, Expected: 0.9, ExpectedSD: 0.05,
			Coverage: conformalio.Spread{Mean: 0.91, SD: 0.04}, MeanSize: conformalio.Spread{Mean: 2.5, SD: 0.1}},
		{Score: conformal.Variant{Name: "aps", U: conformal.DrawSample}, Miscoverage: conformal.MustLevel("0.1"), Splits: 10, Calibration: 50, Test: 50, Expected: 0.9, ExpectedSD: 0.05,
			Coverage: conformalio.Spread{Mean: 0.6, SD: 0.04}, MeanSize: conformalio.Spread{Mean: 3.5}, Outside: 1},
	}
	for i, want := range []string{"", "Many splits: hps", "coverage below the law"} {
		var b bytes.Buffer
		err := WriteComparison(&b, list[:i], About{})
		if i == 0 {
			if err == nil {
				t.Error("nothing was compared")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, want, b.String())
		keep(t, fmt.Sprintf("comparison-%d", i), b.Bytes())
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q", want)
		}
	}
}
