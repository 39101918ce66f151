package conformalio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/gocp/gocp/gocp/usage"
)

// maxLine bounds a line: a hundred thousand columns of long numbers.
const maxLine = 4 << 20

// openCSV indexes the lines of a file of numbers, separated by commas (or semicolons or tabs), with
// or without a line of names; part names one column. Numbers are parsed when they are read.
func (m *Matrix) openCSV(part string) error {
	f, err := os.Open(m.path)
	if err != nil {
		return usage.Errorf("%s: cannot be read: %w", m.path, err)
	}
	var starts []int64 // of the rows, and where the last one ends
	var names []string
	sep, columns, column := byte(','), 0, -1
	r := bufio.NewReaderSize(f, maxLine)
	fail := func(format string, args ...any) error {
		f.Close()
		return usage.Errorf("%s: %w", m.path, fmt.Errorf(format, args...))
	}
	at, line := int64(0), 0
	for {
		text, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return fail("line %d is longer than %d bytes", line+1, maxLine)
		}
		if err != nil && err != io.EOF {
			return fail("line %d: %w", line+1, err)
		}
		begin := at
		at += int64(len(text))
		line++
		row := bytes.TrimSpace(text)
		if line == 1 {
			row = bytes.TrimPrefix(row, []byte("\xef\xbb\xbf"))
		}
		if len(row) > 0 {
			switch {
			case columns == 0:
				for _, c := range []byte("\t;,") {
					if bytes.IndexByte(row, c) >= 0 {
						sep = c
					}
				}
				fields := bytes.Split(row, []byte{sep})
				columns = len(fields)
				if slices.ContainsFunc(fields, func(b []byte) bool { _, err := number(b); return err != nil }) {
					for _, b := range fields {
						names = append(names, string(unquote(b)))
					}
				} else {
					starts = append(starts, begin)
				}
			default:
				if got := bytes.Count(row, []byte{sep}) + 1; got != columns {
					return fail("line %d has %d columns, the first has %d", line, got, columns)
				}
				starts = append(starts, begin)
			}
		}
		if err == io.EOF {
			break
		}
	}
	starts = append(starts, at)
	m.N, m.K, m.close = len(starts)-1, columns, f.Close
	if part != "" {
		if column = slices.Index(names, part); column < 0 {
			return fail("there is no column %q", part)
		}
		m.K = 1
	}
	m.read = func(dst []float64, first int) error {
		rows := len(dst) / m.K
		b := make([]byte, starts[first+rows]-starts[first])
		if _, err := f.ReadAt(b, starts[first]); err != nil && err != io.EOF {
			return err
		}
		for i := range rows {
			text := bytes.TrimSpace(b[starts[first+i]-starts[first] : starts[first+i+1]-starts[first]])
			text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
			for j := range columns {
				field, rest, _ := bytes.Cut(text, []byte{sep})
				text = rest
				if column >= 0 && j != column {
					continue
				}
				v, err := number(field)
				if err != nil {
					return usage.Errorf("row %d, column %d: %q is no number", first+i, j, field)
				}
				if column >= 0 {
					j = 0
				}
				dst[i*m.K+j] = v
				if column >= 0 {
					break
				}
			}
		}
		return nil
	}
	return nil
}

func number(b []byte) (float64, error) { return strconv.ParseFloat(string(unquote(b)), 64) }

func unquote(b []byte) []byte {
	b = bytes.TrimSpace(b)
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		b = b[1 : len(b)-1]
	}
	return b
}
