package report

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/conformalio"
	"github.com/gocp/gocp/gocp/result"
)

// Pages of extreme results, which scripts/pages.sh opens in a browser: numbers that are infinite, long or
// none, and names without a place to break.
func TestExtremePages(t *testing.T) {
	long := strings.Repeat("a-name-without-an-end_", 12)
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 1))
		next := func() float64 { return extremes[r.IntN(len(extremes))] * float64(1-2*r.IntN(2)) }
		a := extremeAudit([]string{"overconfidence", "underconfidence", "add"}[seed], 2+int(seed), 3+40*int(seed), next)
		for k := range a.Dataset.Classes {
			a.Dataset.Classes[k] = fmt.Sprint(long, k)
		}
		a.Dataset.Name, a.Dataset.Origin, a.Device.Name, a.Config.Precision, a.Version = long, long, long, long, long
		a.Dataset.Splits = []result.Split{{Name: long, Use: long, Size: 1 << 40, SHA256: strings.Repeat("f", 64)}}
		a.Models = []result.Model{{Role: long, Seed: 1<<64 - 1, SHA256: strings.Repeat("f", 64), Accuracy: number(next), Coverage: number(next), MeanSize: number(next)}}
		for i := range a.Repeats {
			t := &a.Repeats[i].Targets[0]
			t.Why, t.Picture = long, "p.png"
			t.Near = &result.Near{ID: 1 << 40, Label: len(a.Dataset.Classes) - 1 - t.Label, Distance: [...]result.Number{1e300, 0, 1e-300}[seed], Levels: 254.9, Picture: "p.png"}
			for v := range a.Repeats[i].Victims {
				for k := range min(20, len(a.Dataset.Classes)) {
					a.Repeats[i].Victims[v].Outcomes[0].Set = append(a.Repeats[i].Victims[v].Outcomes[0].Set[:k:k], k)
				}
			}
		}
		name := fmt.Sprintf("extreme-audit-%d", seed)
		page := write(t, a, fstest.MapFS{"p.png": &fstest.MapFile{Data: picture(r, nil, 0)}})
		wellFormed(t, name, page)
		keep(t, name, []byte(page))

		var list []conformalio.SplitsResult
		for _, score := range []string{"hps", "raps", long} {
			s := func() conformalio.Spread { return conformalio.Spread{Mean: next(), SD: next()} }
			list = append(list, conformalio.SplitsResult{Score: conformal.Variant{Name: score, U: conformal.DrawLabel, Nonempty: true, Lambda: 1e300, KReg: 1 << 50}, Miscoverage: conformal.MustLevel("0.1"), Splits: 1 << 40,
				Calibration: 1 << 40, Test: 1 << 40, Coverage: s(), Expected: next(), ExpectedSD: next(), Outside: next(), MeanSize: s(), Empty: s(), Singleton: s(), Violation: s(), Tau: s()})
		}
		about := About{Version: long, Seed: 1<<64 - 1, Sources: []conformalio.Source{{Role: long, Name: long, SHA256: strings.Repeat("e", 64)}}}
		var b bytes.Buffer
		if err := WriteComparison(&b, list, about); err != nil {
			t.Fatal(err)
		}
		wellFormed(t, "comparison", b.String())
		keep(t, fmt.Sprintf("extreme-comparison-%d", seed), b.Bytes())

		e := evaluation(400, 1+999*int(seed))
		e.MeanSize, e.Accuracy, e.Coverage = next(), next(), conformal.Proportion{K: 1 << 40, N: 1 << 41, Rate: next(), Low: next(), High: next()}
		e.Expected = &conformalio.Expected{Mean: next(), Low: next(), High: next()}
		for g := range 30 {
			e.ByGroup = append(e.ByGroup, conformal.Stratum{Low: g << 40, High: g << 40, Coverage: e.Coverage, MeanSize: next()})
		}
		b.Reset()
		if err := WriteEvaluation(&b, e, about); err != nil {
			t.Fatal(err)
		}
		wellFormed(t, "evaluation", b.String())
		keep(t, fmt.Sprintf("extreme-evaluation-%d", seed), b.Bytes())

		b.Reset()
		if err := WriteFiltered(&b, filterPage(1+int(seed), long, next), noPicture, about); err != nil {
			t.Fatal(err)
		}
		wellFormed(t, "filters", b.String())
		keep(t, fmt.Sprintf("extreme-filters-%d", seed), b.Bytes())
	}
}

func number(next func() float64) result.Number { return result.Number(next()) }
