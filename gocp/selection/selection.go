// Package selection finds the r-th smallest of many numbers without sorting them.
package selection

import (
	"cmp"
	"slices"
)

// Smallest returns the entry that would be x[r] if x, which has no NaN, were sorted; it moves the
// entries (Hoare 1961, the pivot a median of three).
func Smallest[T cmp.Ordered](x []T, r int) T {
	for len(x) > 12 {
		a, b, c := x[0], x[len(x)/2], x[len(x)-1]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := 0, len(x)-1
		for i <= j {
			for x[i] < pivot {
				i++
			}
			for x[j] > pivot {
				j--
			}
			if i <= j {
				x[i], x[j] = x[j], x[i]
				i++
				j--
			}
		}
		switch {
		case r <= j:
			x = x[:j+1]
		case r >= i:
			x, r = x[i:], r-i
		default:
			return pivot
		}
	}
	slices.Sort(x)
	return x[r]
}
