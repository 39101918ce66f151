package conformalio

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/gocp/gocp/gocp/usage"
)

// guard turns a panic of the decoder, which trusts the sizes that a file claims, into an error.
func (m *Matrix) guard(err *error) {
	if p := recover(); p != nil {
		*err = usage.Errorf("%s: not a valid Parquet file: its decoder broke off: %v", m.path, p)
	}
}

// openParquet takes all numeric columns as those of the matrix, in the order of the file, or the
// one column that part names, which may be a list of the same length in every row.
func (m *Matrix) openParquet(part string) (err error) {
	f, err := os.Open(m.path)
	if err != nil {
		return usage.Errorf("%s: cannot be read: %w", m.path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	defer m.guard(&err)
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%s: %w", m.path, err)
	}
	file, err := parquet.OpenFile(f, info.Size())
	if err != nil {
		return usage.Errorf("%s: not a valid Parquet file: %w", m.path, err)
	}
	var names []string
	wanted := map[int]bool{} // leaf columns
	var leaves func(c *parquet.Column)
	leaves = func(c *parquet.Column) {
		if !c.Leaf() {
			for _, sub := range c.Columns() {
				leaves(sub)
			}
			return
		}
		names = append(names, c.Path()[0])
		switch c.Type().Kind() {
		case parquet.Boolean, parquet.Int32, parquet.Int64, parquet.Float, parquet.Double:
			if part == "" || c.Path()[0] == part || strings.Join(c.Path(), ".") == part {
				wanted[c.Index()] = true
			}
		}
	}
	leaves(file.Root())
	if len(wanted) == 0 {
		return usage.Errorf("%s: there is no column of numbers %q; there are %s", m.path, part, strings.Join(names, ", "))
	}
	groups := file.RowGroups()
	starts := make([]int, len(groups)+1) // first row of each group
	for i, g := range groups {
		starts[i+1] = starts[i] + int(g.NumRows())
	}
	m.N, m.close = starts[len(groups)], f.Close
	// rows calls visit with the numbers of each row in turn; the slice is reused.
	rows := func(first, n int, visit func(i int, v []float64) error) error {
		var values []float64
		done := 0
		for g := sort.Search(len(groups), func(g int) bool { return starts[g+1] > first }); done < n; g++ {
			r := groups[g].Rows()
			err := func() error {
				if err := r.SeekToRow(int64(first + done - starts[g])); err != nil {
					return err
				}
				buf := make([]parquet.Row, 64)
				for done < min(n, starts[g+1]-first) {
					got, err := r.ReadRows(buf[:min(len(buf), n-done, starts[g+1]-first-done)])
					if got == 0 { // without an error too: it would go on for ever
						if err == nil || errors.Is(err, io.EOF) {
							err = io.ErrUnexpectedEOF
						}
						return err
					}
					for _, row := range buf[:got] {
						values = values[:0]
						for _, v := range row {
							if !wanted[v.Column()] {
								continue
							}
							x, err := parquetNumber(v)
							if err != nil {
								return usage.Errorf("row %d: %w", first+done, err)
							}
							values = append(values, x)
						}
						if err := visit(done, values); err != nil {
							return err
						}
						done++
					}
				}
				return nil
			}()
			r.Close()
			if err != nil {
				return err
			}
		}
		return nil
	}
	m.K = len(wanted)
	if m.N > 0 { // lists tell their length in their first row only
		if err := rows(0, 1, func(_ int, v []float64) error { m.K = len(v); return nil }); err != nil {
			return usage.Errorf("%s: %w", m.path, err)
		}
	}
	m.read = func(dst []float64, first int) (err error) {
		defer m.guard(&err)
		return rows(first, len(dst)/m.K, func(i int, v []float64) error {
			if len(v) != m.K {
				return usage.Errorf("row %d has %d numbers, the first has %d", first+i, len(v), m.K)
			}
			copy(dst[i*m.K:], v)
			return nil
		})
	}
	return nil
}

func parquetNumber(v parquet.Value) (float64, error) {
	switch {
	case v.IsNull():
		return 0, errors.New("a value is missing")
	case v.Kind() == parquet.Boolean:
		if v.Boolean() {
			return 1, nil
		}
		return 0, nil
	case v.Kind() == parquet.Int32:
		return float64(v.Int32()), nil
	case v.Kind() == parquet.Int64:
		return float64(v.Int64()), nil
	case v.Kind() == parquet.Float:
		return float64(v.Float()), nil
	}
	return v.Double(), nil
}
