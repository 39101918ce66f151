package result

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Number is a float64 whose JSON form also holds the values that JSON numbers cannot: "inf",
// "-inf" and "nan" (a threshold with too few calibration samples is +∞; a ratio over nothing is
// not a number). Finite values are plain JSON numbers.
type Number float64

// Float returns n as a float64.
func (n Number) Float() float64 { return float64(n) }

// Finite reports whether n is an ordinary number.
func (n Number) Finite() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// MarshalJSON writes n in its shortest form that reads back to the same bits.
func (n Number) MarshalJSON() ([]byte, error) {
	switch f := float64(n); {
	case math.IsNaN(f):
		return []byte(`"nan"`), nil
	case math.IsInf(f, 1):
		return []byte(`"inf"`), nil
	case math.IsInf(f, -1):
		return []byte(`"-inf"`), nil
	default:
		return json.Marshal(f)
	}
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Number) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		switch s := string(b[1 : len(b)-1]); s {
		case "nan":
			*n = Number(math.NaN())
		case "inf":
			*n = Number(math.Inf(1))
		case "-inf":
			*n = Number(math.Inf(-1))
		default:
			return fmt.Errorf("%q is not a number: want a JSON number, \"inf\", \"-inf\" or \"nan\"", s)
		}
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("%s is not a number", b)
	}
	*n = Number(f)
	return nil
}

// Numbers converts a slice, for filling a Result.
func Numbers[T ~float32 | ~float64](x []T) []Number {
	out := make([]Number, len(x))
	for i, v := range x {
		out[i] = Number(v)
	}
	return out
}
