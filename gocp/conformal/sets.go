package conformal

import (
	"math/bits"
)

// Sets holds N prediction sets over K labels as bitmaps.
type Sets struct {
	N, K int
	// Filled counts the sets that were empty and got the top label (Variant.Nonempty).
	Filled int

	words int // uint64 words per set
	bits  []uint64
}

// NewSets returns n empty sets over k labels.
func NewSets(n, k int) *Sets {
	w := (k + 63) / 64
	return &Sets{N: n, K: k, words: w, bits: make([]uint64, n*w)}
}

// Bits returns the bitmap of set i: label y is bit y%64 of word y/64. It shares memory with s.
func (s *Sets) Bits(i int) []uint64 { return s.bits[i*s.words : (i+1)*s.words] }

// Add puts label y into set i.
func (s *Sets) Add(i, y int) { s.Bits(i)[y/64] |= 1 << (y % 64) }

// Has reports whether label y is in set i.
func (s *Sets) Has(i, y int) bool { return s.Bits(i)[y/64]>>(y%64)&1 == 1 }

// Size returns the number of labels in set i.
func (s *Sets) Size(i int) int {
	n := 0
	for _, w := range s.Bits(i) {
		n += bits.OnesCount64(w)
	}
	return n
}

// Labels returns the labels of set i, ascending; never nil.
func (s *Sets) Labels(i int) []int {
	out := make([]int, 0, s.Size(i))
	for w, b := range s.Bits(i) {
		for ; b != 0; b &= b - 1 {
			out = append(out, 64*w+bits.TrailingZeros64(b))
		}
	}
	return out
}

// Sizes returns the sizes of all sets.
func (s *Sets) Sizes() []int {
	out := make([]int, s.N)
	for i := range out {
		out[i] = s.Size(i)
	}
	return out
}
