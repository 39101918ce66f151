package device

import (
	"strconv"

	"github.com/gocp/gocp/csrc"
)

// profiled tells whether a profiler listens. It is settled before main, as the back end is.
var profiled = csrc.Profiled()

// A Range is a named stretch of time that profilers show (NVTX). The zero Range is none: what Range
// and its like return where no profiler listens, after looking at one variable.
type Range struct {
	kind rangeKind
	id   uint64
}

type rangeKind int

const (
	noRange rangeKind = iota
	threadRange
	processRange
)

// Range begins a range on the stream's thread. Ranges nest: the last that began ends first.
//
//	defer s.Range("forward").End()
//
// It is the time in which work is enqueued. In a recorded list ranges mark the recording; around its
// launches only those stand that enclose [Graph.Launch].
func (s *Stream) Range(name string) Range {
	if !profiled {
		return Range{}
	}
	return push(name)
}

// RangeOf is Range with a number after the name, such as "step 12".
func (s *Stream) RangeOf(name string, i int) Range {
	if !profiled {
		return Range{}
	}
	return push(name + " " + strconv.Itoa(i))
}

func push(name string) Range {
	csrc.RangePush(name)
	return Range{kind: threadRange}
}

// StartRange begins a range of the whole process: it may end on another goroutine, and overlap
// others.
func StartRange(name string) Range {
	if !profiled {
		return Range{}
	}
	return Range{kind: processRange, id: csrc.RangeStart(name)}
}

// End ends the range.
func (r Range) End() {
	switch r.kind {
	case threadRange:
		csrc.RangePop()
	case processRange:
		csrc.RangeEnd(r.id)
	}
}
