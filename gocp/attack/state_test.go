package attack

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/gocp/gocp/gocp/device"
)

// Crafting that is stopped before any step of any restart goes on from there to the same poisons and the
// same report: δ, Adam's state, the draws of augmentation and the best restart so far are saved.
func TestStopBeforeEveryStep(t *testing.T) {
	for name, cfg := range map[string]Config{
		"plain":        {Steps: 4, Restarts: 2, Plain: true},
		"augmented":    {Steps: 3, Restarts: 2, Align: AlignSum, Shift: 1, Flip: true, Start: StartNormal},
		"batches":      {Steps: 3, Align: AlignBatch, Batch: 3},
		"second order": {Steps: 2, Order: 2, Second: SecondOrder{Mode: SecondExact, Iterations: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			var want *Poisons
			craft := func(o CraftOptions) (p *Poisons, err error) {
				onDevice(t, func(s *device.Stream) error {
					v, failed := NewSolver(s, task(t, true), cfg)
					if failed != nil {
						return failed
					}
					bases, failed := v.Bases()
					if failed != nil {
						return failed
					}
					p, err = v.CraftFrom(bases, o)
					return nil
				})
				return p, err
			}
			steps := 0
			want, err := craft(CraftOptions{Step: func() { steps++ }})
			if err != nil {
				t.Fatal(err)
			}
			for stop := range steps + 1 {
				seen := 0
				var state *CraftState
				_, err := craft(CraftOptions{Stop: func() bool { seen++; return seen > stop }, Last: true,
					Checkpoint: func(st *CraftState) error { state = st; return nil }})
				if state == nil || stop < steps && !errors.Is(err, context.Canceled) || stop == steps && err != nil {
					t.Fatalf("stopped before step %d: %v, state %v", stop, err, state)
				}
				done := 0
				got, err := craft(CraftOptions{Resume: state, Step: func() { done++ }})
				if err != nil {
					t.Fatal(err)
				}
				if done != steps-stop {
					t.Errorf("stopped before step %d of %d, gone on with %d steps", stop, steps, done)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("stopped before step %d: other poisons, or another report", stop)
				}
			}
		})
	}
}

func TestCheckpointOfAnotherCrafting(t *testing.T) {
	onDevice(t, func(s *device.Stream) error {
		v, err := NewSolver(s, task(t, false), Config{Steps: 2, Plain: true})
		if err != nil {
			return err
		}
		bases, err := v.Bases()
		if err != nil {
			return err
		}
		for _, st := range []CraftState{{Step: 1}, {Restart: 1}, {Restart: 2, Done: make([]Restart, 2)}, {Step: 2, Trace: make([]float64, 2)}, {Step: 1, Trace: make([]float64, 1), Delta: make([]float32, 3)}} {
			if _, err := v.CraftFrom(bases, CraftOptions{Resume: &st}); err == nil {
				t.Errorf("step %d of restart %d passes", st.Step, st.Restart)
			}
		}
		return nil
	})
}
