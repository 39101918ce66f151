package matrix

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/gocp/gocp/gocp/usage"
)

// Matrix is N rows of K numbers in a file.
type Matrix struct {
	Name string // as Open got it
	N, K int

	// Columns are the names of a table's columns that were taken, in their order, and LeftOut those that
	// were not because they are an index, text or dates. Both are empty for arrays.
	Columns, LeftOut []string
	// Read as, for text: separator and first line, in words.
	About string

	path    string // of the file itself
	read    func(dst []float64, first int) error
	read32  func(dst []float32, first int) error // nil if the numbers are not float32
	closers []func() error
	scratch sync.Pool // of *[]byte
}

// Options say how to read what a file does not tell itself.
type Options struct {
	// Header is whether the first line of a text file, if it is all numbers, holds names: HeaderYes,
	// HeaderNo, or empty to decide by what it holds. A line with other words always does.
	Header string
	// Rows is how many there must be, where that is known, or 0: it settles what a first line is.
	Rows int
	// One asks for one column of numbers, whatever they are.
	One bool
}

// What Options.Header can be.
const (
	HeaderYes = "yes"
	HeaderNo  = "no"
)

// Check refuses unknown words.
func (o Options) Check() error {
	if o.Header != "" && o.Header != HeaderYes && o.Header != HeaderNo {
		return usage.Errorf("the header is %q; it must be yes or no", o.Header)
	}
	return nil
}

// Open opens a matrix by the ending of its name. An array of one axis is a matrix of one column.
func Open(name string, o Options) (*Matrix, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	path, part := Split(name)
	m := &Matrix{Name: name, path: path}
	if err := m.open(part, o); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

func (m *Matrix) open(part string, o Options) error {
	ending, err := m.unpack()
	if err != nil {
		return err
	}
	switch ending {
	case ".npy":
		err = m.openNpy(part)
	case ".npz":
		err = m.openNpz(part)
	case ".safetensors":
		err = m.openSafetensors(part)
	case ".csv", ".tsv", ".txt":
		err = m.openText(part, o)
	case ".parquet", ".pq":
		err = m.openParquet([]string{m.path}, part, o)
	case folder:
		err = m.openFolder(part, o)
	default:
		err = unknown(m.Name, m.path)
	}
	switch {
	case err != nil:
		return err
	case m.K < 1:
		return usage.Errorf("%s: there are no columns", m.Name)
	case m.N < 1:
		return usage.Errorf("%s: there are no rows in it", m.Name)
	}
	return nil
}

// Read fills dst, which holds whole rows, from row first on. Several goroutines may call it.
func (m *Matrix) Read(dst []float64, first int) error {
	if err := m.read(dst, first); err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	return nil
}

// Narrow tells whether the numbers are float32, for which there is Read32.
func (m *Matrix) Narrow() bool { return m.read32 != nil }

// Read32 is Read for a Narrow matrix.
func (m *Matrix) Read32(dst []float32, first int) error {
	if err := m.read32(dst, first); err != nil {
		return fmt.Errorf("%s: %w", m.Name, err)
	}
	return nil
}

// All returns the whole matrix.
func (m *Matrix) All() ([]float64, error) {
	out := make([]float64, m.N*m.K)
	return out, m.Read(out, 0)
}

// Close closes the file.
func (m *Matrix) Close() error {
	var errs []error
	for _, f := range m.closers {
		errs = append(errs, f())
	}
	m.closers = nil
	return errors.Join(errs...)
}

// Shape says in words what was read: the rows, the columns, and those that were left out.
func (m *Matrix) Shape() string {
	columns := "columns"
	if m.K == 1 {
		columns = "column"
	}
	s := fmt.Sprintf("%d rows of %d %s", m.N, m.K, columns)
	if len(m.Columns) > 0 {
		s += ": " + enumerate(m.Columns)
	}
	if len(m.LeftOut) > 0 {
		s += "; left out: " + enumerate(m.LeftOut)
	}
	if m.About != "" {
		s += "; " + m.About
	}
	return s
}

// Ints reads whole numbers, such as labels or groups, from a file or part of one with one column.
func Ints(name string, o Options) ([]int, error) {
	o.One = true
	m, err := Open(name, o)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if m.K != 1 {
		if m.N == 1 {
			return nil, usage.Errorf("%s: there are %d columns; whole numbers come in one, not in one row: transpose it", name, m.K)
		}
		return nil, usage.Errorf("%s: there are %d columns; whole numbers come in one", name, m.K)
	}
	out := make([]int, m.N)
	block := make([]float64, min(m.N, 1<<16))
	for first := 0; first < m.N; first += len(block) {
		values := block[:min(len(block), m.N-first)]
		if err := m.Read(values, first); err != nil {
			return nil, usage.Wrap(err)
		}
		for i, v := range values {
			y := int(v)
			if float64(y) != v || v <= -1<<53 || v >= 1<<53 { // beyond, a float64 has no room for all of them
				return nil, usage.Errorf("%s: row %d is %v, no whole number", name, first+i, v)
			}
			out[first+i] = y
		}
	}
	return out, nil
}

// borrow lends n bytes to a read, until done is called.
func (m *Matrix) borrow(n int) (b []byte, done func()) {
	p, ok := m.scratch.Get().(*[]byte)
	if !ok || cap(*p) < n {
		p = new([]byte)
		*p = make([]byte, n)
	}
	return (*p)[:n], func() {
		if cap(*p) <= 1<<22 { // more is for those who read everything at once
			m.scratch.Put(p)
		}
	}
}

// file opens m's file and leaves it to Close.
func (m *Matrix) file() (*os.File, int64, error) {
	f, err := os.Open(m.path)
	if err != nil {
		return nil, 0, usage.Errorf("%s: cannot be read: %w", m.path, err)
	}
	m.closers = append(m.closers, f.Close)
	info, err := f.Stat()
	if err != nil {
		return nil, 0, usage.Errorf("%s: cannot be read: %w", m.path, err)
	}
	return f, info.Size(), nil
}

// enumerate lists names, those that count up in short.
func enumerate(names []string) string {
	var out []string
	for i := 0; i < len(names); {
		prefix, at, ok := numbered(names[i])
		j := i + 1
		for ok && j < len(names) {
			p, n, counts := numbered(names[j])
			if !counts || p != prefix || n != at+j-i {
				break
			}
			j++
		}
		if j-i > 3 {
			out = append(out, fmt.Sprintf("%s … %s (%d)", names[i], names[j-1], j-i))
		} else {
			out = append(out, names[i:j]...)
		}
		i = j
	}
	if most := 20; len(out) > most {
		out = append(out[:most-1:most-1], fmt.Sprintf("… (%d more)", len(out)-most+1))
	}
	for i, s := range out {
		if s == "" {
			out[i] = `""`
		}
	}
	return strings.Join(out, ", ")
}
