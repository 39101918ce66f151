package report

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// filterPage is what n filters say of 3·n classes, with the given name and numbers.
func filterPage(n int, name string, next func() float64) *Filters {
	f := &Filters{Samples: 1000, Features: 64, Poisons: 20, Model: strings.Repeat("a", 64)}
	for range 3 * n {
		f.Classes, f.Names = append(f.Classes, 1000/3/n), append(f.Names, name)
	}
	for range n {
		by := Filter{Method: name, Source: name, Rule: name, Dropped: 60, ByClass: make([]int, 3*n),
			Known: &FilterKnown{Poisons: 20, PoisonsDropped: 12, CleanDropped: 48, Precision: next(), Recall: next(), AUC: next(), ROC: [][2]float64{{0, 0}, {next(), next()}, {1, 1}}}}
		for i := range 12 {
			by.First = append(by.First, Suspect{Sample: i, Label: i % 3, Score: next(), Reason: name})
		}
		f.By = append(f.By, by)
	}
	return f
}

// The page of filters names what each drops and why, shows pictures where there are any, and curves where
// the poisons are known.
func TestFilterPages(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	full := filterPage(3, "deep-knn", r.Float64)
	unknown := filterPage(2, "a<b", r.Float64)
	for i := range unknown.By {
		unknown.By[i].Known = nil
	}
	unknown.Names = nil
	shown := filterPage(1, "spectral", r.Float64)
	for range 5 {
		shown.Pictures = append(shown.Pictures, Suspect{Sample: 7, PNG: []byte("png")}, Suspect{Sample: 8})
	}
	for name, c := range map[string]struct {
		f    *Filters
		want []string
		not  string
	}{
		"full":    {full, []string{"filter report", "deep-knn drops 60 of 1000 samples", "12 of 20 poisons", "and 48 more", "Poisons dropped over clean samples dropped"}, "most suspicious</h2>"},
		"unknown": {unknown, []string{"a&lt;b", "Dropped of each class"}, "Poisons dropped over"},
		"shown":   {shown, []string{"most suspicious</h2>", "data:image/png;base64,", "5 of 60"}, "conformal report"},
		"nothing": {&Filters{}, []string{"0 samples"}, "NaN"},
	} {
		var b bytes.Buffer
		if err := WriteFilters(&b, c.f, About{Version: "v1"}); err != nil {
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
