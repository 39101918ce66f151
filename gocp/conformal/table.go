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

// Stream tells how to go through a table. The zero value uses all cores.
type Stream struct {
	// Context ends the work early; nil for none.
	Context context.Context
	// Workers is the number of goroutines; 0 stands for GOMAXPROCS. Results do not depend on it.
	Workers int
	// Seed of the u of randomised scores: row i has that of Variant.Uniforms(Seed, i, …).
	Seed uint64
	// Done, unless nil, is told after each block how many rows it had.
	Done func(rows int)
}

// blockBytes is about what a block of rows takes, and a few blocks for each worker are all that a
// stream holds.
const blockBytes = 1 << 19

// Block is a run of rows of a table.
type Block struct {
	First int
	P     *Probs
	// U holds the draws of the block's rows, as Variant.Uniforms returns them.
	U []float64
}

// Each reads the table in blocks. work is called for every block, by several goroutines at once,
// and then emit with what it returned, in the order of the rows and by one goroutine.
func Each[R any](s *Scorer, t Table, o Stream, work func(Block) (R, error), emit func(b Block, r R) error) error {
	n, k := t.Dims()
	if n < 0 || k < 1 {
		return fmt.Errorf("a table of %d rows of %d labels", n, k)
	}
	ctx := o.Context
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	rows := max(1, blockBytes/(8*k))

	type result struct {
		block Block
		r     R
		err   error
	}
	type job struct {
		first int
		buf   []float64
		out   chan result
	}
	jobs := make(chan job)
	order := make(chan job, 2*workers)
	buffers := make(chan []float64, 2*workers+1) // as many blocks live at once
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
					b = make([]float64, rows*k)
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
			for j := range jobs {
				p := &Probs{N: len(j.buf) / k, K: k, data: j.buf}
				res := result{block: Block{First: j.first, P: p}}
				if res.err = t.Read(j.buf, j.first); res.err == nil {
					res.block.U = s.variant.Uniforms(o.Seed, j.first, p.N, k)
					res.r, res.err = work(res.block)
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
		if err := emit(res.block, res.r); err != nil {
			return err
		}
		done += res.block.P.N
		if o.Done != nil {
			o.Done(res.block.P.N)
		}
		buffers <- j.buf[:cap(j.buf)]
	}
	if done < n {
		return context.Cause(ctx)
	}
	return nil
}

// rowError turns the number of a row in a block into that in the table.
type rowError struct {
	row int
	err error
}

func (e *rowError) Error() string { return fmt.Sprintf("row %d: %v", e.row, e.err) }
func (e *rowError) Unwrap() error { return e.err }

func shiftRow(err error, first int) error {
	if e := (*rowError)(nil); errors.As(err, &e) {
		return &rowError{e.row + first, e.err}
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

// PredictTable is PredictCells for a table: emit gets the sets of each block, in order. The
// block's probabilities are reused after emit returns.
func (s *Scorer) PredictTable(t Table, th *Thresholds, groups []int, o Stream, emit func(b Block, sets *Sets) error) error {
	n, _ := t.Dims()
	if th.Conditioning.By == ByGroup && len(groups) != n {
		return fmt.Errorf("%d groups for %d rows", len(groups), n)
	}
	return Each(s, t, o, func(b Block) (*Sets, error) {
		var g []int
		if th.Conditioning.By == ByGroup {
			g = groups[b.First : b.First+b.P.N]
		}
		sets, err := s.PredictCells(b.P, b.U, th, g)
		return sets, shiftRow(err, b.First)
	}, emit)
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
