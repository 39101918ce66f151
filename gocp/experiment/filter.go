package experiment

import (
	"cmp"
	"encoding/csv"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/checkpoint"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/conformalio"
	"github.com/gocp/gocp/gocp/defense"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

// FilterJob asks filters which samples of a training set look poisoned. What a model makes of the
// samples comes from files, or from a model of ours on images.
type FilterJob struct {
	defense.Run

	Features, Labels string // files
	Logits           string // file, or empty; for the losses
	Header           string // of text files, as in matrix.Options
	Pixels           string // file of the images, 8-bit [N,H,W,C], for Picture; or empty

	Model   string          // file, instead of those
	Said    checkpoint.Said // what it does not say
	Images  Pick
	Threads int

	Methods []string        // empty: all that the inputs allow
	Budget  conformal.Level // share of the samples to reckon with as poisons
	Options defense.Options // but for Poisons, which follows from Budget
	Known   string          // file of the positions of poisons, or empty
}

// Filtered is what came of a FilterJob.
type Filtered struct {
	result.Filtered
	Images  *Pick                `json:"images,omitempty"`
	Sources []conformalio.Source `json:"sources,omitempty"`

	pick   *picked
	pixels attack.Images // without labels
}

// Filter runs j.
func (j FilterJob) Filter() (*Filtered, error) {
	out := &Filtered{}
	set, err := j.read(out)
	if err != nil {
		return nil, err
	}
	n := set.Len()
	known, err := j.known(out, n)
	if err != nil {
		return nil, err
	}
	if out.Sources, err = j.sources(); err != nil {
		return nil, err
	}
	j.Options.Poisons = int(math.Ceil(j.Budget.Float()*float64(n) - 1e-9))
	out.Samples, out.Columns, out.Poisons = n, set.D, j.Options.Poisons
	if err := set.Check(); err != nil {
		return nil, err
	}
	for _, y := range set.Labels {
		for y >= len(out.Classes) {
			out.Classes = append(out.Classes, 0)
		}
		out.Classes[y]++
	}
	methods := j.Methods
	if len(methods) == 0 {
		for _, f := range defense.Filters {
			if f.Reads == defense.ReadsFeatures || set.Losses != nil {
				methods = append(methods, f.Name)
			}
		}
	}
	for _, name := range methods {
		f, err := defense.Lookup(name)
		if err != nil {
			return nil, err
		}
		if f.Reads == defense.ReadsLosses && set.Losses == nil {
			return nil, usage.Errorf("%s reads losses, which come from logits or a model", name)
		}
		v, err := f.Apply(j.Run, set, j.Options)
		if err != nil {
			return nil, err
		}
		out.Methods = append(out.Methods, out.by(f, v, set, known))
	}
	return out, nil
}

// by puts a verdict in order.
func (r *Filtered) by(f defense.Filter, v *defense.Verdict, set *defense.Set, known []bool) result.FilteredBy {
	b := result.FilteredBy{Method: v.Method, Source: f.Source, Says: v.Says, ByClass: make([]int, len(r.Classes))}
	for i, dropped := range v.Dropped {
		if dropped {
			b.ByClass[set.Labels[i]]++
			b.Flagged = append(b.Flagged, result.Flagged{Sample: r.position(i), Label: set.Labels[i], Score: v.Scores[i], Reason: v.Reasons[i]})
		}
	}
	slices.SortFunc(b.Flagged, func(x, y result.Flagged) int {
		return cmp.Or(cmp.Compare(y.Score, x.Score), cmp.Compare(x.Sample, y.Sample))
	})
	for i := range b.Flagged {
		b.Flagged[i].Rank = i + 1
	}
	if known == nil {
		return b
	}
	k := &result.Found{}
	for i, poison := range known {
		switch {
		case poison && v.Dropped[i]:
			k.PoisonsDropped++
			k.Poisons++
		case poison:
			k.Poisons++
		case v.Dropped[i]:
			k.CleanDropped++
		}
	}
	if n := k.PoisonsDropped + k.CleanDropped; n > 0 {
		k.Precision = float64(k.PoisonsDropped) / float64(n)
	}
	k.Recall = float64(k.PoisonsDropped) / float64(k.Poisons)
	k.ROC, k.AUC = defense.ROC(v.Scores, known)
	b.Known = k
	return b
}

// position is where sample i lies in the split of its data set.
func (r *Filtered) position(i int) int {
	if r.pick != nil {
		return r.pick.Index[i]
	}
	return i
}

// Picture is sample number `sample` as 8-bit pixels [h,w,c], where there are images.
func (r *Filtered) Picture(sample int) (pixels []uint8, h, w, c int, ok bool) {
	switch p := r.pixels; {
	case r.pick != nil:
		return r.pick.set.Image(sample), r.pick.H, r.pick.W, r.pick.C, true
	case p.Pixels != nil:
		size := p.H * p.W * p.C
		return p.Pixels[sample*size : (sample+1)*size], p.H, p.W, p.C, true
	}
	return nil, 0, 0, 0, false
}

// read makes the set.
func (j FilterJob) read(out *Filtered) (*defense.Set, error) {
	if j.Model != "" {
		return j.ask(out)
	}
	set := &defense.Set{}
	var err error
	if set.Features, set.D, err = j.matrix(j.Features, 0); err != nil {
		return nil, err
	}
	n := len(set.Features) / set.D
	labels, err := matrix.Ints(j.Labels, matrix.Options{Header: j.Header, Rows: n})
	if err != nil {
		return nil, err
	}
	if len(labels) != n {
		return nil, usage.Errorf("%s has %d rows, %s has %d labels; they must be as many", j.Features, n, j.Labels, len(labels))
	}
	set.Labels = labels
	if j.Pixels != "" {
		if out.pixels, err = pictures(j.Pixels, len(labels)); err != nil {
			return nil, err
		}
	}
	if j.Logits == "" {
		return set, nil
	}
	logits, k, err := j.matrix(j.Logits, len(labels))
	if err != nil {
		return nil, err
	}
	set.Losses, err = losses(logits, labels, k, j.Logits)
	return set, err
}

// sources are the files that were read.
func (j FilterJob) sources() (out []conformalio.Source, err error) {
	for _, f := range []struct{ role, name string }{{"features", j.Features}, {"labels", j.Labels}, {"logits", j.Logits}, {"images", j.Pixels}, {"poisons", j.Known}} {
		if f.name == "" {
			continue
		}
		sum, err := matrix.Hash(j.Context, f.name)
		if err != nil {
			return nil, err
		}
		out = append(out, conformalio.Source{Role: f.role, Name: matrix.Base(f.name), SHA256: sum})
	}
	return out, nil
}

// pictures reads n images.
func pictures(name string, n int) (attack.Images, error) {
	a, err := npy.Load(name)
	if err != nil {
		return attack.Images{}, usage.Wrap(err)
	}
	s := a.Shape
	if a.Type != "u1" || len(s) != 4 || s[0] != n || s[3] != 1 && s[3] != 3 {
		return attack.Images{}, usage.Errorf("%s is an array %v of type %s; images are %d × height × width × 1 or 3 of type u1", name, s, a.Type, n)
	}
	return attack.Images{H: s[1], W: s[2], C: s[3], Pixels: a.Data}, nil
}

// matrix reads n rows of finite numbers, or all if n is 0.
func (j FilterJob) matrix(name string, n int) (x []float32, k int, err error) {
	m, err := matrix.Open(name, matrix.Options{Header: j.Header, Rows: n})
	if err != nil {
		return nil, 0, err
	}
	defer m.Close()
	if n == 0 {
		n = m.N
	}
	if m.N != n {
		return nil, 0, usage.Errorf("%s has %d rows, %s has %d; they must be as many", name, m.N, j.Features, n)
	}
	const rows = 1 << 12
	x = make([]float32, n*m.K)
	block := make([]float64, min(rows, n)*m.K)
	for at := 0; at < n; at += rows {
		if err := j.Context.Err(); err != nil {
			return nil, 0, err
		}
		part := block[:min(rows, n-at)*m.K]
		if err := m.Read(part, at); err != nil {
			return nil, 0, usage.Wrap(err)
		}
		for i, v := range part {
			f := float32(v)
			if f64 := float64(f); math.IsNaN(f64) || math.IsInf(f64, 0) {
				return nil, 0, usage.Errorf("%s: row %d, column %d is %v; numbers must be finite, and below 3.4e38", name, at+i/m.K, i%m.K, v)
			}
			x[at*m.K+i] = f
		}
	}
	return x, m.K, nil
}

// ask makes the set of a model's answers.
func (j FilterJob) ask(out *Filtered) (*defense.Set, error) {
	q, err := newQuestion(j.Model, j.Said, j.Images)
	if err != nil {
		return nil, err
	}
	x, err := q.ask(j.Context, j.Device, "f32", j.Threads)
	if err != nil {
		return nil, err
	}
	j.Images.Split = q.set.Name
	out.Model, out.Images, out.Names, out.pick = q.sum, &j.Images, q.Classes, &q.picked
	set := &defense.Set{Features: x.Features, D: q.model.NumFeatures(), Labels: ints(q.Labels)}
	set.Losses, err = losses(x.Logits, set.Labels, len(q.Classes), j.Model)
	return set, err
}

// losses are the cross entropies of logits [n,k].
func losses(logits []float32, labels []int, k int, name string) ([]float64, error) {
	out := make([]float64, len(labels))
	for i, y := range labels {
		if y < 0 || y >= k {
			return nil, usage.Errorf("the label of sample %d is %d; %s has logits of %d classes", i, y, name, k)
		}
		row := logits[i*k : (i+1)*k]
		top, sum := float64(slices.Max(row)), 0.0
		for _, z := range row {
			sum += math.Exp(float64(z) - top)
		}
		out[i] = math.Log(sum) + top - float64(row[y])
	}
	return out, nil
}

// known marks the poisons, if a file tells them.
func (j FilterJob) known(out *Filtered, n int) ([]bool, error) {
	if j.Known == "" {
		return nil, nil
	}
	at, err := matrix.Ints(j.Known, matrix.Options{Header: j.Header})
	if err != nil {
		return nil, err
	}
	where := map[int]int{}
	for i := range n {
		where[out.position(i)] = i
	}
	marks := make([]bool, n)
	for row, p := range at {
		i, ok := where[p]
		switch {
		case !ok:
			return nil, usage.Errorf("%s: row %d is %d, which is no position of a sample; it holds those of poisons, from 0", j.Known, row, p)
		case marks[i]:
			return nil, usage.Errorf("%s: row %d names sample %d a second time", j.Known, row, p)
		}
		marks[i] = true
	}
	if len(at) == n {
		return nil, usage.Errorf("%s: all %d samples are poisons", j.Known, n)
	}
	return marks, nil
}

// WriteCSV writes the flagged samples of all filters.
func (r *Filtered) WriteCSV(name string) error {
	return atomicfile.Write(name, func(w io.Writer) error {
		c := csv.NewWriter(w)
		rows := [][]string{{"sample", "label", "method", "rank", "score", "reason"}}
		for _, m := range r.Methods {
			for _, f := range m.Flagged {
				rows = append(rows, []string{strconv.Itoa(f.Sample), strconv.Itoa(f.Label), m.Method, strconv.Itoa(f.Rank), strconv.FormatFloat(f.Score, 'g', -1, 64), f.Reason})
			}
		}
		return c.WriteAll(rows)
	})
}
