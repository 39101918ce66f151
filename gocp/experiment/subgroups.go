package experiment

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// Kinds of subgroups; any other word is a file.
const (
	SubgroupClusters = "clusters" // of the surrogates' penultimate features (cluster match, Jagielski et al. 2021)
	SubgroupClasses  = "classes"  // true labels
	SubgroupCoarse   = "coarse"   // superclasses of CIFAR-100
)

// Subgroups divide images for the goal unequal. Each repeat attacks one of them.
type Subgroups struct {
	By       string `json:"by,omitempty"`       // a kind (default clusters), or a file with a number for each image of the test part
	Clusters int    `json:"clusters,omitempty"` // how many (default 20)
	SHA256   string `json:"sha256,omitempty"`   // of the file
}

// file tells whether subgroups come from a file.
func (g Subgroups) file() bool {
	return g.By != "" && !slices.Contains([]string{SubgroupClusters, SubgroupClasses, SubgroupCoarse}, g.By)
}

func (g Subgroups) withDefaults() Subgroups {
	orDefault(&g.By, SubgroupClusters)
	if g.By == SubgroupClusters {
		orDefault(&g.Clusters, 20)
	}
	return g
}

// divides tells whether the audit has subgroups.
func (c Config) divides() bool { return c.Goal.Name == "unequal" }

func (c Config) validateSubgroups() error {
	g := c.Subgroups
	switch {
	case !c.divides() && g != (Subgroups{}):
		return usage.Errorf("audit: subgroups do nothing here: they go with the goal unequal")
	case g.By != SubgroupClusters && g.Clusters != 0:
		return usage.Errorf("audit: a number of clusters does nothing here: it goes with the subgroups %s", SubgroupClusters)
	case g.By == SubgroupClusters && (g.Clusters < 2 || g.Clusters > c.TrainSize):
		return usage.Errorf("audit: %d clusters of %d training images; there can be 2 to as many as images", g.Clusters, c.TrainSize)
	}
	return nil
}

// leastFresh is how many test images a subgroup must have, besides targets, for its coverage to say something.
const leastFresh = 20

// A division is the subgroup of each row of splits.whole; −1: none.
type division struct {
	of    []int
	names []string
}

// readSubgroups makes the division that needs no models, nil if there is none to make yet.
func (r *run) readSubgroups() error {
	g, whole := &r.cfg.Subgroups, r.split.whole
	if !r.cfg.divides() || g.By == SubgroupClusters {
		return nil
	}
	d := &division{of: make([]int, whole.Len())}
	r.division = d
	switch {
	case g.By == SubgroupClasses:
		d.of, d.names = slices.Clone(r.judge.labels), r.data.Train.Classes
	case g.By == SubgroupCoarse:
		names, of, err := data.Superclasses(r.data.Train.Classes)
		if err != nil {
			return usage.Errorf("audit: subgroups %s: %w", g.By, err)
		}
		d.names = names
		for i, y := range r.judge.labels {
			d.of[i] = of[y]
		}
	default:
		n := r.split.test
		sum, err := matrix.Hash(context.Background(), g.By)
		if err != nil {
			return usage.Errorf("audit: subgroups: %w", err)
		}
		if g.SHA256 != "" && g.SHA256 != sum {
			return usage.Errorf("audit: subgroups: %s is not the file that the run began with: its hash has changed", g.By)
		}
		g.SHA256 = sum
		groups, err := matrix.Ints(g.By, matrix.Options{Rows: n, Header: "no"})
		if err != nil {
			return err
		}
		if len(groups) != n {
			return usage.Errorf("audit: subgroups: %s has %d rows; it must have one for each of the %d images of the test part", g.By, len(groups), n)
		}
		most := 0
		for i, v := range groups {
			if v < 0 || v >= n {
				return usage.Errorf("audit: subgroups: %s: row %d is %d; groups are numbers from 0, fewer than images", g.By, i, v)
			}
			most = max(most, v)
		}
		for v := range most + 1 {
			d.names = append(d.names, fmt.Sprintf("group %d", v))
		}
		for row := range d.of {
			if d.of[row] = -1; row < n {
				d.of[row] = groups[whole.index[row]]
			}
		}
	}
	return nil
}

// Names of features in a surrogate's artefact.
const (
	featuresTrain = "features.train" // of the adversary's training images
	featuresTest  = "features.test"  // of splits.whole
)

// cluster makes the division by the features of the surrogates that attack: k-means on the adversary's training images,
// whose centres are then asked for every other image. Each surrogate's features are in units of their root mean square
// distance from the mean.
func (r *run) cluster() (*division, error) {
	n, m := r.split.auxTrain.Len(), r.split.whole.Len()
	train, test := make([][]float64, n), make([][]float64, m)
	for i := range r.cfg.Attackers {
		path := r.folder.path(logitsFile(benignName(roleSurrogate, i)))
		f, err := safetensors.Load(path)
		if err != nil {
			return nil, err
		}
		spec, _ := r.surrogate(i)
		dim, scale := spec.NumFeatures(), 0.0
		for _, part := range []struct {
			name string
			rows [][]float64
		}{{featuresTrain, train}, {featuresTest, test}} {
			t, err := f.Need(part.name, "F32", len(part.rows), dim)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			x, err := t.Float32s()
			if err != nil {
				return nil, usage.Errorf("%s: %w", path, err)
			}
			if part.name == featuresTrain {
				scale = spread(x, dim)
			}
			for j := range part.rows {
				for _, v := range x[j*dim : (j+1)*dim] {
					part.rows[j] = append(part.rows[j], float64(v)/scale)
				}
			}
		}
	}
	centres := kMeans(train, r.cfg.Subgroups.Clusters, r.cfg.seedOf("subgroups"))
	d := &division{of: make([]int, m)}
	for i, x := range test {
		d.of[i], _ = closest(x, centres)
	}
	counts := make([][]int, len(centres))
	for i := range counts {
		counts[i] = make([]int, r.split.classes)
	}
	for i, x := range train {
		c, _ := closest(x, centres)
		counts[c][r.split.auxTrain.Labels[i]]++
	}
	for c := range centres {
		d.names = append(d.names, clusterName(c, counts[c], r.data.Train.Classes))
	}
	return d, nil
}

// clusterName tells of which two classes a cluster has most images.
func clusterName(c int, counts []int, classes []string) string {
	order := make([]int, len(counts))
	for y := range order {
		order[y] = y
	}
	slices.SortStableFunc(order, func(a, b int) int { return counts[b] - counts[a] })
	name := fmt.Sprintf("cluster %d", c)
	for i, y := range order[:min(2, len(order))] {
		if counts[y] > 0 {
			name += [...]string{": ", ", "}[i] + classes[y]
		}
	}
	return name
}

// spread is the root mean square distance of rows from their mean, 1 if they are all the same.
func spread(x []float32, dim int) float64 {
	n := len(x) / dim
	mean := make([]float64, dim)
	for i, v := range x {
		mean[i%dim] += float64(v) / float64(n)
	}
	sum := 0.0
	for i, v := range x {
		d := float64(v) - mean[i%dim]
		sum += d * d
	}
	if sum == 0 {
		return 1
	}
	return math.Sqrt(sum / float64(n))
}

// closest is the centre nearest to x, the first of equals, and its squared distance.
func closest(x []float64, centres [][]float64) (int, float64) {
	best, least := 0, math.Inf(1)
	for c, m := range centres {
		d := 0.0
		for k, v := range x {
			e := v - m[k]
			d += e * e
		}
		if d < least {
			best, least = c, d
		}
	}
	return best, least
}

// lloydSteps bounds k-means, which comes to rest before that on what it is for.
const lloydSteps = 50

// kMeans are k centres of rows: k-means++ by the seed, then Lloyd's rule. A centre that loses all its rows stays.
func kMeans(rows [][]float64, k int, seed uint64) [][]float64 {
	src := rng.New(seed, rng.Stream("k-means++"))
	centres := [][]float64{slices.Clone(rows[src.Intn(len(rows))])}
	for len(centres) < k {
		weights, all := make([]float64, len(rows)), 0.0
		for i, x := range rows {
			_, weights[i] = closest(x, centres)
			all += weights[i]
		}
		next, at := len(rows)-1, src.Float64()*all
		for i, w := range weights {
			if at -= w; at < 0 {
				next = i
				break
			}
		}
		centres = append(centres, slices.Clone(rows[next]))
	}
	of := make([]int, len(rows))
	for step := range lloydSteps {
		moved := step == 0
		for i, x := range rows {
			c, _ := closest(x, centres)
			moved = moved || c != of[i]
			of[i] = c
		}
		if !moved {
			break
		}
		counts, sums := make([]int, k), make([][]float64, k)
		for c := range sums {
			sums[c] = make([]float64, len(rows[0]))
		}
		for i, x := range rows {
			counts[of[i]]++
			for j, v := range x {
				sums[of[i]][j] += v
			}
		}
		for c, n := range counts {
			for j := range sums[c] {
				if n > 0 {
					centres[c][j] = sums[c][j] / float64(n)
				}
			}
		}
	}
	return centres
}

// chooseSubgroups takes targets of one subgroup for each repeat, in an order drawn by the seed, as many subgroups as there
// are repeats. Each keeps fresh members in the test part, which are what is measured.
func chooseSubgroups(c Config, goal attack.Goal, s *splits, j *judge, surrogates []*verdict, d *division) ([]group, error) {
	count, err := c.poisonCount()
	if err != nil {
		return nil, err
	}
	room, k := s.room(), len(d.names)
	order := rng.New(c.Seed, rng.Stream("candidates")).Perm(s.candidates)
	beliefs, fresh := make([]attack.Belief, s.candidates), make([]int, k)
	for i := range s.test {
		if d.of[i] >= 0 {
			fresh[d.of[i]]++
		}
	}
	members := make([][]target, k)
	for _, i := range order {
		b := belief(surrogates, i, j.labels[i])
		beliefs[i] = b
		g := d.of[i]
		if g < 0 || len(members[g]) == c.Targets || s.copied[i] || !goal.Eligible(b) || !slices.Contains(b.Union(), b.Label) {
			continue
		}
		t, err := newTarget(goal, i, b)
		if err != nil {
			return nil, err
		}
		if c.fits(count, sourcesOf(goal, append(slices.Clone(members[g]), t)), room) {
			members[g] = append(members[g], t)
			if i < s.test {
				fresh[g]--
			}
		}
	}
	var groups []group
	for _, g := range rng.New(c.Seed, rng.Stream("subgroups")).Perm(k) {
		if len(groups) < c.Repeats && len(members[g]) == c.Targets && fresh[g] >= leastFresh {
			groups = append(groups, group{targets: members[g], subgroup: &g})
		}
	}
	if len(groups) < c.Repeats {
		return nil, usage.Errorf("audit: only %d of %d subgroups have %d fair targets for %s and %d other test images, for %d repeats; lower --repeats or --targets, give more candidates, or make fewer subgroups",
			len(groups), k, c.Targets, c.Goal.Name, leastFresh, c.Repeats)
	}
	spare, ok := goal.(attack.Bystander)
	used := map[int]bool{}
	for _, g := range groups {
		for _, t := range g.targets {
			used[t.row] = true
		}
	}
	for g := range groups {
		for _, i := range order {
			if b := beliefs[i]; ok && len(groups[g].bystanders) < bystandersPerTarget*c.Targets && !used[i] && !s.copied[i] &&
				d.of[i] != *groups[g].subgroup && b.Predicted == b.Label && slices.Contains(b.Union(), b.Label) {
				groups[g].bystanders = append(groups[g].bystanders, target{row: i, belief: b, aim: spare.Others(b)})
			}
		}
	}
	return groups, nil
}

// bySubgroup measures a model on the test images that are no targets, subgroup by subgroup.
func (r *run) bySubgroup(v *verdict) []result.PerGroup {
	if r.division == nil {
		return nil
	}
	out := make([]result.PerGroup, len(r.division.names))
	for _, i := range r.tested() {
		if r.division.of[i] < 0 {
			continue
		}
		g, y := &out[r.division.of[i]], r.judge.labels[i]
		g.N++
		g.Size += v.sets.Size(i)
		if v.sets.Has(i, y) {
			g.Covered++
		}
		if v.probs.Top(i) == y {
			g.Correct++
		}
	}
	return out
}

// subgroupsRecord is what the result says of them.
func (r *run) subgroupsRecord() *result.Subgroups {
	if r.division == nil {
		return nil
	}
	g := r.cfg.Subgroups
	s := &result.Subgroups{By: g.By, SHA256: g.SHA256, Names: r.division.names}
	if g.file() {
		s.By = matrix.Base(g.By)
	}
	return s
}
