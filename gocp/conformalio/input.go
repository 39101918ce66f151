package conformalio

import (
	"context"
	"errors"
	"fmt"

	"github.com/gocp/gocp/gocp/conformal"
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
}

func (r Run) stream(name string, rows int, seed uint64) (conformal.Stream, progress.Task) {
	task := progress.Or(r.Progress).Phase(name, rows)
	return conformal.Stream{Context: r.Context, Workers: r.Workers, Seed: seed, Done: task.Add}, task
}

// table serves rows of a matrix as probabilities.
type table struct {
	m           *Matrix
	form        Form
	temperature float64
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
			err = conformal.ProbabilityRow(row, row)
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
	if t.form != FormLogits || t.temperature != 0 && t.temperature != 1 || t.m.read32 == nil {
		return nil
	}
	return func(buf []float32, first int) ([]float32, error) {
		if err := t.m.read32(buf, first); err != nil {
			return nil, fmt.Errorf("%s: %w", t.m.Name, err)
		}
		return buf, nil
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

func (in Input) open() (table, error) {
	if in.Form != FormLogits && in.Form != FormProbabilities {
		return table{}, usage.Errorf("unknown form of input %q: known are logits, probabilities", in.Form)
	}
	m, err := OpenMatrix(in.File)
	return table{m: m, form: in.Form}, err
}

// openLabels reads labels and checks that there is one in [0, k) for each of n rows.
func openLabels(name string, n, k int) ([]int, error) {
	labels, err := OpenInts(name)
	if err != nil {
		return nil, err
	}
	if len(labels) != n {
		return nil, usage.Errorf("%s: there are %d labels for %d rows", name, len(labels), n)
	}
	for i, y := range labels {
		if y < 0 || y >= k {
			return nil, usage.Errorf("%s: the label of row %d is %d; it must lie in [0, %d)", name, i, y, k)
		}
	}
	return labels, nil
}

func openGroups(name string, n int) ([]int, error) {
	if name == "" {
		return nil, nil
	}
	groups, err := OpenInts(name)
	if err == nil && len(groups) != n {
		err = usage.Errorf("%s: there are %d groups for %d rows", name, len(groups), n)
	}
	return groups, err
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

func pick(values, index []int) []int {
	if values == nil {
		return nil
	}
	out := make([]int, len(index))
	for i, at := range index {
		out[i] = values[at]
	}
	return out
}
