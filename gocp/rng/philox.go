package rng

import "math/bits"

const (
	mul0 = 0xD2511F53
	mul1 = 0xCD9E8D57
	inc0 = 0x9E3779B9 // golden ratio
	inc1 = 0xBB67AE85 // sqrt(3) − 1
)

// Philox is the block function: ten rounds of Philox4x32.
func Philox(counter [4]uint32, key [2]uint32) [4]uint32 {
	c, k := counter, key
	for round := 0; ; round++ {
		hi0, lo0 := bits.Mul32(mul0, c[0])
		hi1, lo1 := bits.Mul32(mul1, c[2])
		c = [4]uint32{hi1 ^ c[1] ^ k[0], lo1, hi0 ^ c[3] ^ k[1], lo0}
		if round == 9 {
			return c
		}
		k[0] += inc0
		k[1] += inc1
	}
}

// Block returns block number i of a stream: the words 4i … 4i+3.
func Block(seed, stream, i uint64) [4]uint32 {
	return Philox(
		[4]uint32{uint32(i), uint32(i >> 32), uint32(stream), uint32(stream >> 32)},
		[2]uint32{uint32(seed), uint32(seed >> 32)})
}
