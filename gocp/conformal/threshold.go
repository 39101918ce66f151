package conformal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"

	"github.com/gocp/gocp/gocp/strictjson"
)

// Level is a miscoverage ε held exactly, as the rational its decimal string names. The zero value
// is not valid; ParseLevel makes one.
type Level struct {
	text string
	eps  *big.Rat
}

// maxLevelDigits bounds the length of a level's text, so that no input makes the rational large.
const maxLevelDigits = 40

// ParseLevel reads a miscoverage such as "0.1" (or the fraction "1/10"). It must lie strictly
// between 0 and 1. Exponents are not accepted.
func ParseLevel(s string) (Level, error) {
	t := strings.TrimSpace(s)
	bad := func() (Level, error) {
		return Level{}, fmt.Errorf("miscoverage %q is not a decimal between 0 and 1, such as 0.1", clip(t))
	}
	if len(t) == 0 || len(t) > maxLevelDigits || strings.Trim(t, "0123456789./") != "" {
		return bad()
	}
	if strings.ContainsRune(t, '.') && strings.ContainsRune(t, '/') {
		return bad()
	}
	r, ok := new(big.Rat).SetString(t)
	if !ok || r.Sign() <= 0 || r.Cmp(big.NewRat(1, 1)) >= 0 {
		return bad()
	}
	return Level{text: t, eps: r}, nil
}

// clip shortens s for an error message.
func clip(s string) string {
	if r := []rune(s); len(r) > maxLevelDigits {
		return string(r[:maxLevelDigits]) + "…"
	}
	return s
}

// MustLevel is ParseLevel for constants in tests and examples.
func MustLevel(s string) Level {
	l, err := ParseLevel(s)
	if err != nil {
		panic(err)
	}
	return l
}

// String is the text that was parsed.
func (l Level) String() string { return l.text }

// Float is ε rounded to float64: for plots and tables, never for ranks.
func (l Level) Float() float64 {
	if l.eps == nil {
		return math.NaN()
	}
	f, _ := l.eps.Float64()
	return f
}

// Coverage is 1−ε as a decimal string with as many digits as ε has (fractions stay fractions).
func (l Level) Coverage() string {
	if l.eps == nil {
		return ""
	}
	c := new(big.Rat).Sub(big.NewRat(1, 1), l.eps)
	if _, frac, ok := strings.Cut(l.text, "."); ok {
		return c.FloatString(len(frac))
	}
	return c.RatString()
}

// Rank is r = ⌈(n+1)(1−ε)⌉ in exact integer arithmetic. It is n+1 when n is too small for ε, and
// then the threshold is +∞.
func (l Level) Rank(n int) (int, error) {
	if l.eps == nil {
		return 0, errors.New("the miscoverage is not set")
	}
	if n < 0 {
		return 0, fmt.Errorf("rank of %d calibration scores: the count must be at least 0", n)
	}
	// (n+1)(1−a/b) = (n+1)(b−a)/b, rounded up: ⌈p/q⌉ = ⌊(p+q−1)/q⌋ for positive integers.
	b := l.eps.Denom()
	p := new(big.Int).Sub(b, l.eps.Num())
	p.Mul(p, new(big.Int).Add(big.NewInt(int64(n)), big.NewInt(1)))
	p.Add(p, b)
	p.Sub(p, big.NewInt(1))
	p.Quo(p, b)
	return int(p.Int64()), nil
}

// times is the level ε·a/b.
func (l Level) times(a, b int64) Level {
	r := new(big.Rat).Mul(l.eps, big.NewRat(a, b))
	return Level{text: r.RatString(), eps: r}
}

// below tells whether ε < k/n, in exact integers.
func (l Level) below(k, n int) bool {
	if l.eps == nil {
		return false
	}
	left := new(big.Int).Mul(l.eps.Num(), big.NewInt(int64(n)))
	return left.Cmp(new(big.Int).Mul(l.eps.Denom(), big.NewInt(int64(k)))) < 0
}

// MinCalibration is the least n for which the threshold is finite: the smallest n with
// ⌈(n+1)(1−ε)⌉ ≤ n, that is n ≥ ⌈1/ε⌉ − 1.
func (l Level) MinCalibration() int {
	if l.eps == nil {
		return 0
	}
	a, b := l.eps.Num(), l.eps.Denom()
	q := new(big.Int).Add(b, a)
	q.Sub(q, big.NewInt(1))
	q.Quo(q, a)
	if !q.IsInt64() {
		return math.MaxInt
	}
	return int(q.Int64()) - 1
}

// MarshalText and UnmarshalText make a Level a string in JSON.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.text), nil }

// UnmarshalText parses as ParseLevel does.
func (l *Level) UnmarshalText(b []byte) error {
	v, err := ParseLevel(string(b))
	if err != nil {
		return err
	}
	*l = v
	return nil
}

// Threshold is a calibrated τ and where it came from.
type Threshold struct {
	// Tau is the r-th smallest calibration score, +Inf when r > n.
	Tau float64
	// Rank is r = ⌈(n+1)(1−ε)⌉, from 1.
	Rank int
	// N is the number of calibration scores.
	N int
}

// Infinite reports whether τ is +∞, so that every set holds every label.
func (t Threshold) Infinite() bool { return math.IsInf(t.Tau, 1) }

// TooFew reports whether that is because n is too small for ε: the rank exceeds n.
func (t Threshold) TooFew() bool { return t.Rank > t.N }

type thresholdJSON struct {
	Tau  *float64 `json:"tau"`
	Rank int      `json:"rank"`
	N    int      `json:"n"`
}

// MarshalJSON writes an infinite τ as "inf" or "-inf", which JSON numbers cannot hold.
func (t Threshold) MarshalJSON() ([]byte, error) {
	if math.IsNaN(t.Tau) {
		return nil, fmt.Errorf("threshold %v cannot be written", t.Tau)
	}
	return strictjson.Marshal(thresholdJSON{&t.Tau, t.Rank, t.N})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (t *Threshold) UnmarshalJSON(b []byte) error {
	var j thresholdJSON
	if err := strictjson.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("threshold: %w", err)
	}
	switch {
	case j.Tau == nil:
		return errors.New("threshold: tau is missing")
	case math.IsNaN(*j.Tau):
		return errors.New("threshold: tau is not a number")
	}
	*t = Threshold{*j.Tau, j.Rank, j.N}
	return nil
}

// Calibrate returns the split-conformal threshold of the calibration scores: the
// ⌈(n+1)(1−ε)⌉-th smallest, counted with ties, never interpolated, and +Inf when that rank
// exceeds n. Scores of +Inf are allowed (they are never inside); NaN is an error that names the
// row. The input is not changed.
func Calibrate(scores []float64, level Level) (Threshold, error) {
	r, err := level.Rank(len(scores))
	if err != nil {
		return Threshold{}, err
	}
	for i, s := range scores {
		if math.IsNaN(s) {
			return Threshold{}, fmt.Errorf("calibration score of row %d is NaN", i)
		}
	}
	t := Threshold{Tau: math.Inf(1), Rank: r, N: len(scores)}
	if r <= len(scores) {
		t.Tau, err = orderStatistic(context.Background(), scores, nil, r-1)
	}
	return t, err
}
