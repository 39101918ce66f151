package rng

import (
	"math"
	"slices"
	"testing"
)

// The known-answer vectors of Random123 1.14, kat_vectors, philox4x32 10.
func TestKnownAnswers(t *testing.T) {
	const f = 0xffffffff
	for _, c := range []struct {
		ctr  [4]uint32
		key  [2]uint32
		want [4]uint32
	}{
		{[4]uint32{}, [2]uint32{}, [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{f, f, f, f}, [2]uint32{f, f}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
	} {
		if got := Philox(c.ctr, c.key); got != c.want {
			t.Errorf("Philox(%x, %x) = %x, want %x", c.ctr, c.key, got, c.want)
		}
	}
}

func TestAddress(t *testing.T) {
	if got, want := Block(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88), [4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}; got != want {
		t.Errorf("Block = %x, want %x", got, want)
	}
	s := New(7, 9)
	var words []uint32
	for range 11 {
		words = append(words, s.Uint32())
	}
	for i := range words {
		b := Block(7, 9, uint64(i/4))
		if words[i] != b[i%4] {
			t.Errorf("word %d = %x, want %x", i, words[i], b[i%4])
		}
		s.Seek(uint64(i))
		if got := s.Uint32(); got != words[i] || s.Position() != uint64(i)+1 {
			t.Errorf("after Seek(%d): %x at %d, want %x", i, got, s.Position(), words[i])
		}
	}
	s.Seek(2)
	if got, want := s.Uint64(), uint64(words[3])<<32|uint64(words[2]); got != want {
		t.Errorf("Uint64 = %x, want %x", got, want)
	}
	names := map[uint64]bool{}
	for range 2 {
		for _, id := range []uint64{Stream("a"), Stream("b"), Stream("a", 1), Stream("a", 2), Stream("a", 1, 2)} {
			names[id] = true
		}
	}
	if len(names) != 5 {
		t.Errorf("5 names of streams give %d streams", len(names))
	}
}

// The polynomials against the C library's functions: 2 ulp of the larger
// factor's rounding, relative to the radius.
func TestNormalIsBoxMuller(t *testing.T) {
	check := func(a, b uint32) {
		t.Helper()
		r := math.Sqrt(-2 * math.Log((float64(a)+1)*0x1p-32))
		want := r * math.Cos(2*math.Pi*float64(b)*0x1p-32)
		// A radius near zero has the resolution of 2⁻²⁴ in its argument.
		if got := float64(Normal(a, b)); math.Abs(got-want) > 4e-7*r+3e-8/math.Max(r, 1e-4) {
			t.Errorf("Normal(%#x, %#x) = %v, want %v", a, b, got, want)
		}
	}
	edges := []uint32{0, 1, 2, 1<<29 - 1, 1 << 29, 1<<29 + 1, 1<<30 - 1, 1 << 30, 1<<31 - 1, 1 << 31, 3 << 30, 7 << 29, 1<<32 - 2, 1<<32 - 1, 0xb504f333, 0xb504f334}
	for _, a := range edges {
		for _, b := range edges {
			check(a, b)
		}
	}
	s := New(1, 2)
	for range 200000 {
		check(s.Uint32(), s.Uint32())
	}
}

// Moments of a million draws, each within five standard errors.
func TestMoments(t *testing.T) {
	const n = 1 << 20
	x := make([]float32, n)
	moment := func(k float64, centre float64) float64 {
		sum := 0.0
		for _, v := range x {
			sum += math.Pow(float64(v)-centre, k)
		}
		return sum / n
	}
	near := func(what string, got, want, sd float64) {
		t.Helper()
		if math.Abs(got-want) > 5*sd/math.Sqrt(n) {
			t.Errorf("%s = %v, want %v ± %v", what, got, want, sd/math.Sqrt(n))
		}
	}
	FillNormal(3, 4, 1, x)
	near("normal mean", moment(1, 0), 0, 1)
	near("normal variance", moment(2, 0), 1, math.Sqrt2)
	near("normal skewness", moment(3, 0), 0, math.Sqrt(15))
	near("normal kurtosis", moment(4, 0), 3, math.Sqrt(96))
	FillUniform(3, 4, 1, x)
	near("uniform mean", moment(1, 0), 0, math.Sqrt(1./3))
	near("uniform variance", moment(2, 0), 1./3, math.Sqrt(4./45))
}

func TestIntegers(t *testing.T) {
	s := New(5, 6)
	const n, draws = 7, 70000
	var count [n]float64
	for range draws {
		count[s.Intn(n)]++
	}
	chi2 := 0.0
	for _, c := range count {
		chi2 += (c - draws/n) * (c - draws/n) / (draws / n)
	}
	if chi2 > 30 { // 6 degrees of freedom, p < 1e-4
		t.Errorf("Intn(%d): χ² = %.1f, counts %v", n, chi2, count)
	}
	if s.Intn(0) != 0 || s.Intn(1) != 0 || s.Intn(-3) != 0 {
		t.Error("Intn(n ≤ 1) is not 0")
	}
	seen := map[string]bool{}
	for range 400 {
		p := s.Perm(4)
		q := slices.Sorted(slices.Values(p))
		if !slices.Equal(q, []int{0, 1, 2, 3}) {
			t.Fatalf("Perm(4) = %v", p)
		}
		seen[string([]byte{byte(p[0]), byte(p[1]), byte(p[2]), byte(p[3])})] = true
	}
	if len(seen) != 24 {
		t.Errorf("400 permutations of 4 show %d orders of 24", len(seen))
	}
	long, short := New(8, 1).Sample(1000, 600), New(8, 1).Sample(1000, 20)
	if !slices.Equal(long[:20], short) {
		t.Error("a longer sample does not begin with the shorter one")
	}
	slices.Sort(long)
	if len(slices.Compact(long)) != 600 || long[0] < 0 || long[len(long)-1] >= 1000 {
		t.Error("Sample repeats or leaves the range")
	}
	if got := New(8, 1).Sample(3, 9); len(got) != 3 {
		t.Errorf("Sample(3, 9) has %d elements", len(got))
	}
}

func BenchmarkUint32(b *testing.B) {
	s := New(1, 2)
	for b.Loop() {
		s.Uint32()
	}
}

func BenchmarkNormal(b *testing.B) {
	s := New(1, 2)
	for b.Loop() {
		s.Normal()
	}
}
