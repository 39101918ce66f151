package defense

import (
	"fmt"
	"math"

	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/usage"
)

// DefaultClusterShare is the largest share of a class that a cluster may have and still be taken for
// poisons.
const DefaultClusterShare = 0.35

// What activationClustering works with.
const (
	clusterDims   = 10
	clusterStarts = 100 // ten often end in a local minimum
	clusterSteps  = 300
)

// activationClustering divides each class in two by 2-means on its first 10 principal components, and drops
// the smaller cluster if it has at most ClusterShare of the class. With ½ it always drops one, some 45 %
// of every clean class.
var activationClustering = Filter{
	Name: "activation-clustering", Reads: ReadsFeatures, Source: "Chen et al.: Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering, SafeAI 2019",
	apply: func(r Run, s *Set, o Options) (*Verdict, error) {
		share := o.ClusterShare
		if share == 0 {
			share = DefaultClusterShare
		}
		if !(share > 0 && share <= 0.5) {
			return nil, usage.Errorf("a smaller cluster of up to %g of its class; it must be above 0 and at most 0.5", share)
		}
		v := verdict(s.Len())
		classes := s.classes()
		task := r.Progress.Phase("activation clustering", len(classes))
		defer task.Done()
		err := r.each(len(classes), func(y int) {
			defer task.Add(1)
			members := classes[y]
			if len(members) < 3 {
				return // two samples are two clusters
			}
			p := s.principal(members, min(clusterDims, s.D))
			c := twoMeans(p, len(members), rng.New(o.Seed, rng.Stream("activation clustering", uint64(y))))
			small := 0
			if c.sizes[1] < c.sizes[0] {
				small = 1
			}
			n := c.sizes[small]
			drop := n > 0 && float64(n) <= share*float64(len(members)) && c.sizes[0] != c.sizes[1]
			for k, i := range members {
				// How much nearer the smaller cluster's centre is than the other's, over their distance.
				v.Scores[i] = ratio(c.distance[2*k+1-small]-c.distance[2*k+small], c.apart)
				if drop && c.of[k] == small {
					v.Dropped[i] = true
					v.Reasons[i] = fmt.Sprintf("in the smaller cluster of its class, %d of %d", n, len(members))
				}
			}
		})
		v.Says = fmt.Sprintf("of each class the smaller of two clusters, if it has at most %g of the class", share)
		return v, err
	},
}

// clusters are two of the rows of a matrix.
type clusters struct {
	of       []int
	sizes    [2]int
	distance []float64 // [n,2] to both centres
	apart    float64   // between the centres
	inertia  float64
}

// twoMeans divides n rows by Lloyd's rule from the best of several k-means++ starts.
func twoMeans(x []float64, n int, r *rng.Source) clusters {
	d := len(x) / n
	square := func(i int, c []float64) (sum float64) {
		for j, v := range x[i*d : (i+1)*d] {
			sum += (v - c[j]) * (v - c[j])
		}
		return sum
	}
	best := clusters{inertia: math.Inf(1)}
	for range clusterStarts {
		centres := [2][]float64{make([]float64, d), make([]float64, d)}
		copy(centres[0], x[r.Intn(n)*d:])
		far, total := make([]float64, n), 0.0
		for i := range n {
			far[i] = square(i, centres[0])
			total += far[i]
		}
		second, at := n-1, r.Float64()*total
		for i, f := range far {
			if at -= f; at < 0 {
				second = i
				break
			}
		}
		copy(centres[1], x[second*d:])
		c := clusters{of: make([]int, n), distance: make([]float64, 2*n)}
		for step := range clusterSteps {
			moved := step == 0
			c.sizes, c.inertia = [2]int{}, 0
			for i := range n {
				a, b := square(i, centres[0]), square(i, centres[1])
				to := 0
				if b < a {
					to = 1
				}
				moved = moved || to != c.of[i]
				c.of[i] = to
				c.sizes[to]++
				c.inertia += min(a, b)
				c.distance[2*i], c.distance[2*i+1] = math.Sqrt(a), math.Sqrt(b)
			}
			if !moved || c.sizes[0] == 0 || c.sizes[1] == 0 {
				break
			}
			for k := range centres {
				clear(centres[k])
			}
			for i := range n {
				for j, v := range x[i*d : (i+1)*d] {
					centres[c.of[i]][j] += v / float64(c.sizes[c.of[i]])
				}
			}
		}
		if c.inertia < best.inertia {
			for j := range d {
				c.apart += (centres[0][j] - centres[1][j]) * (centres[0][j] - centres[1][j])
			}
			c.apart = math.Sqrt(c.apart)
			best = c
		}
	}
	return best
}
