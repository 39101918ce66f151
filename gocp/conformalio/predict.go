package conformalio

import (
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/matrix"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/usage"
)

// PredictJob writes the sets of rows.
type PredictJob struct {
	Run
	Calibration *Calibration
	Input       Input
	Groups      string
	// Out ends in .npy (uint8, N × K), .jsonl ({"row":0,"set":[3,5]}) or .csv (row,size,labels).
	Out string
}

// Predicted sums up the sets that were written.
type Predicted struct {
	N         int     `json:"n"`
	MeanSize  float64 `json:"mean_size"`
	Empty     int     `json:"empty"`
	Singleton int     `json:"singleton"`
	Filled    int     `json:"filled"`
	Out       string  `json:"out"`
	// Notes are those of the threshold and of these rows.
	Notes []string `json:"notes,omitempty"`
}

// open checks an input against the calibration.
func (c *Calibration) open(run Run, in Input) (table, error) {
	if in.Form != c.Form {
		return table{}, usage.Errorf("%s: these are %s, the threshold is for %s", in.File, in.Form, c.Form)
	}
	t, err := run.open(in)
	if err != nil {
		return t, err
	}
	if t.m.K != c.Thresholds.K {
		t.m.Close()
		return t, usage.Errorf("%s: rows of %d labels; the threshold is for %d", in.File, t.m.K, c.Thresholds.K)
	}
	for _, s := range c.Sources {
		if a, b := slices.Sorted(slices.Values(s.Columns)), slices.Sorted(slices.Values(t.m.Columns)); len(a) > 0 && slices.Equal(a, b) && !slices.Equal(s.Columns, t.m.Columns) {
			t.m.Close()
			return t, usage.Errorf("%s: its columns are those of %s in another order, and the place of a column is its label; name them in their order, as FILE:A,B,C", in.File, s.Name)
		}
	}
	t.temperature = c.Temperature
	return t, nil
}

// Predict runs the job.
func (j PredictJob) Predict() (*Predicted, error) {
	c := j.Calibration
	t, err := c.open(j.Run, j.Input)
	if err != nil {
		return nil, err
	}
	defer t.m.Close()
	groups, err := j.groups(j.Groups, t.m.N)
	if err != nil {
		return nil, err
	}
	if (groups == nil) == (c.Thresholds.Conditioning.By == conformal.ByGroup) {
		return nil, usage.Errorf("groups are needed exactly when the threshold is conditioned by group")
	}
	write, err := setWriter(j.Out, t.m.N, t.m.K)
	if err != nil {
		return nil, err
	}
	scorer, err := conformal.NewScorer(c.Score)
	if err != nil {
		return nil, usage.Wrap(err)
	}
	out := &Predicted{N: t.m.N, Out: j.Out, Notes: append(c.known(), c.unseenGroups(groups)...)}
	err = atomicfile.Write(j.Out, func(w io.Writer) error {
		if err := write.head(w); err != nil {
			return err
		}
		o, task := j.stream("sets", t.m.N, c.Seed)
		defer task.Done()
		return scorer.PredictTable(t, c.Thresholds, groups, o, func(first int, sets *conformal.Sets) error {
			for i := range sets.N {
				size := sets.Size(i)
				out.MeanSize += float64(size)
				switch size {
				case 0:
					out.Empty++
				case 1:
					out.Singleton++
				}
			}
			out.Filled += sets.Filled
			return write.sets(w, first, sets)
		})
	})
	if err != nil {
		return nil, t.named(err)
	}
	t.sums.say(j.Progress, matrix.Base(j.Input.File))
	out.MeanSize /= float64(max(1, out.N))
	return out, nil
}

type writer struct {
	head func(w io.Writer) error
	sets func(w io.Writer, first int, sets *conformal.Sets) error
}

// spread8 has the bits of a byte as bytes of 0 and 1, the first one lowest.
var spread8 = func() (out [256]uint64) {
	for b := range out {
		for i := range 8 {
			out[b] |= uint64(b>>i&1) << (8 * i)
		}
	}
	return out
}()

// setWriter chooses the format by the ending of a name.
func setWriter(out string, n, k int) (writer, error) {
	var line []byte
	switch ext := strings.ToLower(filepath.Ext(out)); ext {
	case ".npy":
		return writer{
			head: func(w io.Writer) error { return npy.WriteHeader(w, "u1", n, k) },
			sets: func(w io.Writer, _ int, sets *conformal.Sets) error {
				for i := range sets.N {
					line = line[:0]
					for _, word := range sets.Bits(i) {
						for ; len(line)%64 != 56; word >>= 8 {
							line = binary.LittleEndian.AppendUint64(line, spread8[word&255])
						}
						line = binary.LittleEndian.AppendUint64(line, spread8[word&255])
					}
					line = line[:k]
					if _, err := w.Write(line); err != nil {
						return err
					}
				}
				return nil
			},
		}, nil
	case ".jsonl", ".csv":
		before, between, after := `{"row":%d,"size":%d,"set":[`, byte(','), "]}\n"
		head := ""
		if ext == ".csv" {
			head, before, between, after = "row,size,labels\n", "%d,%d,", ' ', "\n"
		}
		return writer{
			head: func(w io.Writer) error { _, err := io.WriteString(w, head); return err },
			sets: func(w io.Writer, first int, sets *conformal.Sets) error {
				for i := range sets.N {
					labels := sets.Labels(i)
					line = fmt.Appendf(line[:0], before, first+i, len(labels))
					for j, y := range labels {
						if j > 0 {
							line = append(line, between)
						}
						line = strconv.AppendInt(line, int64(y), 10)
					}
					if _, err := w.Write(append(line, after...)); err != nil {
						return err
					}
				}
				return nil
			},
		}, nil
	}
	return writer{}, usage.Errorf("%s: sets are written as .npy, .jsonl or .csv", out)
}
