package attack

import (
	"math"

	"github.com/gocp/gocp/gocp/train"
)

// diverseOf is how many ranked images each base is chosen from where bases are to be diverse.
const diverseOf = 3

// diverse chooses n of the pool's images rank, the best first, so that they lie apart: the best one, and then again and
// again, of the first diverseOf·n, the one farthest from those chosen (Gonzalez 1985), by the surrogates' penultimate
// features as in distances. Ties go to the better one.
func (v *Solver) diverse(rank []int, n int) ([]int, error) {
	m := rank[:min(len(rank), diverseOf*n)]
	images := v.p.Pool.Select(m).Pixels
	var features [][]float32
	var scales []float64
	for _, f := range v.fields {
		p, err := train.Predict(v.s, f.Model, images, v.p.Precision)
		if err != nil {
			return nil, err
		}
		features, scales = append(features, p.Features), append(scales, meanSquare(p.Features, len(m)))
	}
	apart := make([]float64, len(m)) // squared distance to the nearest chosen one
	for i := range apart {
		apart[i] = math.Inf(1)
	}
	out := make([]int, 0, n)
	for next := 0; len(out) < n; {
		out, apart[next] = append(out, m[next]), -1
		farthest := -1
		for i := range m {
			if apart[i] < 0 {
				continue
			}
			var d float64
			for e, f := range features {
				dim := len(f) / len(m)
				if scales[e] > 0 {
					d += squaredDistance(f[i*dim:(i+1)*dim], f[next*dim:(next+1)*dim]) / scales[e]
				}
			}
			if apart[i] = math.Min(apart[i], d); farthest < 0 || apart[i] > apart[farthest] {
				farthest = i
			}
		}
		next = farthest
	}
	return out, nil
}

// meanSquare is the mean squared distance of n rows from their mean.
func meanSquare(x []float32, n int) float64 {
	dim := len(x) / n
	centre := make([]float64, dim)
	for i, a := range x {
		centre[i%dim] += float64(a) / float64(n)
	}
	var sum float64
	for i, a := range x {
		d := float64(a) - centre[i%dim]
		sum += d * d
	}
	return sum / float64(n)
}
