package cases

import (
	"context"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
)

// Each fault that a check is there for is seeded, and found.
func TestChecksFindFaults(t *testing.T) {
	d := testkit.Open(t)
	if d.Info().Checked {
		t.Skip("the checked engine finds an overrun first")
	}
	base, _ := find(t, "SoftmaxXent")
	sh := Dims(5, 7)
	faults := []struct {
		name, want string
		seed       func(p *Problem)
	}{
		{"none", "", func(p *Problem) {}},
		{"overrun", "outside its", func(p *Problem) {
			run := p.Run
			p.Run = func(s *device.Stream, b *Bound) {
				run(s, b)
				kernel.UniformNoise(s, 1, 1, 1, b.Ptr(p.buffers[2]), 6)
			}
		}},
		{"input", "an input was written", func(p *Problem) {
			run := p.Run
			p.Run = func(s *device.Stream, b *Bound) {
				run(s, b)
				kernel.UniformNoise(s, 1, 1, 1, b.Ptr(p.buffers[0]), 1)
			}
		}},
		{"unwritten", "NaN", func(p *Problem) { p.Run = func(*device.Stream, *Bound) {} }},
		{"reference", "against float64", func(p *Problem) {
			ref := p.Ref
			p.Ref = func(v *Values) { ref(v); v.F(p.buffers[2])[3] *= 1 + 1e-4 }
		}},
		{"gradient", "gradient dz", func(p *Problem) {
			of := p.Gradients[0].Of
			p.Gradients[0].Of = func(v *Values) float64 { return of(v) * (1 + 1e-4) }
		}},
		{"tangent", "dz's tangent", func(p *Problem) {
			run := p.Run
			p.Run = func(s *device.Stream, b *Bound) {
				run(s, b)
				if dz := b.Tensor(p.buffers[3]); dz.T != 0 {
					kernel.UniformNoise(s, 1, 1, 1, dz.T, 1)
				}
			}
		}},
		{"symmetry", "symmetry of dz", func(p *Problem) {
			run := p.Run
			p.Run = func(s *device.Stream, b *Bound) {
				run(s, b)
				if dz := b.Tensor(p.buffers[3]); dz.T != 0 {
					kernel.UniformNoise(s, 1, 1, 1, dz.T, 1)
				}
			}
		}},
		{"bits", "other bits", func(p *Problem) {
			run, seed := p.Run, uint64(0)
			p.Run = func(s *device.Stream, b *Bound) {
				run(s, b)
				seed++
				kernel.UniformNoise(s, seed, 1, 1, b.Ptr(p.buffers[2]), 1)
			}
		}},
	}
	for _, f := range faults {
		c := base
		c.New = func(sh Shape, r *Rand) *Problem {
			p := base.New(sh, r)
			f.seed(p)
			return p
		}
		err := Check(context.Background(), d, c, sh)
		switch {
		case f.want == "" && err != nil:
			t.Errorf("without a fault: %v", err)
		case f.want != "" && (err == nil || !strings.Contains(err.Error(), f.want)):
			t.Errorf("fault %q is not found: %v", f.name, err)
		}
	}
}

func find(t *testing.T, name string) (Case, Shape) {
	t.Helper()
	for _, c := range All() {
		if c.Name == name {
			return c, c.Tests[0]
		}
	}
	t.Fatalf("no case %s", name)
	return Case{}, Shape{}
}

// A row of every case comes out whole; the smallest shape of each is enough here.
func TestBench(t *testing.T) {
	d := testkit.Open(t)
	c, _ := find(t, "Softmax")
	rows, err := Bench(context.Background(), d, c, Dims(7, 13))
	if err != nil || len(rows) != 2 {
		t.Fatalf("rows %v, %v", rows, err)
	}
	for _, r := range rows {
		if r.Median <= 0 || r.P99 < r.Median || r.Wrong != 0 || r.Runs < minRuns || !strings.HasPrefix(r.GoBench(), "BenchmarkKernel/Softmax/") {
			t.Errorf("row %+v", r)
		}
	}
}
