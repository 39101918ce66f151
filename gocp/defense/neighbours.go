package defense

import (
	"cmp"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/selection"
	"github.com/gocp/gocp/gocp/tensor"
)

// Sizes of the products that distances come from.
const (
	queryRows = 256
	tableRows = 4096
)

// Neighbours calls visit, from one goroutine at a time, for every sample i with the k samples nearest to it by
// ‖x_i − x_j‖, without i itself, by rising number. Of equal distances the smaller number is nearer. They are
// those of float64.
//
// Distances come from products of centred rows in float32, |a|² + |b|² − 2⟨a,b⟩, each with a bound on its
// rounding. What the bounds leave open, mostly nothing, is computed again in float64 from the rows
// themselves. Without the centring features far from the origin would leave everything open: that is
// where such sums cancel.
func (s *Set) Neighbours(r Run, k int, visit func(i int, near []int)) error {
	t := newTable(s)
	workers := r.Workers
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	blocks := (s.Len() + queryRows - 1) / queryRows
	var mu sync.Mutex
	next := make(chan int, blocks)
	for b := range blocks {
		next <- b
	}
	close(next)
	errs := make([]error, min(workers, blocks))
	var wg sync.WaitGroup
	return r.Device.Do(r.Context, 1, func(owner *device.Stream) error {
		rows := owner.Alloc(4 * len(s.Features))
		if err := t.upload(owner, rows); err != nil {
			return err
		}
		for w := range errs {
			wg.Go(func() {
				errs[w] = r.Device.Do(r.Context, 1, func(st *device.Stream) error {
					q := t.searcher(st, rows, k)
					for b := range next {
						if err := r.Context.Err(); err != nil {
							return err
						}
						first := b * queryRows
						near, err := q.search(first, min(queryRows, s.Len()-first))
						if err != nil {
							return err
						}
						mu.Lock()
						for i, list := range near {
							visit(first+i, list)
						}
						mu.Unlock()
					}
					return nil
				})
			})
		}
		wg.Wait()
		return cmp.Or(errs...)
	})
}

// A table is the rows that are searched: centred, and divided by a power of two so that no number is above 1.
type table struct {
	s        *Set
	mean     []float64
	exponent int
	squares  []float32 // |row|²
	norms    []float32 // |row|, rounded up
	rounding float32   // of a product of two rows, over their norms
	least    float32   // of a product, whatever they are: numbers near 0 may become 0
}

func newTable(s *Set) *table {
	n := s.Len()
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	t := &table{s: s, mean: s.mean(all), squares: make([]float32, n), norms: make([]float32, n)}
	largest := 0.0
	for i := range n {
		for j, x := range s.row(i) {
			largest = max(largest, math.Abs(float64(x)-t.mean[j]))
		}
	}
	_, t.exponent = math.Frexp(largest)
	// A sum of D products in any order is within D roundings of Σ|ab| ≤ |a||b|; a row differs by one
	// rounding from the exact centred one, and a device may take products from three of fewer bits. Four times that.
	t.rounding = 4 * float32(s.D+16) * 0x1p-24
	t.least = float32(s.D) * 0x1p-124
	return t
}

// upload writes the rows to [N,D], some at a time, and notes their norms.
func (t *table) upload(st *device.Stream, to device.Ptr) error {
	d := t.s.D
	block := make([]float32, tableRows*d)
	scale := math.Ldexp(1, -t.exponent)
	for at := 0; at < t.s.Len(); at += tableRows {
		n := min(tableRows, t.s.Len()-at)
		for i := range n {
			sum := 0.0
			for j, x := range t.s.row(at + i) {
				c := float32((float64(x) - t.mean[j]) * scale)
				block[i*d+j] = c
				sum += float64(c) * float64(c)
			}
			t.squares[at+i] = float32(sum)
			t.norms[at+i] = float32(math.Sqrt(sum)) * (1 + 0x1p-22)
		}
		device.Upload(st, to.Add(4*at*d), block[:n*d])
		if err := st.Sync(); err != nil { // the block is written again
			return err
		}
	}
	return nil
}

// A candidate is a row and the bounds of its distance², less the query's |a|².
type candidate struct {
	row       int32
	low, high float32
}

// A searcher finds neighbours on one stream.
type searcher struct {
	t        *table
	s        *device.Stream
	rows     device.Ptr
	k        int
	work     *kernel.Workspace
	out      device.Ptr
	products []float32     // [queryRows, tableRows]
	lists    [][]candidate // of each query
	limit    []float32     // of each query: no neighbour lies beyond it
	highs    []float32
}

func (t *table) searcher(s *device.Stream, rows device.Ptr, k int) *searcher {
	q := &searcher{t: t, s: s, rows: rows, k: k, out: s.Alloc(4 * queryRows * tableRows), products: make([]float32, queryRows*tableRows),
		lists: make([][]candidate, queryRows), limit: make([]float32, queryRows)}
	bytes := 0
	for _, n := range []int{queryRows, t.s.Len() % queryRows} {
		for _, m := range []int{tableRows, t.s.Len() % tableRows} {
			if n > 0 && m > 0 {
				bytes = max(bytes, kernel.ConvBytes(s, t.product(n, m), false))
			}
		}
	}
	q.work = kernel.NewWorkspace(s, bytes)
	return q
}

// product is that of n rows with m rows.
func (t *table) product(n, m int) kernel.Conv {
	return kernel.Conv{N: n, H: 1, W: 1, C: t.s.D, K: m, R: 1, S: 1, Stride: 1, Precision: kernel.F32}
}

// search finds the neighbours of n rows from first on.
func (q *searcher) search(first, n int) ([][]int, error) {
	t, d := q.t, q.t.s.D
	for i := range n {
		q.lists[i] = q.lists[i][:0]
		q.limit[i] = float32(math.Inf(1))
	}
	for at := 0; at < t.s.Len(); at += tableRows {
		m := min(tableRows, t.s.Len()-at)
		g := t.product(n, m)
		kernel.ConvForward(q.s, q.work, g, tensor.Tensor{Shape: []int{n, 1, 1, d}, P: q.rows.Add(4 * first * d)},
			tensor.Tensor{Shape: []int{m * d}, P: q.rows.Add(4 * at * d)}, tensor.Tensor{Shape: []int{n, 1, 1, m}, P: q.out})
		if err := device.Download(q.s, q.products[:n*m], q.out); err != nil {
			return nil, err
		}
		for i := range n {
			q.scan(first+i, i, at, q.products[i*m:(i+1)*m])
		}
	}
	near := make([][]int, n)
	for i := range n {
		near[i] = q.settle(first+i, i)
	}
	return near, nil
}

// scan adds the rows from at on that may be neighbours of query to its list.
func (q *searcher) scan(query, i, at int, products []float32) {
	t := q.t
	squares, norms := t.squares[at:at+len(products)], t.norms[at:at+len(products)]
	limit, list := q.limit[i], q.lists[i]
	e, own := 2*t.rounding*t.norms[query], t.squares[query]
	for j, p := range products {
		distance := squares[j] - 2*p
		slack := e*norms[j] + 0x1p-22*(squares[j]+own) + t.least
		if distance-slack > limit || at+j == query {
			continue
		}
		if list = append(list, candidate{int32(at + j), distance - slack, distance + slack}); len(list) >= 2*q.k+256 {
			list, limit = q.tighten(list, limit)
		}
	}
	q.limit[i], q.lists[i] = limit, list
}

// tighten drops candidates that k others are surely nearer than.
func (q *searcher) tighten(list []candidate, limit float32) ([]candidate, float32) {
	if len(list) <= q.k {
		return list, limit
	}
	q.highs = q.highs[:0]
	for _, c := range list {
		q.highs = append(q.highs, c.high)
	}
	limit = min(limit, selection.Smallest(q.highs, q.k-1))
	return slices.DeleteFunc(list, func(c candidate) bool { return c.low > limit }), limit
}

// settle returns query's neighbours by rising number.
func (q *searcher) settle(query, i int) []int {
	list, _ := q.tighten(q.lists[i], q.limit[i])
	q.lists[i] = list
	near := make([]int, 0, q.k)
	if len(list) > q.k {
		// Whoever is surely nearer than all but k is a neighbour; the others are measured.
		lows := q.highs[:0]
		for _, c := range list {
			lows = append(lows, c.low)
		}
		q.highs = lows
		next := selection.Smallest(lows, q.k)
		type measured struct {
			row      int32
			distance float64
		}
		var open []measured
		for _, c := range list {
			if c.high < next {
				near = append(near, int(c.row))
			} else {
				open = append(open, measured{c.row, q.t.s.distance(query, int(c.row))})
			}
		}
		slices.SortFunc(open, func(a, b measured) int { return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.row, b.row)) })
		for _, m := range open[:q.k-len(near)] {
			near = append(near, int(m.row))
		}
	} else {
		for _, c := range list {
			near = append(near, int(c.row))
		}
	}
	slices.Sort(near)
	return near
}

// distance is ‖x_i − x_j‖².
func (s *Set) distance(i, j int) (sum float64) {
	b := s.row(j)
	for k, x := range s.row(i) {
		d := float64(x) - float64(b[k])
		sum += d * d
	}
	return sum
}
