package attack

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/usage"
)

// several are surrogates of two kinds, one of them with batch norm, and poisons that are n chunks.
func several(t *testing.T, s *device.Stream, cfg Config, chunks int) *Solver {
	t.Helper()
	p := task(t, false)
	other := task(t, true).Surrogates[0]
	m, err := nn.New(nn.Spec{Arch: "resnet18", Width: 2, Stem: nn.StemCIFAR, Classes: 4, C: 1, H: 12, W: 12, Mean: []float64{.5}, Std: []float64{.25}}.WithDefaults(), 5)
	if err != nil {
		t.Fatal(err)
	}
	other.Model, other.Name = m, "deep"
	p.Surrogates, p.Count = append(p.Surrogates, other), 11
	v, err := NewSolver(s, p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	v.chunk = (p.Count + chunks - 1) / chunks
	return v
}

// Poisons are the same to the bit whether all activations are kept, some or none, and what is on the
// device stays inside of the limit.
func TestMemory(t *testing.T) {
	const chunks = 4
	for name, cfg := range map[string]Config{
		"sum":             {Align: AlignSum},
		"poison, shifted": {Align: AlignPoison, Shift: 2, Flip: true, Restarts: 2},
		"batch":           {Align: AlignBatch, Batch: 3},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Steps = 4
			onDevice(t, func(s *device.Stream) error {
				v := several(t, s, cfg, chunks)
				if cfg.Align == AlignBatch {
					v.chunk = cfg.Batch
				}
				bases, err := v.Bases()
				if err != nil {
					return err
				}
				before := s.InUse()
				var said []string
				v.p.Memory.Note = func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
				free := s.Scope()
				whole, err := v.newLoop(v.p.Pool.Select(bases))
				if err != nil {
					return err
				}
				k := len(whole.slots.all)
				if want := map[bool]int{true: 1, false: chunks}[cfg.Align == AlignBatch]; k != want || len(whole.chunks) != chunks {
					t.Fatalf("%d chunks have memory for %d, want %d", len(whole.chunks), k, want)
				}
				arena, _ := nn.Needs(s, v.fields[2].Model.Spec, whole.chunks[0].n, nn.Options{Mixed: true}) // the deep one's
				each := int64(arena + 4*whole.of(0, whole.x).Len())
				least := s.InUse() - int64(k-1)*each
				free()
				want, err := v.Craft(bases, nil)
				if err != nil {
					return err
				}
				if s.InUse() != before {
					t.Errorf("%d bytes are left after crafting", s.InUse()-before)
				}
				for slots := 1; slots <= k; slots++ {
					v.p.Memory.Limit = least + int64(slots)*each - each/2
					free := s.Scope()
					l, err := v.newLoop(v.p.Pool.Select(bases))
					if err != nil {
						return err
					}
					if n := len(l.slots.all); n != slots {
						t.Errorf("a limit for %d has room for %d", slots, n)
					}
					if s.InUse() > v.p.Memory.Limit {
						t.Errorf("%d bytes are in use, the limit is %d", s.InUse(), v.p.Memory.Limit)
					}
					free()
					got, err := v.Craft(bases, nil)
					if err != nil {
						return err
					}
					if got.Hash() != want.Hash() || !slices.Equal(got.Report.Restarts[0].Phi, want.Report.Restarts[0].Phi) {
						t.Errorf("with memory for %d in %d chunks: poisons %s, Φ %v; with all kept %s, %v", slots, chunks, got.Hash()[:8], got.Report.Restarts[0].Phi, want.Hash()[:8], want.Report.Restarts[0].Phi)
					}
				}
				if cfg.Align != AlignBatch && !strings.Contains(strings.Join(said, "\n"), "activations of 2 in 4 batches") {
					t.Errorf("said %q", said)
				}
				v.p.Memory.Limit, v.p.Memory.Jobs = 2*least-each, 2
				if _, err := v.Craft(bases, nil); !usage.Is(err) || !strings.Contains(err.Error(), "--memory") || !strings.Contains(err.Error(), "2 jobs") {
					t.Errorf("no memory for any: %v", err)
				}
				return nil
			})
		})
	}
}

// What a poison takes beyond the first chunk, with a limit that keeps one chunk's activations: δ and its
// moments in floats, the clean image in bytes, its label and augmentation. Once there is a second chunk
// there is also its part of the parameters' gradient.
func TestMemoryOfAPoison(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		p := task(t, false)
		p.Pool = randomImages(600, 12, 12, 1, 4, 2)
		v, err := NewSolver(s, p, Config{Align: AlignPoison, Shift: 1})
		if err != nil {
			return err
		}
		v.chunk = 8
		index := make([]int, 600)
		for i := range index {
			index[i] = i
		}
		base, part := s.InUse(), int64(4*v.fields[0].grad.Len())
		bytes := map[int]int64{}
		for _, n := range []int{8, 600} {
			v.p.Memory.Limit = 0
			if n > 8 {
				v.p.Memory.Limit = base + bytes[8] + part + (13*144+16)*592 + 1 // not a slot more
			}
			free := s.Scope()
			if _, err := v.newLoop(p.Pool.Select(index[:n])); err != nil {
				return err
			}
			bytes[n] = s.InUse() - base
			free()
		}
		if each := float64(bytes[600]-bytes[8]-part) / 592; each != 13*144+16 {
			t.Errorf("a poison of 144 pixels takes %v bytes", each)
		}
		return nil
	})
}

// How many poisons pass at a time is a property of the networks: 256 of the small ones, fewer of those whose
// activations are many, and of several networks what the largest has.
func TestChunk(t *testing.T) {
	spec := func(arch string, width int) nn.Spec {
		return nn.Spec{Arch: arch, Width: width, C: 3, H: 32, W: 32, Classes: 10}.WithDefaults()
	}
	deep := spec("resnet18", 64)
	for _, c := range []struct {
		networks []nn.Spec
		want     int
	}{
		{[]nn.Spec{spec("convnet", 32)}, 256},
		{[]nn.Spec{spec("resnet18", 16)}, 256},
		{[]nn.Spec{deep}, 64},
		{[]nn.Spec{spec("vgg16", 64)}, 128},
		{[]nn.Spec{spec("mobilenet_v2", 32)}, 32},
		{[]nn.Spec{spec("convnet", 32), deep}, 64},
	} {
		cfg := Config{}.WithDefaults()
		if n := cfg.batch(c.networks...); n != c.want {
			t.Errorf("%d poisons at a time pass through %+v, want %d", n, c.networks, c.want)
		}
		if n := cfg.Chunk(c.want+2, c.networks...); n != c.want/2+1 {
			t.Errorf("of %d poisons %d pass at a time, want %d", c.want+2, n, c.want/2+1)
		}
		if n := (Config{Align: AlignBatch, Batch: 500}).WithDefaults().batch(c.networks...); n != 500 {
			t.Errorf("of mini-batches of 500 %d pass at a time", n)
		}
	}
}
