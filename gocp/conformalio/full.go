package conformalio

import (
	"io"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/usage"
)

// mostClasses bounds what one wrong number could ask for.
const mostClasses = 1 << 16

// FullJob is full conformal prediction on features, with a head that is refit for every candidate.
type FullJob struct {
	Run
	Features     string // of labelled rows
	Labels       string
	Classes      int // number of labels; 0 stands for the largest label and one
	TestFeatures string
	TestLabels   string // optional: with them coverage is measured
	Head         string // ridge (default) or softmax
	Lambda       float64
	Bias         bool
	Score        conformal.HeadScore
	Miscoverage  conformal.Level
	Out          string // as PredictJob.Out; optional with TestLabels
}

// FullResult sums up full conformal prediction.
type FullResult struct {
	Head        string                `json:"head"`
	Lambda      float64               `json:"lambda"`
	Score       conformal.HeadScore   `json:"score"`
	Miscoverage conformal.Level       `json:"miscoverage"`
	N           int                   `json:"n"`
	Test        int                   `json:"test"`
	Features    int                   `json:"features"`
	Labels      int                   `json:"labels"`
	MeanSize    float64               `json:"mean_size"`
	Coverage    *conformal.Proportion `json:"coverage,omitempty"`
	// Steps and Unsettled are those of a softmax head.
	Steps     int    `json:"steps,omitempty"`
	Unsettled int    `json:"unsettled,omitempty"`
	Out       string `json:"out,omitempty"`

	Notes []string `json:"notes,omitempty"`
}

// fullBlock is the number of test rows between two reports of progress.
const fullBlock = 64

// Predict runs the job.
func (j FullJob) Predict() (*FullResult, error) {
	x, n, d, err := features(j.Run, j.Features)
	if err != nil {
		return nil, err
	}
	test, m, td, err := features(j.Run, j.TestFeatures)
	if err != nil {
		return nil, err
	}
	if td != d {
		return nil, usage.Errorf("%s: rows of %d features; %s has %d", j.TestFeatures, td, j.Features, d)
	}
	labels, err := matrix.Ints(j.Labels, matrix.Options{Header: j.Header, Rows: n})
	if err != nil {
		return nil, err
	}
	k := j.Classes
	if k == 0 {
		for _, y := range labels {
			k = max(k, y+1)
		}
	}
	if k > mostClasses {
		return nil, usage.Errorf("%d labels are more than the %d that full conformal prediction is for: every one is tried for every sample", k, mostClasses)
	}
	if labels, err = j.labels(j.Labels, n, k); err != nil {
		return nil, err
	}
	var truth []int
	if j.TestLabels != "" {
		if truth, err = j.labels(j.TestLabels, m, k); err != nil {
			return nil, err
		}
	} else if j.Out == "" {
		return nil, usage.Errorf("there is nowhere to write the sets and there are no labels to judge them by")
	}
	var write writer
	if j.Out != "" {
		if write, err = setWriter(j.Out, m, k); err != nil {
			return nil, err
		}
	}
	out := &FullResult{Head: j.Head, Lambda: j.Lambda, Score: j.Score, Miscoverage: j.Miscoverage, N: n, Test: m, Features: d, Labels: k, Out: j.Out}
	if n < j.Miscoverage.MinCalibration() {
		out.Notes = append(out.Notes, tooFew(n, "labelled samples", j.Miscoverage))
	}
	if out.Score == "" {
		out.Score = conformal.Residual
	}
	var predict func(x []float64, m int) (*conformal.Sets, error)
	switch j.Head {
	case "", "ridge":
		out.Head = "ridge"
		h, err := conformal.NewFullRidge(x, n, d, labels, k, conformal.RidgeOptions{Lambda: j.Lambda, Bias: j.Bias, Score: j.Score})
		if err != nil {
			return nil, usage.Wrap(err)
		}
		predict = func(x []float64, m int) (*conformal.Sets, error) {
			r, err := h.Predict(x, m, j.Miscoverage)
			if err != nil {
				return nil, err
			}
			return r.Sets, nil
		}
	case "softmax":
		h, err := conformal.NewFullSoftmax(x, n, d, labels, k, conformal.SoftmaxOptions{Lambda: j.Lambda, Bias: j.Bias, Score: j.Score})
		if err != nil {
			return nil, usage.Wrap(err)
		}
		predict = func(x []float64, m int) (*conformal.Sets, error) {
			r, err := h.Predict(x, m, j.Miscoverage)
			if err != nil {
				return nil, err
			}
			out.Steps += r.Steps
			out.Unsettled += r.Unsettled
			return r.Sets, nil
		}
	default:
		return nil, usage.Errorf("unknown head %q: known are ridge, softmax", j.Head)
	}
	task := progress.Or(j.Progress).Phase("test rows", m)
	defer task.Done()
	in := 0
	blocks := func(emit func(first int, sets *conformal.Sets) error) error {
		for first := 0; first < m; first += fullBlock {
			if j.Context != nil && j.Context.Err() != nil {
				return j.Context.Err()
			}
			size := min(fullBlock, m-first)
			sets, err := predict(test[first*d:(first+size)*d], size)
			if err != nil {
				return err
			}
			for i := range size {
				out.MeanSize += float64(sets.Size(i)) / float64(m)
				if truth != nil && sets.Has(i, truth[first+i]) {
					in++
				}
			}
			if err := emit(first, sets); err != nil {
				return err
			}
			task.Add(size)
		}
		return nil
	}
	if j.Out == "" {
		err = blocks(func(int, *conformal.Sets) error { return nil })
	} else {
		err = atomicfile.Write(j.Out, func(w io.Writer) error {
			if err := write.head(w); err != nil {
				return err
			}
			return blocks(func(first int, sets *conformal.Sets) error { return write.sets(w, first, sets) })
		})
	}
	if err != nil {
		return nil, err
	}
	if truth != nil {
		p := conformal.NewProportion(in, m, conformal.Confidence)
		out.Coverage = &p
	}
	return out, nil
}

func features(run Run, name string) (x []float64, n, d int, err error) {
	m, err := matrix.Open(name, run.options())
	if err != nil {
		return nil, 0, 0, err
	}
	defer m.Close()
	x, err = m.All()
	return x, m.N, m.K, err
}
