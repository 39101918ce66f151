package result

import (
	"math"

	"github.com/gocp/gocp/gocp/strictjson"
)

// Number is a float64 whose JSON form also holds the values that JSON numbers cannot: "inf",
// "-inf" and "nan" (a threshold with too few calibration samples is +∞; a ratio over nothing is
// not a number), whoever writes it. Finite values are plain JSON numbers.
type Number float64

// Float returns n as a float64.
func (n Number) Float() float64 { return float64(n) }

// Finite reports whether n is an ordinary number.
func (n Number) Finite() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// MarshalJSON writes n in its shortest form that reads back to the same bits.
func (n Number) MarshalJSON() ([]byte, error) { return strictjson.Marshal(float64(n)) }

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Number) UnmarshalJSON(b []byte) error { return strictjson.Unmarshal(b, (*float64)(n)) }

// Numbers converts a slice, for filling a Result.
func Numbers[T ~float32 | ~float64](x []T) []Number {
	out := make([]Number, len(x))
	for i, v := range x {
		out[i] = Number(v)
	}
	return out
}
