package report

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/result"
)

func noPicture(int) ([]byte, error) { return nil, nil }

// filterPage is what n filters say of 3·n classes, with the given name and numbers.
func filterPage(n int, name string, next func() float64) *result.Filtered {
	f := &result.Filtered{Samples: 1000, Columns: 64, Poisons: 20, Model: strings.Repeat("a", 64)}
	for range 3 * n {
		f.Classes, f.Names = append(f.Classes, 1000/3/n), append(f.Names, name)
	}
	for range n {
		by := result.FilteredBy{Method: name, Source: name, Says: name, ByClass: make([]int, 3*n),
			Known: &result.Found{Poisons: 20, PoisonsDropped: 12, CleanDropped: 48, Precision: next(), Recall: next(), AUC: next(), ROC: []result.Cut{{}, {Clean: next(), Poisons: next()}, {Clean: 1, Poisons: 1}}}}
		for i := range 60 {
			by.Flagged = append(by.Flagged, result.Flagged{Sample: i, Label: i % 3, Rank: i + 1, Score: next(), Reason: name})
		}
		f.Methods = append(f.Methods, by)
	}
	return f
}

// The page of filters names what each drops and why, shows pictures where there are any, and curves where
// the poisons are known.
func TestFilterPages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	full := filterPage(3, "deep-knn", r.Float64)
	unknown := filterPage(2, "a<b", r.Float64)
	for i := range unknown.Methods {
		unknown.Methods[i].Known = nil
	}
	unknown.Names = nil
	shown := filterPage(1, "spectral", r.Float64)
	some := func(sample int) ([]byte, error) {
		if sample%2 == 0 || sample > 10 {
			return nil, nil
		}
		return []byte("png"), nil
	}
	for name, c := range map[string]struct {
		f       *result.Filtered
		picture func(int) ([]byte, error)
		want    []string
		not     string
	}{
		"full":    {full, noPicture, []string{"filter report", "deep-knn drops 60 of 1000 samples", "12 of 20 poisons", "and 12 more", "Poisons dropped over clean samples dropped"}, "most suspicious</h2>"},
		"unknown": {unknown, noPicture, []string{"a&lt;b", "Dropped of each class"}, "Poisons dropped over"},
		"shown":   {shown, some, []string{"most suspicious</h2>", "data:image/png;base64,", "5 of 60"}, "conformal report"},
		"nothing": {&result.Filtered{}, noPicture, []string{"0 samples"}, "NaN"},
	} {
		var b bytes.Buffer
		if err := WriteFiltered(&b, c.f, c.picture, About{Version: "v1"}); err != nil {
			t.Fatal(err)
		}
		wellFormed(t, name, b.String())
		keep(t, "filters-"+name, b.Bytes())
		for _, want := range c.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: no %q", name, want)
			}
		}
		if strings.Contains(b.String(), c.not) {
			t.Errorf("%s: holds %q", name, c.not)
		}
	}
}
