package rng

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// Source reads the words of one stream in order. Its zero value is the start of
// stream 0 of seed 0. A Source is not safe for concurrent use; streams are free,
// so give each user its own.
type Source struct {
	seed, stream uint64
	next         uint64 // position of the next word
	block        [4]uint32
	have         uint64 // 1 + the number of the block held; 0: none
}

// New returns the start of a stream.
func New(seed, stream uint64) *Source { return &Source{seed: seed, stream: stream} }

// Stream names a stream: the same name and indices give the same number, others
// another (SHA-256, 64 bits of it).
func Stream(name string, index ...uint64) uint64 {
	b := make([]byte, 0, 8+len(name)+8*len(index))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(name)))
	b = append(b, name...)
	for _, i := range index {
		b = binary.LittleEndian.AppendUint64(b, i)
	}
	sum := sha256.Sum256(b)
	return binary.LittleEndian.Uint64(sum[:])
}

// Seek moves to a word of the stream.
func (s *Source) Seek(word uint64) { s.next = word }

// Position is the number of the next word: Seek(Position()) changes nothing.
func (s *Source) Position() uint64 { return s.next }

// Uint32 returns the next word.
func (s *Source) Uint32() uint32 {
	if b := s.next / 4; s.have != b+1 {
		s.block, s.have = Block(s.seed, s.stream, b), b+1
	}
	w := s.block[s.next%4]
	s.next++
	return w
}

// Uint64 takes two words, the low one first.
func (s *Source) Uint64() uint64 {
	lo := s.Uint32()
	return uint64(s.Uint32())<<32 | uint64(lo)
}

// Float32 is uniform in [0, 1), a multiple of 2⁻²⁴; it takes one word.
func (s *Source) Float32() float32 { return Uniform(s.Uint32()) }

// Float64 is uniform in [0, 1), a multiple of 2⁻⁵³; it takes two words.
func (s *Source) Float64() float64 { return float64(s.Uint64()>>11) * 0x1p-53 }

// Normal is a standard normal number; it takes two words.
func (s *Source) Normal() float32 {
	a := s.Uint32()
	return Normal(a, s.Uint32())
}

// Uint64n is uniform in [0, n) without bias; n = 0 means 2⁶⁴.
func (s *Source) Uint64n(n uint64) uint64 {
	hi, lo := bits.Mul64(s.Uint64(), n)
	if n == 0 {
		return lo
	}
	if lo < n {
		for floor := -n % n; lo < floor; {
			hi, lo = bits.Mul64(s.Uint64(), n)
		}
	}
	return hi
}

// Intn is uniform in [0, n) without bias, and 0 for n ≤ 1.
func (s *Source) Intn(n int) int {
	if n <= 1 {
		return 0
	}
	return int(s.Uint64n(uint64(n)))
}

// Shuffle permutes n things by swaps, every order equally likely.
func (s *Source) Shuffle(n int, swap func(i, j int)) {
	for i := n - 1; i > 0; i-- {
		swap(i, s.Intn(i+1))
	}
}

// Perm is a random order of 0 … n−1.
func (s *Source) Perm(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	s.Shuffle(n, func(i, j int) { p[i], p[j] = p[j], p[i] })
	return p
}

// Sample is k different numbers of 0 … n−1 in random order (all n if k ≥ n).
// The draws are the first k steps of a shuffle, so a longer sample from the same
// position begins with the shorter one.
func (s *Source) Sample(n, k int) []int {
	k = max(0, min(n, k))
	moved := make(map[int]int, k) // what a full shuffle would hold in the slots it touched
	at := func(i int) int {
		if v, ok := moved[i]; ok {
			return v
		}
		return i
	}
	p := make([]int, k)
	for i := range p {
		j := i + s.Intn(n-i)
		p[i] = at(j)
		moved[j] = at(i)
	}
	return p
}

// FillUniform sets dst[i] to radius·(2u−1) with u number i of the stream:
// uniform in [−radius, radius). The device kernel gives the same bits.
func FillUniform(seed, stream uint64, radius float32, dst []float32) {
	s := New(seed, stream)
	for i := range dst {
		dst[i] = radius * (2*s.Float32() - 1)
	}
}

// FillNormal sets dst[i] to normal number i of the stream, times sigma. The
// device kernel gives the same bits.
func FillNormal(seed, stream uint64, sigma float32, dst []float32) {
	s := New(seed, stream)
	for i := range dst {
		dst[i] = sigma * s.Normal()
	}
}
