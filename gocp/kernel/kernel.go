package kernel

import (
	"fmt"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/tensor"
)

// threads is the size of a GPU block; a host block is one thread.
const threads = 256

// maxBlocks bounds the grids of kernels whose blocks take ranges of any length. It does not depend
// on the machine, so neither do the bits.
const maxBlocks = 4096

// blocks is the number of blocks for n items at about per items a block.
func blocks(n, per int) int {
	return min(max((n+per-1)/per, 1), maxBlocks)
}

// fail records an error of the named launcher on the stream.
func fail(s *device.Stream, name, format string, args ...any) {
	s.Fail(fmt.Errorf("kernel %s: %w", name, fmt.Errorf(format, args...)))
}

// check fails unless every extent is at least 0. It reports whether all is well.
func check(s *device.Stream, name string, extents ...int) bool {
	if s.Err() != nil {
		return false
	}
	for _, n := range extents {
		if n < 0 {
			fail(s, name, "negative extent in %v", extents)
			return false
		}
	}
	return true
}

// operand is a tensor with what its launcher demands of it.
type operand struct {
	name     string
	t        tensor.Tensor
	want     int // elements
	optional bool
}

// checkTensors fails unless every operand has its number of elements and is present if it must be.
// An absent optional operand may have any shape.
func checkTensors(s *device.Stream, name string, operands ...operand) bool {
	for _, o := range operands {
		if o.t.Absent() {
			if o.optional || o.want == 0 {
				continue
			}
			fail(s, name, "%s is absent", o.name)
			return false
		}
		if o.t.Len() != o.want {
			fail(s, name, "%s has shape %v, want %d elements", o.name, o.t.Shape, o.want)
			return false
		}
	}
	return true
}
