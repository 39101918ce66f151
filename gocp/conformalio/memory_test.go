package conformalio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/internal/testfiles"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/safetensors"
)

// heap notes the largest heap at each report of progress.
type heap struct{ peak uint64 }

func (h *heap) Phase(string, int) progress.Task { return h }
func (h *heap) Note(string, ...any)             {}
func (h *heap) Detail(string, ...any)           {}
func (h *heap) Done()                           {}

func (h *heap) Add(int) {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	h.peak = max(h.peak, s[0].Value.Uint64())
}

// TestBoundedMemory: calibrate, predict and evaluate go through files of every format in blocks. The
// heap may hold blocks and a few words a row, not the matrix.
func TestBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes files of 30 MiB")
	}
	const n, k = 30000, 250 // 29 MiB in float32, twice that in float64
	const limit = 24 << 20
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(12, 1))
	z, y := make([]float32, n*k), make([]int64, n)
	for i := range z {
		z[i] = float32(r.IntN(64)) / 16
	}
	for i := range y {
		y[i] = r.Int64N(k)
		z[i*k+int(y[i])] += 3
	}
	labels := testfiles.Npy(t, filepath.Join(dir, "y.npy"), npy.Int64(y, n))
	files := map[string]string{"npy": testfiles.Npy(t, filepath.Join(dir, "z.npy"), npy.Float32(z, n, k))}
	at := func(ext string) string {
		files[ext] = filepath.Join(dir, "z."+ext)
		return files[ext]
	}
	if err := (npy.Archive{{Name: "z", Array: npy.Float32(z, n, k)}}).Save(at("npz")); err != nil {
		t.Fatal(err)
	}
	tensors := safetensors.File{Tensors: []safetensors.Tensor{safetensors.FromFloat32("z", z, n, k)}}
	if err := tensors.Save(at("safetensors")); err != nil {
		t.Fatal(err)
	}
	write := func(path string, f func(w io.Writer) error) {
		t.Helper()
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := bufio.NewWriter(file)
		if err := errors.Join(f(w), w.Flush(), file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write(at("csv"), func(w io.Writer) error {
		for i, v := range z {
			end := ','
			if i%k == k-1 {
				end = '\n'
			}
			if _, err := fmt.Fprintf(w, "%g%c", v, end); err != nil {
				return err
			}
		}
		return nil
	})
	write(at("parquet"), func(w io.Writer) error {
		p := parquet.NewGenericWriter[struct {
			Z []float32 `parquet:"z"`
		}](w, parquet.MaxRowsPerRowGroup(5000))
		row := make([]struct {
			Z []float32 `parquet:"z"`
		}, 1)
		for i := range n {
			row[0].Z = z[i*k : (i+1)*k]
			if _, err := p.Write(row); err != nil {
				return err
			}
		}
		return p.Close()
	})
	z = nil
	for ext, file := range files {
		runtime.GC()
		var h heap
		run := Run{Progress: &h, Workers: 2}
		in := Input{File: file, Form: FormLogits}
		peak := func(name string) {
			if h.peak > limit {
				t.Errorf("%s of .%s: a heap of %d MiB", name, ext, h.peak>>20)
			}
			t.Logf("%s of .%s: %d MiB", name, ext, h.peak>>20)
			h.peak = 0
		}
		c, err := CalibrateJob{Run: run, Input: in, Labels: labels, Score: conformal.Variant{Name: "raps", Lambda: 0.01, KReg: 5}, Miscoverage: conformal.MustLevel("0.1")}.Calibrate()
		if err != nil {
			t.Fatal(err)
		}
		peak("calibrate")
		if _, err := (PredictJob{Run: run, Calibration: c, Input: in, Out: filepath.Join(dir, "s.npy")}).Predict(); err != nil {
			t.Fatal(err)
		}
		peak("predict")
		if _, err := (EvaluateJob{Run: run, Calibration: c, Input: in, Labels: labels}).Evaluate(); err != nil {
			t.Fatal(err)
		}
		peak("evaluate")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}
