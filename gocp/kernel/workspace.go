package kernel

import (
	"github.com/gocp/gocp/gocp/device"
)

// Workspace is scratch memory on a device for launchers that reduce in two steps. It is allocated
// once, before anything is recorded; launches on one stream share it, because they run in order.
type Workspace struct {
	p     device.Ptr
	bytes int
}

// NewWorkspace allocates scratch of the given size on s: the largest of the sizes that the
// launchers' …Bytes functions ask for.
func NewWorkspace(s *device.Stream, bytes int) *Workspace {
	return &Workspace{p: s.Alloc(max(bytes, 1)), bytes: bytes}
}

// take returns the scratch, or 0 after failing the stream when it is too small.
func (w *Workspace) take(s *device.Stream, name string, bytes int) device.Ptr {
	if w == nil {
		fail(s, name, "no workspace; wants %d bytes", bytes)
		return 0
	}
	if w.bytes < bytes {
		fail(s, name, "workspace has %d bytes, wants %d", w.bytes, bytes)
		return 0
	}
	return w.p
}

// parts is the number of blocks, and so of partial sums, of a reduction over rows × channels: a
// block's part stays in a core's cache, and there are enough of them for a GPU.
func parts(rows, channels int) int {
	return min(max(rows*channels/32768, 1), 512)
}
