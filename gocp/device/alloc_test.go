//go:build !asan

// The address sanitizer allocates by itself.

package device

import "testing"

func TestLaunchDoesNotAllocate(t *testing.T) {
	d := open(t)
	do(t, d, 1, func(s *Stream) error {
		x := s.Alloc(4)
		axpby(s, 1, 1, 1, x, 1, x)
		if n := testing.AllocsPerRun(100, func() { axpby(s, 1, 1, 1, x, 1, x) }); n != 0 {
			t.Errorf("%v allocations a launch", n)
		}
		return nil
	})
}
