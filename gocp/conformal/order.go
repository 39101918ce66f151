package conformal

import (
	"context"
	"math"
	"math/bits"
	"slices"

	"github.com/gocp/gocp/gocp/selection"
)

// orderStatistic returns the entry of x that would be at place r if it were sorted; of the entries at rows,
// unless those are nil. x has no NaN and is neither moved nor copied: the entry is found by the digits of its
// bits, sixteen at a time, from the leading ones, by counting the entries that share those found so far.
func orderStatistic(ctx context.Context, x []float64, rows []uint32, r int) (float64, error) {
	const few = 1 << 14 // may be copied
	left := len(x)
	if rows != nil {
		left = len(rows)
	}
	var found uint64 // of orderedBits, all but the last `unknown` bits
	unknown := 64
	var counts []int
	for left > few && unknown > 0 {
		if counts == nil {
			counts = make([]int, 1<<16)
		}
		clear(counts)
		err := eachPart(ctx, x, rows, func(part []float64) {
			for _, v := range part {
				if k := orderedBits(v); k>>unknown == found {
					counts[k>>(unknown-16)&0xffff]++
				}
			}
		})
		if err != nil {
			return 0, err
		}
		digit := 0
		for ; r >= counts[digit]; digit++ {
			r -= counts[digit]
		}
		left = counts[digit]
		found = found<<16 | uint64(digit)
		unknown -= 16
	}
	if unknown == 0 {
		return fromOrderedBits(found), nil
	}
	last := make([]float64, 0, left)
	err := eachPart(ctx, x, rows, func(part []float64) {
		for _, v := range part {
			if orderedBits(v)>>unknown == found {
				last = append(last, v)
			}
		}
	})
	if err != nil {
		return 0, err
	}
	return selection.Smallest(last, r), nil
}

// orderedBits are whole numbers in the order of the floats, and fromOrderedBits is its inverse.
func orderedBits(v float64) uint64 {
	b := math.Float64bits(v)
	if b>>63 == 1 {
		return ^b
	}
	return b | 1<<63
}

func fromOrderedBits(b uint64) float64 {
	if b>>63 == 0 {
		return math.Float64frombits(^b)
	}
	return math.Float64frombits(b &^ (1 << 63))
}

// eachPart shows f the entries of x, or those at rows, part by part; the context ends it early.
func eachPart(ctx context.Context, x []float64, rows []uint32, f func(part []float64)) error {
	const size = 1 << 16
	if rows == nil {
		for part := range slices.Chunk(x, size) {
			if err := ctx.Err(); err != nil {
				return err
			}
			f(part)
		}
		return nil
	}
	buf := make([]float64, min(size, len(rows)))
	for some := range slices.Chunk(rows, size) {
		if err := ctx.Err(); err != nil {
			return err
		}
		for i, at := range some {
			buf[i] = x[at]
		}
		f(buf[:len(some)])
	}
	return nil
}

// A bitmap marks some of many rows.
type bitmap []uint64

func newBitmap(n int) bitmap { return make(bitmap, (n+63)/64) }

func (b bitmap) has(i int) bool { return b[i/64]>>(i%64)&1 == 1 }
func (b bitmap) add(i int)      { b[i/64] |= 1 << (i % 64) }

func (b bitmap) count() int {
	n := 0
	for _, word := range b {
		n += bits.OnesCount64(word)
	}
	return n
}
