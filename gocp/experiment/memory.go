package experiment

import (
	"context"
	"fmt"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/progress"
)

// memory is what a job may take: its share of what there is on its device.
func (r *run) memory() attack.Memory {
	n := len(r.fleet.devices)
	return attack.Memory{Limit: r.cfg.Memory, Jobs: (r.workers + n - 1) / n, Note: func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		if _, again := r.said.LoadOrStore(line, true); !again {
			progress.Or(r.opt.Progress).Note("%s", line)
		}
	}}
}

// fits reports, before anything is trained, that a job's share cannot hold what training or crafting must
// have at once.
func (r *run) fits(ctx context.Context) error {
	m := r.memory()
	if m.Limit == 0 {
		return nil
	}
	poisons, err := r.cfg.poisonCount()
	if err != nil {
		return err
	}
	return r.fleet.Do(ctx, 1, func(s *device.Stream) error {
		type need struct {
			what  string
			spec  nn.Spec
			batch int
			room  nn.Options
		}
		var needs []need
		if len(r.cfg.VictimCommand) == 0 {
			needs = append(needs, need{"training a victim", r.victimSpec, min(r.cfg.VictimTrain.Batch, r.cfg.TrainSize), nn.Options{}})
		}
		for _, spec := range r.surrogateSpecs {
			needs = append(needs,
				need{"training a surrogate", spec, min(r.cfg.SurrogateTrain.Batch, r.cfg.TrainSize), nn.Options{}},
				need{"looking ahead", spec, r.cfg.Craft.LookBatch(r.cfg.SurrogateTrain.Batch), nn.Options{Dual: true}},
				need{"crafting", spec, r.cfg.Craft.Chunk(poisons, r.surrogateSpecs...), nn.Options{Mixed: true}})
			if n := r.cfg.Craft.AlongBatch(r.cfg.TrainSize); n > 0 {
				needs = append(needs, need{"asking what images gain", spec, n, nn.Options{Dual: true, Forward: true}})
			}
			if r.cfg.Craft.Order == 2 {
				needs = append(needs, need{"the curvature of second order", spec, r.cfg.Craft.CurvatureBatch(r.cfg.TrainSize), nn.Options{Dual: true}})
			}
		}
		for _, c := range needs {
			if c.batch == 0 {
				continue
			}
			c.room.Precision = precision(r.cfg.Precision)
			arena, work := nn.Needs(s, c.spec, c.batch, c.room)
			if needs := int64(arena) + int64(work); needs > m.Share() {
				return m.Refuse(c.what, needs)
			}
		}
		return s.Err()
	})
}
