package conformal

import (
	"encoding/binary"
	"math"
	"slices"
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
			bad = bad || math.IsNaN(float64(z[i])) || math.IsInf(float64(z[i]), 1)
		}
		for i := range n {
			bad = bad || math.IsInf(float64(slices.Max(z[i*k:(i+1)*k])), -1)
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

// FuzzFast feeds arbitrary bits as float32 logits to the fast way and to the definition, row by row:
// the same error, scores within their bound, and the same sets to the bit at thresholds that are
// scores of the row and at their neighbours.
func FuzzFast(f *testing.F) {
	f.Add([]byte{0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 0, 0, 128, 64}, uint8(2), uint8(0))
	f.Add([]byte{0, 0, 192, 127, 0, 0, 0, 0}, uint8(1), uint8(3))
	f.Add(make([]byte, 4*200), uint8(40), uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, width, which uint8) {
		if !vector {
			t.Skip("there is no fast way on this processor")
		}
		k := int(width)%80 + 1
		v := []Variant{{Name: "hps"}, {Name: "aps"}, {Name: "raps", Lambda: 0.05, KReg: 1, U: DrawSample}}[which%3]
		s, err := NewScorer(v)
		if err != nil {
			t.Fatal(err)
		}
		fast, worker := s.fast(k), s.worker(k)
		z, p := make([]float32, k), make([]float64, k)
		for i := range len(raw) / 4 / k {
			for y := range z {
				z[y] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*(i*k+y):]))
			}
			label := int(raw[4*i*k]) % k
			seed := uint64(which)
			got, err := fast.labelled(z, seed, label)
			wantErr := SoftmaxRow(p, z)
			if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
				t.Fatalf("%v, by the definition %v", err, wantErr)
			}
			if err != nil {
				continue
			}
			u := v.RowUniforms(seed, &Probs{N: 1, K: k, data: p})
			want, err := worker.labelled(p, u, label)
			if err != nil || math.Abs(got-want) > fast.error(want) {
				t.Fatalf("score %v, by the definition %v (%v)", got, want, err)
			}
			for _, tau := range []float64{want, math.Nextafter(want, 9), math.Nextafter(want, -9), got, 0, 1, math.Inf(1)} {
				a, b := NewSets(1, k), NewSets(1, k)
				if err := fast.add(a, 0, z, seed, tau); err != nil {
					t.Fatal(err)
				}
				if err := worker.add(b, 0, p, u, limits{tau: tau}); err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(a.bits, b.bits) {
					t.Fatalf("%s, τ = %v: %v, by the definition %v", v, tau, a.Labels(0), b.Labels(0))
				}
			}
		}
	})
}
