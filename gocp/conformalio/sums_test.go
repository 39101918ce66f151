package conformalio

import (
	"math"
	"strings"
	"testing"
)

// TestSums: rows whose few digits explain why they miss 1 are divided by their sums, others are refused.
func TestSums(t *testing.T) {
	bfloat := func(v float64) float64 { return float64(math.Float32frombits(math.Float32bits(float32(v)) &^ 0xffff)) }
	tenth := []float64{0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1}
	for _, c := range []struct {
		name    string
		row     []float64
		exact   bool
		refused string
		divided bool
	}{
		{"as it is", tenth, false, "", false},
		{"float32", []float64{0.3333333432674408, 0.3333333432674408, 0.3333333432674408}, false, "", false},
		{"three digits", []float64{0.333, 0.333, 0.166, 0.167}, false, "", false},
		{"three digits", []float64{0.166, 0.166, 0.166, 0.166, 0.166, 0.168}, false, "", true},
		{"three digits", []float64{0.166, 0.166, 0.166, 0.166, 0.166, 0.168}, true, "they sum to", false},
		{"three digits, too far", []float64{0.333, 0.333, 0.330}, false, "their digits explain", false},
		{"two digits of ten labels", []float64{0.1, 0.11, 0.09, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.09}, false, "", true},
		{"two digits, beyond 1e-3 a label", []float64{0.1, 0.11, 0.09, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.08}, false, "their digits explain", false},
		{"bfloat16", []float64{bfloat(0.7), bfloat(0.2), bfloat(0.05), bfloat(0.05)}, false, "", true},
		{"all digits", []float64{0.7123456789, 0.2, 0.08}, false, "their digits explain", false},
		{"negative", []float64{1.004, -0.002, 0}, false, "they sum to", false},
		{"not a number", []float64{math.NaN(), 0.5, 0.5}, false, "no probability", false},
		{"logits", []float64{2, 0.5, 0.5}, false, "are they logits", false},
	} {
		s := sums{exact: c.exact}
		p := append([]float64(nil), c.row...)
		before := 0.0
		for _, v := range p {
			before += v
		}
		err := s.row(p)
		if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v; want %q", c.name, err, c.refused)
		}
		if err != nil {
			continue
		}
		sum := 0.0
		for i, v := range p {
			sum += v
			if want := c.row[i] / before; c.divided && v != want || !c.divided && v != c.row[i] {
				t.Errorf("%s: entry %d became %v", c.name, i, v)
			}
		}
		if c.divided && math.Abs(sum-1) > 1e-15 {
			t.Errorf("%s: the sum is %v", c.name, sum)
		}
		if said := s.say(nil, "f"); (said != "") != c.divided {
			t.Errorf("%s: %q is said", c.name, said)
		}
	}
}
