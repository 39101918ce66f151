package conformal

import (
	"fmt"
	"math"
)

// Draw says where the u of a randomised score comes from (spec: APS, RAPS). It is part of the
// score's definition, so it is recorded with every result.
type Draw string

const (
	// DrawOne is the non-randomised form: u = 1, so a label's own probability counts in full.
	DrawOne Draw = "one"
	// DrawSample takes one u ~ U[0,1] for each sample, shared by all its labels.
	DrawSample Draw = "sample"
	// DrawLabel takes an independent u ~ U[0,1] for each label of each sample.
	DrawLabel Draw = "label"
)

// Variant is everything that fixes a score and the sets made with it. Its JSON form is what
// results and threshold files record. The zero value is not valid; Name is required.
type Variant struct {
	// Name is a registered score: see Names.
	Name string `json:"name"`
	// U is the source of u; empty means DrawOne. Scores that do not use u ignore it.
	U Draw `json:"u"`
	// Lambda is the weight of RAPS's rank penalty, and of a rank in SAPS.
	Lambda float64 `json:"lambda"`
	// KReg is the rank up to which RAPS does not penalise.
	KReg int `json:"k_reg"`
	// Nonempty adds the top label to a set that would be empty.
	Nonempty bool `json:"nonempty"`
}

// Randomized reports whether the variant draws u.
func (v Variant) Randomized() bool { return v.U == DrawSample || v.U == DrawLabel }

// String is a short description in words, for tables and reports.
func (v Variant) String() string {
	s := v.Name
	switch v.Name {
	case "raps":
		s += fmt.Sprintf(" (λ %g, k_reg %d)", v.Lambda, v.KReg)
	case "saps":
		s += fmt.Sprintf(" (λ %g)", v.Lambda)
	}
	if v.Name == "aps" || v.Name == "raps" || v.Name == "saps" {
		switch v.U {
		case DrawSample:
			s += ", u per sample"
		case DrawLabel:
			s += ", u per label"
		default:
			s += ", u = 1"
		}
	}
	if v.Nonempty {
		s += ", top label always in"
	}
	return s
}

// check validates the parts that are common to all scores.
func (v Variant) check() error {
	switch v.U {
	case "", DrawOne, DrawSample, DrawLabel:
	default:
		return fmt.Errorf("unknown source of u %q: known are one, sample, label", v.U)
	}
	if math.IsNaN(v.Lambda) || math.IsInf(v.Lambda, 0) || v.Lambda < 0 {
		return fmt.Errorf("lambda is %v: it must be finite and at least 0", v.Lambda)
	}
	if v.KReg < 0 {
		return fmt.Errorf("k_reg is %d: it must be at least 0", v.KReg)
	}
	return nil
}
