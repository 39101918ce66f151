package conformalio

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/usage"
)

// Form is what the numbers of an input are.
type Form string

const (
	// FormLogits become probabilities by a softmax.
	FormLogits Form = "logits"
	// FormProbabilities must be probabilities already.
	FormProbabilities Form = "probabilities"
)

// Input is a file of logits or probabilities, a row for each sample.
type Input struct {
	File string
	Form Form
}

// Run is what all jobs share.
type Run struct {
	Context  context.Context   // nil for none
	Progress progress.Reporter // nil shows nothing
	Workers  int               // 0 for all cores; results do not depend on it
	Seed     uint64
	// Header says what the first line of text files is, as matrix.Options has it.
	Header string
	// ExactSums refuses rows of probabilities whose rounding is all that keeps them from the sum 1; else
	// they are divided by their sum.
	ExactSums bool
}

func (r Run) options() matrix.Options { return matrix.Options{Header: r.Header} }

func (r Run) context() context.Context {
	if r.Context == nil {
		return context.Background()
	}
	return r.Context
}

func (r Run) stream(name string, rows int, seed uint64) (conformal.Stream, progress.Task) {
	task := progress.Or(r.Progress).Phase(name, rows)
	return conformal.Stream{Context: r.Context, Workers: r.Workers, Seed: seed, Done: task.Add}, task
}

// table serves rows of a matrix as probabilities.
type table struct {
	m           *matrix.Matrix
	form        Form
	temperature float64
	sums        *sums // of rows of probabilities
}

var (
	_ conformal.Narrow = table{}
	_ conformal.Narrow = rows{}
)

func (t table) Dims() (n, k int) { return t.m.N, t.m.K }

func (t table) Read(dst []float64, first int) error {
	if err := t.m.Read(dst, first); err != nil {
		return err
	}
	for i := range len(dst) / t.m.K {
		row := dst[i*t.m.K : (i+1)*t.m.K]
		err := error(nil)
		if t.form == FormProbabilities {
			err = t.sums.row(row)
		} else {
			err = conformal.TemperedRow(row, row, t.temperature)
		}
		if err != nil {
			return usage.Errorf("%s: row %d: %w", t.m.Name, first+i, err)
		}
	}
	return nil
}

// Narrow implements conformal.Narrow.
func (t table) Narrow() func(buf []float32, first int) ([]float32, error) {
	if t.form != FormLogits || t.temperature != 0 && t.temperature != 1 || !t.m.Narrow() {
		return nil
	}
	return func(buf []float32, first int) ([]float32, error) {
		return buf, t.m.Read32(buf, first)
	}
}

// named says whose row an error is about.
func (t table) named(err error) error {
	if e := (*conformal.RowError)(nil); errors.As(err, &e) && !usage.Is(err) {
		return usage.Errorf("%s: %w", t.m.Name, e)
	}
	return err
}

// rows is some rows of a table, in an order of its own.
type rows struct {
	table
	index []int
}

func (r rows) Dims() (n, k int) { return len(r.index), r.m.K }

func (r rows) Read(dst []float64, first int) error {
	for i := range len(dst) / r.m.K {
		if err := r.table.Read(dst[i*r.m.K:(i+1)*r.m.K], r.index[first+i]); err != nil {
			return err
		}
	}
	return nil
}

// Narrow implements conformal.Narrow.
func (r rows) Narrow() func(buf []float32, first int) ([]float32, error) {
	read := r.table.Narrow()
	if read == nil {
		return nil
	}
	return func(buf []float32, first int) ([]float32, error) {
		for i := range len(buf) / r.m.K {
			if _, err := read(buf[i*r.m.K:(i+1)*r.m.K], r.index[first+i]); err != nil {
				return nil, err
			}
		}
		return buf, nil
	}
}

// named implements what table's does, for numbers of the table.
func (r rows) named(err error) error {
	if e := (*conformal.RowError)(nil); errors.As(err, &e) && !usage.Is(err) && e.Row < len(r.index) {
		return r.table.named(&conformal.RowError{Row: r.index[e.Row], Err: e.Err})
	}
	return err
}

// open opens an input and says how a table was understood.
func (r Run) open(in Input) (table, error) {
	if in.Form != FormLogits && in.Form != FormProbabilities {
		return table{}, usage.Errorf("unknown form of input %q: known are logits, probabilities", in.Form)
	}
	m, err := matrix.Open(in.File, r.options())
	if err != nil {
		return table{}, err
	}
	if m.K == 1 {
		m.Close()
		return table{}, usage.Errorf("%s: there is one column, and a row holds the %s of every label (if one logit z tells two classes apart, give the columns 0 and z)", in.File, in.Form)
	}
	if m.About != "" || len(m.Columns) > 0 {
		progress.Or(r.Progress).Note("%s: %s", matrix.Base(in.File), m.Shape())
	}
	return table{m: m, form: in.Form, sums: &sums{exact: r.ExactSums}}, nil
}

// labels reads labels and checks that there is one in [0, k) for each of n rows.
func (r Run) labels(name string, n, k int) ([]int, error) {
	labels, err := matrix.Ints(name, matrix.Options{Header: r.Header, Rows: n})
	if err != nil {
		return nil, err
	}
	if len(labels) != n {
		return nil, usage.Errorf("there are %d labels in %s for %d rows", len(labels), name, n)
	}
	for i, y := range labels {
		if y < 0 || y >= k {
			from1 := ""
			if y == k && slices.Min(labels) > 0 {
				from1 = "; if they count from 1, subtract 1"
			}
			return nil, usage.Errorf("%s: the label of row %d is %d; it must lie in [0, %d)%s", name, i, y, k, from1)
		}
	}
	return labels, nil
}

// labelsOf is labels for the rows of a table; where their number is another, either file may have been
// understood wrongly, so the sentence says how both were.
func (r Run) labelsOf(t table, name string) ([]int, error) {
	labels, err := r.labels(name, t.m.N, t.m.K)
	if err == nil || len(t.m.Columns) == 0 && t.m.About == "" {
		return labels, err
	}
	if y, e := matrix.Open(name, matrix.Options{Header: r.Header, Rows: t.m.N, One: true}); e == nil {
		defer y.Close()
		if y.N != t.m.N {
			return nil, usage.Errorf("there are %d labels in %s for %d rows of %s, which was read as %s", y.N, name, t.m.N, t.m.Name, t.m.Shape())
		}
	}
	return nil, err
}

func (r Run) groups(name string, n int) ([]int, error) {
	if name == "" {
		return nil, nil
	}
	groups, err := matrix.Ints(name, matrix.Options{Header: r.Header, Rows: n})
	if err == nil && len(groups) != n {
		err = usage.Errorf("%s: there are %d groups for %d rows", name, len(groups), n)
	}
	return groups, err
}

// sameRows tells whether two matrices hold the same numbers, whatever their files are.
func sameRows(a, b *matrix.Matrix) (bool, error) {
	if a.N != b.N || a.K != b.K {
		return false, nil
	}
	block := max(1, 1<<16/a.K)
	x, y := make([]float64, block*a.K), make([]float64, block*a.K)
	for first := 0; first < a.N; first += block {
		n := a.K * min(block, a.N-first)
		if err := a.Read(x[:n], first); err != nil {
			return false, err
		}
		if err := b.Read(y[:n], first); err != nil {
			return false, err
		}
		if !slices.Equal(x[:n], y[:n]) {
			return false, nil
		}
	}
	return true, nil
}

// load reads rows of a table into memory.
func load(t conformal.Table) (*conformal.Probs, error) {
	n, k := t.Dims()
	data := make([]float64, n*k)
	if err := t.Read(data, 0); err != nil {
		return nil, err
	}
	p, err := conformal.Probabilities(n, k, data)
	if err != nil {
		return nil, fmt.Errorf("probabilities in memory: %w", err)
	}
	return p, nil
}

// pick is some of the values; all of them for a nil index.
func pick(values, index []int) []int {
	if values == nil || index == nil {
		return values
	}
	out := make([]int, len(index))
	for i, at := range index {
		out[i] = values[at]
	}
	return out
}
