package conformal

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

func FuzzParseLevel(f *testing.F) {
	for _, s := range []string{"0.1", "1/10", ".05", "1e-9", "0", "-1", "0.999999999999999999999", "/", "½"} {
		f.Add(s, 100)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		l, err := ParseLevel(s)
		if err != nil {
			return
		}
		if n < 0 {
			n = -(n + 1)
		}
		n %= 1 << 40
		r, err := l.Rank(n)
		if err != nil || r < 1 || r > n+1 {
			t.Fatalf("ε=%q n=%d: rank %d, %v", s, n, r, err)
		}
		if (r <= n) != (n >= l.MinCalibration()) {
			t.Fatalf("ε=%q n=%d: rank %d, MinCalibration %d", s, n, r, l.MinCalibration())
		}
	})
}

// FuzzPredict feeds arbitrary bits as logits: either an error that names a row, or scores that
// are numbers, sets that are nested in the level, and coverage on the calibration part itself of at
// least the level (its own rank lies below τ).
func FuzzPredict(f *testing.F) {
	f.Add([]byte{0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64}, uint8(2), uint8(0))
	f.Add([]byte{0, 0, 192, 127, 0, 0, 0, 0}, uint8(1), uint8(3))
	f.Add(make([]byte, 4*60), uint8(3), uint8(5))
	f.Fuzz(func(t *testing.T, raw []byte, width, which uint8) {
		k := int(width)%20 + 1
		n := len(raw) / 4 / k
		z := make([]float32, n*k)
		bad := false
		for i := range z {
			z[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
			bad = bad || math.IsNaN(float64(z[i])) || math.IsInf(float64(z[i]), 0)
		}
		p, err := Softmax(n, k, z)
		if bad != (err != nil) || (err != nil && !strings.Contains(err.Error(), "row ")) {
			t.Fatalf("bad input %v, error %v", bad, err)
		}
		if err != nil {
			return
		}
		v := variants[int(which)%len(variants)]
		s, err := NewScorer(v)
		if err != nil {
			t.Fatal(err)
		}
		labels := make([]int, n)
		for i := range labels {
			labels[i] = int(raw[4*i]) % k
		}
		u := v.Uniforms(uint64(which), 0, n, k)
		var last *Sets
		for _, eps := range []string{"0.05", "0.3", "0.8"} {
			th, err := s.Calibrate(p, labels, u, MustLevel(eps))
			if err != nil {
				t.Fatal(err)
			}
			sets, err := s.Predict(p, u, th)
			if err != nil {
				t.Fatal(err)
			}
			m, err := Evaluate(sets, labels)
			if err != nil {
				t.Fatal(err)
			}
			if m.Coverage.K < min(th.Rank, n) {
				t.Fatalf("%d of %d calibration samples lie under their own threshold of rank %d", m.Coverage.K, n, th.Rank)
			}
			for i := range n {
				for _, y := range sets.Labels(i) {
					if last != nil && !last.Has(i, y) {
						t.Fatalf("row %d label %d: sets are not nested", i, y)
					}
				}
			}
			last = sets
		}
	})
}
