package defense

import (
	"math"
	"runtime"
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"github.com/gocp/gocp/gocp/rng"
)

// each calls f for 0 … n−1, Workers at a time. The context ends it early.
func (r Run) each(n int, f func(i int)) error {
	workers := r.Workers
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		if r.Context.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	return r.Context.Err()
}

// principal projects the samples on the m first principal directions of their centred features: [n,m]. A
// direction's sign makes its largest coordinate positive.
func (s *Set) principal(samples []int, m int) []float64 {
	mean := s.mean(samples)
	basis := leading(s.scatter(samples, mean), m)
	out := make([]float64, len(samples)*m)
	centred := make([]float64, s.D)
	for k, i := range samples {
		for j, x := range s.row(i) {
			centred[j] = float64(x) - mean[j]
		}
		blas64.Gemv(blas.Trans, 1, basis, vector(centred), 0, vector(out[k*m:(k+1)*m]))
	}
	return out
}

func vector(x []float64) blas64.Vector { return blas64.Vector{N: len(x), Inc: 1, Data: x} }

func (s *Set) mean(samples []int) []float64 {
	mean := make([]float64, s.D)
	for _, i := range samples {
		for j, x := range s.row(i) {
			mean[j] += float64(x)
		}
	}
	for j := range mean {
		mean[j] /= float64(len(samples))
	}
	return mean
}

// scatter is Σ(x−mean)(x−mean)ᵀ, [D,D], some rows at a time.
func (s *Set) scatter(samples []int, mean []float64) blas64.Symmetric {
	const rows = 256
	d := s.D
	c := blas64.Symmetric{N: d, Stride: d, Data: make([]float64, d*d), Uplo: blas.Upper}
	block := make([]float64, rows*d)
	for at := 0; at < len(samples); at += rows {
		part := samples[at:min(at+rows, len(samples))]
		for k, i := range part {
			for j, x := range s.row(i) {
				block[k*d+j] = float64(x) - mean[j]
			}
		}
		blas64.Syrk(blas.Trans, 1, blas64.General{Rows: len(part), Cols: d, Stride: d, Data: block}, 1, c)
	}
	return c
}

// leading are the eigenvectors [d,m] of the m largest eigenvalues of c, by subspace iteration; where that
// is slow, because eigenvalues are near each other, by the whole decomposition.
func leading(c blas64.Symmetric, m int) blas64.General {
	const (
		spare = 8
		most  = 100
		close = 1e-12 // of a residual to the largest eigenvalue
	)
	d := c.N
	wide := min(m+spare, d)
	if d > 2*(m+spare) {
		q := blas64.General{Rows: d, Cols: wide, Stride: wide, Data: make([]float64, d*wide)}
		r := rng.New(1, rng.Stream("principal"))
		for i := range q.Data {
			q.Data[i] = float64(r.Normal())
		}
		orthonormal(q)
		y := blas64.General{Rows: d, Cols: wide, Stride: wide, Data: make([]float64, d*wide)}
		for range most {
			blas64.Symm(blas.Left, 1, c, q, 0, y)
			values, vectors, ok := ritz(q, y)
			if !ok {
				break
			}
			// Ritz vectors x = q·v with c·x = y·v.
			x, cx := times(q, vectors), times(y, vectors)
			worst := 0.0
			for k := range m {
				sum := 0.0
				for i := range d {
					e := cx.Data[i*wide+k] - values[k]*x.Data[i*wide+k]
					sum += e * e
				}
				worst = max(worst, math.Sqrt(sum))
			}
			if worst <= close*values[0] {
				return signed(x, m)
			}
			q, y = cx, x
			orthonormal(q)
		}
	}
	var eigen mat.EigenSym
	sym := mat.NewSymDense(d, c.Data)
	if !eigen.Factorize(sym, true) {
		return blas64.General{Rows: d, Cols: m, Stride: m, Data: make([]float64, d*m)} // not for finite numbers
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	out := blas64.General{Rows: d, Cols: m, Stride: m, Data: make([]float64, d*m)}
	for k := range m { // rising
		for i := range d {
			out.Data[i*m+k] = vectors.At(i, d-1-k)
		}
	}
	return signed(out, m)
}

// ritz decomposes qᵀy, the values falling.
func ritz(q, y blas64.General) (values []float64, vectors blas64.General, ok bool) {
	n := q.Cols
	small := blas64.General{Rows: n, Cols: n, Stride: n, Data: make([]float64, n*n)}
	blas64.Gemm(blas.Trans, blas.NoTrans, 1, q, y, 0, small)
	sym := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			sym.SetSym(i, j, (small.Data[i*n+j]+small.Data[j*n+i])/2)
		}
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(sym, true) {
		return nil, small, false
	}
	var v mat.Dense
	eigen.VectorsTo(&v)
	rising := eigen.Values(nil)
	vectors = blas64.General{Rows: n, Cols: n, Stride: n, Data: make([]float64, n*n)}
	for k := range n {
		values = append(values, rising[n-1-k])
		for i := range n {
			vectors.Data[i*n+k] = v.At(i, n-1-k)
		}
	}
	return values, vectors, true
}

func times(a, b blas64.General) blas64.General {
	out := blas64.General{Rows: a.Rows, Cols: b.Cols, Stride: b.Cols, Data: make([]float64, a.Rows*b.Cols)}
	blas64.Gemm(blas.NoTrans, blas.NoTrans, 1, a, b, 0, out)
	return out
}

// orthonormal makes the columns of q orthonormal, by Gram and Schmidt's rule twice; one that depends on
// those before it becomes zero.
func orthonormal(q blas64.General) {
	d, n := q.Rows, q.Cols
	column := func(k int) blas64.Vector { return blas64.Vector{N: d, Inc: q.Stride, Data: q.Data[k:]} }
	for k := range n {
		size := blas64.Nrm2(column(k))
		for range 2 {
			for j := range k {
				blas64.Axpy(-blas64.Dot(column(j), column(k)), column(j), column(k))
			}
		}
		norm := blas64.Nrm2(column(k))
		if norm <= 1e-14*size || norm == 0 {
			blas64.Scal(0, column(k))
			continue
		}
		blas64.Scal(1/norm, column(k))
	}
}

// signed is the first m columns of x, each with its largest coordinate positive.
func signed(x blas64.General, m int) blas64.General {
	out := blas64.General{Rows: x.Rows, Cols: m, Stride: m, Data: make([]float64, x.Rows*m)}
	for k := range m {
		top := 0.0
		for i := range x.Rows {
			if v := x.Data[i*x.Stride+k]; math.Abs(v) > math.Abs(top) {
				top = v
			}
		}
		for i := range x.Rows {
			out.Data[i*m+k] = math.Copysign(1, top) * x.Data[i*x.Stride+k]
		}
	}
	return out
}
