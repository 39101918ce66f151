package cases

import (
	"math"

	"github.com/gocp/gocp/gocp/rng"
)

// Rand makes the inputs of a problem, the same on every run.
type Rand struct {
	src  *rng.Source // absent: zeros, where only sizes matter
	fill Fill
}

// newRand is the start of a case's inputs on a shape.
func newRand(c Case, sh Shape) *Rand {
	return &Rand{src: rng.New(1, rng.Stream("cases/"+c.Name+"/"+c.Label(sh))), fill: sh.Fill}
}

// Normal gives n standard normal numbers, whatever the fill.
func (r *Rand) Normal(n int) []float32 {
	v := make([]float32, n)
	if r.src == nil {
		return v
	}
	for i := range v {
		v[i] = float32(r.src.Normal())
	}
	return v
}

// Values gives n numbers as the shape's fill says.
func (r *Rand) Values(n int) []float32 {
	v := r.Normal(n)
	for i := range v {
		switch r.fill {
		case Ties:
			v[i] = float32(math.Round(float64(v[i])))
		case Infinite:
			if k := r.Int(14); k < 2 {
				v[i] = float32(math.Inf(1 - 2*k))
			}
		case NaN:
			if r.Int(7) == 0 {
				v[i] = float32(math.NaN())
			}
		}
	}
	return v
}

// Uniform gives n numbers in [lo, hi).
func (r *Rand) Uniform(n int, lo, hi float64) []float32 {
	v := make([]float32, n)
	if r.src == nil {
		return v
	}
	for i := range v {
		v[i] = float32(lo + (hi-lo)*float64(r.src.Float32()))
	}
	return v
}

// Int gives a number in 0 … n-1.
func (r *Rand) Int(n int) int {
	if r.src == nil {
		return 0
	}
	return int(uint64(r.src.Uint32()) * uint64(n) >> 32)
}

// Ints gives n integers in lo … hi-1.
func (r *Rand) Ints(n, lo, hi int) []int32 {
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(lo + r.Int(hi-lo))
	}
	return v
}

// Bytes gives n bytes.
func (r *Rand) Bytes(n int) []uint8 {
	v := make([]uint8, n)
	for i := range v {
		v[i] = uint8(r.Int(256))
	}
	return v
}
