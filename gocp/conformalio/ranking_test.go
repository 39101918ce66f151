package conformalio

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/progress"
)

// manyRows writes n rows of two logits, multiples of step, and their labels.
func manyRows(t *testing.T, dir string, n int, step float64) (logits, labels string) {
	t.Helper()
	r := rand.New(rand.NewPCG(13, 1))
	write := func(name, kind string, shape []int, row func(b []byte) []byte) string {
		path := filepath.Join(dir, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := bufio.NewWriter(f)
		err = npy.WriteHeader(w, kind, shape...)
		var b []byte
		for range n {
			b = row(b[:0])
			w.Write(b) // an error stays for Flush
		}
		if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
			t.Fatal(err)
		}
		return path
	}
	logits = write("z.npy", "f4", []int{n, 2}, func(b []byte) []byte {
		for range 2 {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(math.Round(3*r.NormFloat64()/step)*step)))
		}
		return b
	})
	return logits, write("y.npy", "u1", []int{n}, func(b []byte) []byte { return append(b, byte(r.IntN(2))) })
}

// TestRankingMemory: a calibration takes 8 bytes a sample for the scores and 8 for the labels, and 4 for
// cells; hardly more, even where many scores tie and are computed again.
func TestRankingMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("goes through four million rows")
	}
	const n = 4 << 20
	allocated := func() uint64 {
		s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	for name, step := range map[string]float64{"different": 1e-6, "tied": 1} {
		logits, labels := manyRows(t, t.TempDir(), n, step)
		for by, limit := range map[conformal.Condition]float64{conformal.Marginal: 22, conformal.ByClass: 28} {
			before := allocated()
			c, err := CalibrateJob{Run: Run{Workers: 2}, Input: Input{logits, FormLogits}, Labels: labels, Score: conformal.Variant{Name: "hps"},
				Miscoverage: conformal.MustLevel("0.1"), Conditioning: conformal.Conditioning{By: by}}.Calibrate()
			if err != nil {
				t.Fatal(err)
			}
			each := float64(allocated()-before) / n
			t.Logf("%s scores by %s: %.1f bytes a sample in all; %d tie at τ", name, by, each, c.Thresholds.Ties)
			if each > limit {
				t.Errorf("%s scores by %s: %.1f bytes a sample, at most %g", name, by, each, limit)
			}
		}
	}
}

// lastRow cancels as soon as all rows have been reported.
type lastRow struct {
	progress.Reporter
	cancel context.CancelFunc
	left   int
}

func (l *lastRow) Phase(string, int) progress.Task { return l }
func (l *lastRow) Detail(string, ...any)           {}
func (l *lastRow) Done()                           {}

func (l *lastRow) Add(n int) {
	if l.left -= n; l.left == 0 {
		l.cancel()
	}
}

// TestRankingIsInterrupted: who interrupts after the last row was read is heard, before the scores are
// ranked and before the file is hashed to its end.
func TestRankingIsInterrupted(t *testing.T) {
	const n = 200000
	logits, labels := manyRows(t, t.TempDir(), n, 1e-3)
	for _, v := range []conformal.Variant{{Name: "hps"}, {Name: "aps", U: conformal.DrawSample}, {Name: "margin"}} {
		ctx, cancel := context.WithCancel(context.Background())
		_, err := CalibrateJob{Run: Run{Context: ctx, Progress: &lastRow{progress.Or(nil), cancel, n}}, Input: Input{logits, FormLogits}, Labels: labels,
			Score: v, Miscoverage: conformal.MustLevel("0.1")}.Calibrate()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", v, err)
		}
		cancel()
	}
}
