package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/kernel/cases"
	"github.com/gocp/gocp/gocp/usage"
)

// Bounds are positive, no faster GPU has a longer one, and a step takes at least as long as its
// convolutions.
func TestRoofline(t *testing.T) {
	gpus := GPUs()
	for i, rate := range []func(*GPU){
		func(g *GPU) { g.Memory *= 2 }, func(g *GPU) { g.FP32 *= 2 }, func(g *GPU) { g.TF32 *= 2 }, func(g *GPU) { g.BF16 *= 2 },
	} {
		faster := gpus[0]
		rate(&faster)
		faster.Name = string(rune('a' + i))
		gpus = append(gpus, faster)
	}
	for _, group := range Groups() {
		rows := Roofline(gpus, group)
		if len(rows) == 0 {
			t.Errorf("no rows of %s", group)
		}
		for _, r := range rows {
			if !(r.Bytes > 0) || !(r.FLOPs >= 0) || len(r.Bounds) != len(gpus) {
				t.Fatalf("row %+v", r)
			}
			for i, b := range r.Bounds {
				if !(b.Seconds > 0) || math.IsInf(b.Seconds, 0) || b.Limit != "memory" && b.Limit != "arithmetic" {
					t.Errorf("%s %s %s: %+v", r.Name, r.Shape, r.Precision, b)
				}
				if r.Group == GroupStep && !(b.Convs > 0 && b.Convs < b.Seconds) {
					t.Errorf("%s %s: %g s, its convolutions %g s", r.Name, r.Shape, b.Seconds, b.Convs)
				}
				if i >= len(GPUs()) && b.Seconds > r.Bounds[0].Seconds {
					t.Errorf("%s %s on a faster GPU: %g s, before %g s", r.Name, r.Shape, b.Seconds, r.Bounds[0].Seconds)
				}
			}
			if b := r.Bounds; r.Group == GroupLayer && !(b[3].Seconds < b[2].Seconds && b[2].Seconds <= b[1].Seconds && b[1].Seconds < b[0].Seconds) {
				t.Errorf("%s %s: A100, H100, H200, B200: %+v", r.Name, r.Precision, b[:4])
			}
		}
	}
}

// The numbers of one layer, by hand: 2·128·56²·64·64·9 operations less those on the padding, and
// 128·56²·64 floats in and out.
func TestRooflineOfALayer(t *testing.T) {
	for _, r := range Roofline(GPUs(), GroupLayer) {
		if r.Name != "layer1 forward" || r.Precision != "tf32" {
			continue
		}
		flops, bytes := 2*128*64*64*math.Pow(3*56-2, 2), 4*float64(2*128*56*56*64+9*64*64)
		if r.FLOPs != flops || r.Bytes != bytes {
			t.Errorf("%g FLOPs, %g bytes; want %g, %g", r.FLOPs, r.Bytes, flops, bytes)
		}
		if b := r.Bounds[0]; b.Seconds != flops/156e12 || b.Limit != "arithmetic" || b.Seconds < bytes/2039e9 {
			t.Errorf("A100: %+v, want %g s", b, flops/156e12)
		}
		return
	}
	t.Error("no row of layer1 forward in tf32")
}

// Operations without the padding are those that a loop over the output meets, and so are the pixels.
func TestLeastFLOPs(t *testing.T) {
	for _, g := range []kernel.Conv{
		{N: 2, H: 5, W: 7, C: 3, K: 4, R: 3, S: 3, Stride: 1, Pad: 1}, {N: 1, H: 9, W: 8, C: 1, K: 2, R: 5, S: 4, Stride: 2, Pad: 2},
		{N: 1, H: 1, W: 1, C: 2, K: 2, R: 3, S: 3, Stride: 1, Pad: 1}, {N: 3, H: 4, W: 4, C: 2, K: 1, R: 1, S: 1, Stride: 3},
	} {
		n := 0
		for oy := range g.OutH() {
			for ox := range g.OutW() {
				for r := range g.R {
					for s := range g.S {
						if y, x := oy*g.Stride+r-g.Pad, ox*g.Stride+s-g.Pad; y >= 0 && y < g.H && x >= 0 && x < g.W {
							n += 2 * g.N * g.K * g.C
						}
					}
				}
			}
		}
		seen := map[int]bool{}
		for o := range g.OutH() * g.OutW() {
			for tap := range g.R * g.S {
				if y, x := o/g.OutW()*g.Stride+tap/g.S-g.Pad, o%g.OutW()*g.Stride+tap%g.S-g.Pad; y >= 0 && y < g.H && x >= 0 && x < g.W {
					seen[y*g.W+x] = true
				}
			}
		}
		if want := g.N * g.C * len(seen); g.LeastIn() != want {
			t.Errorf("%+v: %d elements of the input are read, want %d", g, g.LeastIn(), want)
		}
		if g.LeastFLOPs() != n || g.FLOPs() < n {
			t.Errorf("%+v: %d operations, %d with the padding; want %d", g, g.LeastFLOPs(), g.FLOPs(), n)
		}
	}
}

func TestRooflineOutput(t *testing.T) {
	rows := Roofline(GPUs(), GroupStep)
	var table bytes.Buffer
	if err := RooflineTable(&table, GPUs(), rows); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{BoundNote, "A100 80GB SXM: 2,039 GB/s", "H200 SXM: 4.8 TB/s", "B200 µs ≥", "28x28x1-w32"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in\n%s", want, table.String())
		}
	}
	raw, err := json.Marshal(rows[0])
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"group", "name", "shape", "precision", "bytes", "flops", "bounds"} {
		if _, ok := fields[want]; !ok {
			t.Errorf("no field %q in %s", want, raw)
		}
	}
}

// The committed table is whole, and what is touched is at least what must be.
func TestCounts(t *testing.T) {
	counts, err := Counts()
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := WriteCounts(&again, counts); err != nil {
		t.Fatal(err)
	}
	if back, err := readCounts(&again); err != nil || !reflect.DeepEqual(back, counts) {
		t.Errorf("written and read again: %v, %v", back, err)
	}
	for _, c := range counts {
		if c.Launches < 1 || !(c.Instructions > 0) || !(c.Least > 0) {
			t.Errorf("%+v", c)
		}
	}
	if err := CountTable(&again, counts); err != nil {
		t.Error(err)
	}
}

// On the emulator a kernel that reads its operands once and writes its result once is counted so;
// elsewhere the refusal is one sentence.
func TestEmulated(t *testing.T) {
	d := testkit.Open(t)
	file := filepath.Join(t.TempDir(), "counts")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(CountsFile, file)
	sgd := cases.Case{}
	for _, c := range cases.All() {
		if c.Name == "SGD" {
			sgd = c
		}
	}
	sgd.Benches = []cases.Shape{cases.Dims(4096, 1, 0)}
	var got []Count
	err := Emulated(context.Background(), d, []cases.Case{sgd}, func(c Count) error { got = append(got, c); return nil })
	if d.Info().Backend != "cuda" || os.Getenv("GOCP_LIBCUDA") == "" {
		if !usage.Is(err) {
			t.Errorf("no emulator: %v", err)
		}
		return
	}
	if err != nil || len(got) != 1 || got[0].Launches != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	// Every thread asks for the learning rate too, which is one sector.
	if c := got[0]; c.Written != 8*4096 || !(c.Requested() >= 1 && c.Requested() < 1.3) || math.Abs(c.Distinct()-1) > 0.01 {
		t.Errorf("%+v: asked for %g of what must move, touched %g", c, c.Requested(), c.Distinct())
	}
}
