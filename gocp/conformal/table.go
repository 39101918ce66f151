package conformal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
)

// Table is rows of probabilities that need not fit in memory.
type Table interface {
	// Dims is the number of rows and of labels.
	Dims() (n, k int)
	// Read fills dst, which holds whole rows, from row first on. Several goroutines call it at once.
	Read(dst []float64, first int) error
}

var (
	_ Table = (*Probs)(nil)
	_ Table = Logits[float32]{}

	_ Narrow = Logits[float32]{}
)

// Dims implements Table.
func (p *Probs) Dims() (n, k int) { return p.N, p.K }

// Read implements Table.
func (p *Probs) Read(dst []float64, first int) error {
	copy(dst, p.data[first*p.K:])
	return nil
}

// Logits is a Table of N rows of K logits in memory, which become probabilities as they are read.
// Divide by a temperature other than 0 and 1 first.
type Logits[T ~float32 | ~float64] struct {
	N, K        int
	Data        []T
	Temperature float64
}

// Dims implements Table.
func (l Logits[T]) Dims() (n, k int) { return l.N, l.K }

// Read implements Table.
func (l Logits[T]) Read(dst []float64, first int) error {
	if err := shape("logits", l.N, l.K, len(l.Data)); err != nil {
		return err
	}
	for i := range len(dst) / l.K {
		at := first + i
		if err := TemperedRow(dst[i*l.K:(i+1)*l.K], l.Data[at*l.K:(at+1)*l.K], l.Temperature); err != nil {
			return fmt.Errorf("logits of row %d: %w", at, err)
		}
	}
	return nil
}

// Narrow implements Narrow.
func (l Logits[T]) Narrow() func(buf []float32, first int) ([]float32, error) {
	data, ok := any(l.Data).([]float32)
	if !ok || l.Temperature != 0 && l.Temperature != 1 || shape("logits", l.N, l.K, len(data)) != nil {
		return nil
	}
	return func(buf []float32, first int) ([]float32, error) {
		return data[first*l.K : first*l.K+len(buf)], nil
	}
}

// Narrow is a Table whose rows may be logits in float32, which have a faster way through.
type Narrow interface {
	Table
	// Narrow returns nil if the rows are something else, and otherwise a function that reads whole
	// rows from row first on: into buf, or it returns memory of its own that holds as many. Several
	// goroutines call it at once. That the logits are finite is checked later.
	Narrow() func(buf []float32, first int) ([]float32, error)
}

// Stream tells how to go through a table. The zero value uses all cores.
type Stream struct {
	// Context ends the work early; nil for none.
	Context context.Context
	// Workers is the number of goroutines; 0 stands for GOMAXPROCS. Results do not depend on it.
	Workers int
	// Seed of the u of randomised scores, which are those of Variant.RowUniforms.
	Seed uint64
	// Done, unless nil, is told after each block how many rows it had.
	Done func(rows int)
}

func (o Stream) context() context.Context {
	if o.Context == nil {
		return context.Background()
	}
	return o.Context
}

// blockBytes is about what a block of rows takes, and a few blocks for each worker are all that a
// stream holds.
const blockBytes = 1 << 19

// Block is a run of rows of a table.
type Block struct {
	First int
	P     *Probs
	// U holds the draws of the block's rows, as Variant.RowUniforms returns them.
	U []float64
}

// Each reads the table in blocks. work is called for every block, by several goroutines at once,
// and then emit with what it returned, in the order of the rows and by one goroutine.
func Each[R any](s *Scorer, t Table, o Stream, work func(Block) (R, error), emit func(b Block, r R) error) error {
	_, k := t.Dims()
	block := func(first int, rows []float64) Block {
		return Block{First: first, P: &Probs{N: len(rows) / k, K: k, data: rows}}
	}
	read := func(buf []float64, first int) ([]float64, error) { return buf, t.Read(buf, first) }
	return pipeline(t, o, read, func() func(int, []float64) (R, error) {
		return func(first int, rows []float64) (R, error) {
			b := block(first, rows)
			b.U = s.variant.RowUniforms(o.Seed, b.P)
			return work(b)
		}
	}, func(first int, rows []float64, r R) error { return emit(block(first, rows), r) })
}

// pipeline is Each for rows as read returns them, in its buffer or elsewhere; every goroutine gets a
// work function of its own.
func pipeline[T float32 | float64, R any](t Table, o Stream, read func(buf []T, first int) ([]T, error),
	work func() func(first int, rows []T) (R, error), emit func(first int, rows []T, r R) error) error {
	n, k := t.Dims()
	if n < 0 || k < 1 {
		return fmt.Errorf("a table of %d rows of %d labels", n, k)
	}
	ctx, cancel := context.WithCancelCause(o.context())
	defer cancel(nil)
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	rows := max(1, blockBytes/(8*k))
	if _, narrow := any(T(0)).(float32); narrow { // quicker rows
		rows = max(1, 4*blockBytes/(8*k))
	}
	rows = min(rows, max(1, n))
	workers = min(workers, max(1, (n+rows-1)/rows)) // the others would have no block

	type result struct {
		rows []T
		r    R
		err  error
	}
	type job struct {
		first int
		buf   []T
		out   chan result
	}
	jobs := make(chan job)
	order := make(chan job, 2*workers)
	buffers := make(chan []T, 2*workers+1) // as many blocks live at once
	for range cap(buffers) {
		buffers <- nil
	}
	go func() {
		defer close(jobs)
		defer close(order)
		for first := 0; first < n; first += rows {
			var j job
			select {
			case b := <-buffers:
				if b == nil {
					b = make([]T, rows*k)
				}
				j = job{first, b[:k*min(rows, n-first)], make(chan result, 1)}
			case <-ctx.Done():
				return
			}
			order <- j // never blocks: there are no more jobs than buffers
			select {
			case jobs <- j:
			case <-ctx.Done():
				j.out <- result{err: context.Cause(ctx)}
				return
			}
		}
	}()
	for range workers {
		go func() {
			f := work()
			for j := range jobs {
				var res result
				if res.rows, res.err = read(j.buf, j.first); res.err == nil {
					res.r, res.err = f(j.first, res.rows)
				}
				j.out <- res
			}
		}()
	}
	done := 0
	for j := range order {
		res := <-j.out
		if res.err != nil {
			return res.err
		}
		if err := emit(j.first, res.rows, res.r); err != nil {
			return err
		}
		done += len(res.rows) / k
		if o.Done != nil {
			o.Done(len(res.rows) / k)
		}
		buffers <- j.buf[:cap(j.buf)]
	}
	if done < n {
		return context.Cause(ctx)
	}
	return nil
}

// RowError says which row of a table is at fault.
type RowError struct {
	Row int
	Err error
}

// Error implements error.
func (e *RowError) Error() string { return fmt.Sprintf("row %d: %v", e.Row, e.Err) }

// Unwrap gives the cause.
func (e *RowError) Unwrap() error { return e.Err }

func shiftRow(err error, first int) error {
	if e := (*RowError)(nil); errors.As(err, &e) {
		return &RowError{e.Row + first, e.Err}
	}
	return err
}

// LabelledTable is Labelled for a table.
func (s *Scorer) LabelledTable(t Table, labels []int, o Stream) ([]float64, error) {
	n, k := t.Dims()
	if err := checkLabels(labels, n, k); err != nil {
		return nil, err
	}
	out := make([]float64, n)
	err := Each(s, t, o, func(b Block) (struct{}, error) {
		scores, err := s.Labelled(b.P, labels[b.First:b.First+b.P.N], b.U)
		copy(out[b.First:], scores)
		return struct{}{}, shiftRow(err, b.First)
	}, func(Block, struct{}) error { return nil })
	if err != nil {
		return nil, err
	}
	return out, nil
}

// CalibrateTable is LabelledTable followed by CalibrateCells, and the same thresholds to the bit. With
// float32 logits (Narrow) it is faster: most scores are computed only to a proven bound, and in full
// where that does not settle on which side of a threshold they lie.
func (s *Scorer) CalibrateTable(t Table, labels, groups []int, level Level, c Conditioning, o Stream) (*Thresholds, error) {
	n, k := t.Dims()
	if err := checkLabels(labels, n, k); err != nil {
		return nil, err
	}
	if read := s.narrow(t); read != nil {
		return s.calibrateFast(t, read, labels, groups, level, c, o)
	}
	scores, err := s.LabelledTable(t, labels, o)
	if err != nil {
		return nil, err
	}
	return calibrateScores(o.context(), scores, labels, groups, k, level, c)
}

// PredictTable is PredictCells for a table: emit gets the number of each block's first row and its
// sets, in order.
func (s *Scorer) PredictTable(t Table, th *Thresholds, groups []int, o Stream, emit func(first int, sets *Sets) error) error {
	n, k := t.Dims()
	if th.Conditioning.By == ByGroup && len(groups) != n {
		return fmt.Errorf("%d groups for %d rows", len(groups), n)
	}
	if err := th.Check(); err != nil {
		return err
	}
	if k != th.K {
		return fmt.Errorf("rows of %d labels for thresholds of %d", k, th.K)
	}
	if read := s.narrow(t); read != nil && (th.Conditioning.By == Marginal || th.Conditioning.By == ByGroup) {
		return s.predictFast(t, read, th, groups, o, emit)
	}
	return Each(s, t, o, func(b Block) (*Sets, error) {
		var g []int
		if th.Conditioning.By == ByGroup {
			g = groups[b.First : b.First+b.P.N]
		}
		sets, err := s.PredictCells(b.P, b.U, th, g)
		return sets, shiftRow(err, b.First)
	}, func(b Block, sets *Sets) error { return emit(b.First, sets) })
}

// TemperedRow is SoftmaxRow of z/t; a t of 0 stands for 1.
func TemperedRow[T ~float32 | ~float64](dst []float64, z []T, t float64) error {
	if t == 0 || t == 1 {
		return SoftmaxRow(dst, z)
	}
	if !(t > 0) || math.IsInf(t, 1) {
		return fmt.Errorf("temperature %v: it must be finite and above 0", t)
	}
	if len(dst) != len(z) {
		return fmt.Errorf("%d logits for %d labels", len(z), len(dst))
	}
	for y, v := range z {
		dst[y] = float64(v) / t
	}
	return SoftmaxRow(dst, dst)
}
