package attack

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/gocp/gocp/gocp/device"
)

// CraftState is crafting between two steps: what CraftFrom needs to go on to the same poisons.
type CraftState struct {
	Restart int // the restart under way; as many as there are: all are done
	Step    int // steps done of it
	// Of the restart under way, if it has done a step: δ, Adam's moments, and Φ before each step.
	Delta, M, V []float32
	Trace       []float64
	// Of the restarts done: what they saw, which is kept, its Φ, and its poisons.
	Done []Restart
	Kept int
	Phi  float64
	Best []uint8
}

// CraftOptions do not change the poisons.
type CraftOptions struct {
	Step       func()                  // after every step
	Checkpoint func(*CraftState) error // with copies it may keep
	Due        func() bool             // asked before each step whether a checkpoint is to be made there
	Stop       func() bool             // asked before each step whether to make a checkpoint and to end with context.Canceled
	Last       bool                    // make a checkpoint when all is done
	Resume     *CraftState
}

// before makes the checkpoint that is due before a step.
func (o CraftOptions) before(state func() (*CraftState, error)) error {
	stop := o.Stop != nil && o.Stop()
	if o.Checkpoint != nil && (stop || o.Due != nil && o.Due()) {
		st, err := state()
		if err != nil {
			return err
		}
		if err := o.Checkpoint(st); err != nil {
			return err
		}
	}
	if stop {
		return context.Canceled
	}
	return nil
}

// fits reports a state that is of another crafting.
func (l *loop) fits(st *CraftState, best []uint8) error {
	n, cfg := l.delta.Len(), l.v.cfg
	under := 0
	if st.Step > 0 {
		under = n
	}
	switch {
	case st.Restart < 0 || st.Restart > cfg.Restarts || len(st.Done) != st.Restart || st.Step < 0 || st.Step >= cfg.Steps || st.Restart == cfg.Restarts && st.Step > 0,
		len(st.Delta) != under || len(st.M) != under || len(st.V) != under || len(st.Trace) != st.Step,
		len(st.Best) != len(best) && (st.Restart > 0 || len(st.Best) > 0):
		return fmt.Errorf("attack: the checkpoint is of step %d of restart %d, with %d values; this crafting has %d restarts of %d steps and %d values", st.Step, st.Restart, len(st.Delta), cfg.Restarts, cfg.Steps, n)
	}
	return nil
}

// state completes st by what is on the device.
func (l *loop) state(st CraftState) (*CraftState, error) {
	st.Trace, st.Done, st.Best = slices.Clone(st.Trace), slices.Clone(st.Done), slices.Clone(st.Best)
	if st.Step == 0 {
		return &st, nil
	}
	n := l.delta.Len()
	st.Delta, st.M, st.V = make([]float32, n), make([]float32, n), make([]float32, n)
	return &st, cmp.Or(device.Download(l.s, st.Delta, l.delta.P), device.Download(l.s, st.M, l.m), device.Download(l.s, st.V, l.vv))
}

// goOn sets the device, which stands at the beginning of the restart, to st.
func (l *loop) goOn(st *CraftState) {
	device.Upload(l.s, l.delta.P, st.Delta)
	device.Upload(l.s, l.m, st.M)
	device.Upload(l.s, l.vv, st.V)
	device.Upload(l.s, l.step, []uint64{uint64(st.Step)})
	device.Upload(l.s, l.draw, []uint64{uint64(st.Restart*l.v.cfg.Steps + st.Step)})
}
