//go:build !amd64

package conformal

// vector is true where there are vector instructions of our own; here plain Go does everything.
var vector, wide = false, false

func expSum32(*float64, *float32, int, float64, *[8]float64) {}
func expSum64(*float64, *float64, int, float64, *[8]float64) {}
func weigh64(*float64, *float64, int, float64, *[32]float64) {}
func top32(*float32, int) (float32, int64)                   { return 0, 0 }
func sum32(*float32, int, float32, *[16]float32)             {}
func between32(*float32, int, float32, float32, *uint64) int64 {
	return 0
}
func above64(*float64, int, float64) (sum, count float64) { return 0, 0 }
func bits64(*float64, int, float64, *uint64)              {}
