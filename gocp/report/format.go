package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/result"
)

// dash stands for a quantity that is not there.
const dash = "–"

// minus turns a leading hyphen into the minus sign.
func minus(s string) string {
	if strings.HasPrefix(s, "-") {
		return "−" + s[1:]
	}
	return s
}

// From longest on whole numbers are written with a power of ten: with all their digits they may have 300.
// Decimals take the place of digits before the point.
const longest = 1e8

// num formats x with d decimals; ±∞ and not-a-number have their signs, and −0.00 is 0.00.
func num(x result.Number, d int) string {
	f := x.Float()
	switch {
	case math.IsNaN(f):
		return dash
	case math.IsInf(f, 1):
		return "∞"
	case math.IsInf(f, -1):
		return "−∞"
	case math.Abs(f) >= longest/math.Pow10(min(d, 4)):
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', 3, 64), "e+")
		return minus(mantissa) + "e" + strings.TrimPrefix(exponent, "0")
	}
	s := strconv.FormatFloat(f, 'f', d, 64)
	if strings.Trim(s, "-0.") == "" {
		s = strings.TrimPrefix(s, "-")
	}
	return minus(s)
}

// signed is num with a plus sign on what is positive: for differences.
func signed(x result.Number, d int) string {
	s := num(x, d)
	if x > 0 && x.Finite() && strings.Trim(s, "0.") != "" {
		return "+" + s
	}
	return s
}

// plusMinus is "mean ± se", which does not break over lines; without a standard error, the mean
// alone.
func plusMinus(e result.Estimate, d int) string {
	if !e.SE.Finite() {
		return num(e.Mean, d)
	}
	return num(e.Mean, d) + "\u00a0±\u00a0" + num(e.SE, d)
}

// percent is a share in percent, without decimals unless it is small and not zero.
func percent(x result.Number) string {
	f := 100 * x.Float()
	switch {
	case !x.Finite():
		return dash
	case f > 0 && f < 1, f > 99 && f < 100:
		return num(result.Number(f), 1) + "\u00a0%"
	}
	return num(result.Number(f), 0) + "\u00a0%"
}

// pValue is "p = 0.012" or "p < 0.0001".
func pValue(p result.Number) string {
	switch {
	case !p.Finite():
		return "p " + dash
	case p < 1e-4:
		return "p < 0.0001"
	case p < 0.01:
		return "p = " + num(p, 4)
	}
	return "p = " + num(p, 2)
}

// fractionPercent writes the decimal string "0.04" as "4 %", as given if it is not a number.
func fractionPercent(s string) string {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	return strconv.FormatFloat(math.Round(f*1e8)/1e6, 'f', -1, 64) + "\u00a0%"
}

// general is the shortest form of a parameter.
func general(x result.Number) string {
	if !x.Finite() {
		return num(x, 0)
	}
	return minus(strconv.FormatFloat(x.Float(), 'g', 6, 64))
}

// plural is "1 victim", "2 victims".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	if strings.HasSuffix(one, "s") {
		one += "e"
	}
	return thousands(n) + " " + one + "s"
}

// thousands separates groups of three by a thin space, from five digits on.
func thousands(n int) string {
	s := strconv.Itoa(n)
	if len(s) < 5 || n < 0 {
		return s
	}
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteString("\u202f")
		}
		b.WriteRune(c)
	}
	return b.String()
}

// duration is a wall time for people.
func duration(s float64) string {
	switch {
	case s < 0 || math.IsNaN(s) || math.IsInf(s, 0):
		return dash
	case s >= longest:
		return num(result.Number(s/3600), 0) + " h"
	case s < 60:
		return fmt.Sprintf("%.1f s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %02d s", int(s)/60, int(s)%60)
	}
	return fmt.Sprintf("%d h %02d min", int(s)/3600, int(s)%3600/60)
}

// className is the name of a label, its number if it has none.
func className(r *result.Result, y int) string {
	if y >= 0 && y < len(r.Dataset.Classes) && r.Dataset.Classes[y] != "" {
		return r.Dataset.Classes[y]
	}
	return strconv.Itoa(y)
}

// conditionName is the name of a condition in figures and tables.
func conditionName(c result.Condition) string {
	switch c {
	case result.Attack:
		return "Attack"
	case result.RandUn:
		return "Uniform noise"
	case result.RandGa:
		return "Gaussian noise"
	case result.RandLabel:
		return "Random labels"
	case result.Clean:
		return "Clean retraining"
	}
	return string(c)
}

// noiseName is what the attack is held against, in a sentence.
func noiseName(s *result.Summary) string { return strings.ToLower(conditionName(s.Noise())) }

// upperFirst capitalises the first letter.
func upperFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// clip shortens s to n runes, for labels that have no more room.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
