package matrix

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/usage"
)

// spool takes the numbers of a format whose rows cannot be reached one by one, row after row, and serves
// them: from memory while they are few, else from a temporary file.
type spool struct {
	narrow bool // float32, else float64
	size   int64
	most   int64 // that the input's size lets it grow to
	memory []byte
	f      *os.File
	w      *bufio.Writer
}

// What is kept in memory, and what a file may become on the disk: a page of few bytes can stand for
// millions of equal numbers.
const (
	spoolMemory = 1 << 20
	spoolBase   = 1 << 30
	spoolGrowth = 1 << 12
)

func (s *spool) add(values []float64) error {
	if s.size += 8 * int64(len(values)); s.size > s.most {
		return usage.Errorf("it unpacks to more than %d bytes, which is no table of numbers; write it again without repeated rows", s.most)
	}
	b := make([]byte, 0, 8*len(values))
	for _, v := range values {
		if s.narrow {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		} else {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	if s.f == nil && len(s.memory)+len(b) <= spoolMemory {
		s.memory = append(s.memory, b...)
		return nil
	}
	if s.f == nil {
		f, err := os.CreateTemp("", "gocp-*.rows")
		if err != nil {
			return fmt.Errorf("unpacking rows: %w", err)
		}
		s.f, s.w = f, bufio.NewWriterSize(f, 1<<16)
		if _, err := s.w.Write(s.memory); err != nil {
			return fmt.Errorf("unpacking rows: %w", err)
		}
		s.memory = nil
	}
	if _, err := s.w.Write(b); err != nil {
		return fmt.Errorf("unpacking rows: %w", err)
	}
	return nil
}

func (s *spool) close() error {
	if s.f == nil {
		return nil
	}
	name := s.f.Name()
	if err := s.f.Close(); err != nil {
		return err
	}
	return os.Remove(name)
}

func (s *spool) bytes(b []byte, at int64) error {
	if s.f == nil {
		copy(b, s.memory[at:])
		return nil
	}
	_, err := s.f.ReadAt(b, at)
	return err
}

// serve makes m read from s, which is complete.
func (s *spool) serve(m *Matrix) error {
	if s.w != nil {
		if err := s.w.Flush(); err != nil {
			return fmt.Errorf("unpacking rows: %w", err)
		}
		s.w = nil
	}
	kind, size := "f8", 8
	if s.narrow {
		kind, size = "f4", 4
		m.read32 = func(dst []float32, first int) error {
			return npy.Float32s(dst, func(b []byte) error { return s.bytes(b, int64(first)*int64(m.K)*4) })
		}
	}
	m.read = func(dst []float64, first int) error {
		b, done := m.borrow(size * len(dst))
		defer done()
		if err := s.bytes(b, int64(first)*int64(m.K)*int64(size)); err != nil {
			return err
		}
		return npy.Float64s(dst, kind, b)
	}
	return nil
}
