package cases

import (
	"context"
	"fmt"

	"github.com/gocp/gocp/gocp/device"
)

// A Cost is what a launch needs at least: bytes that must move, every operand read once and every
// result written once, and operations that must be done.
type Cost struct {
	Bytes, FLOPs float64
}

// Costs returns a case's cost on a shape in floats and, if it has them, in dual numbers with every
// tangent present.
func Costs(c Case, sh Shape) []Cost {
	p := c.New(sh, &Rand{fill: sh.Fill})
	one := Cost{p.Bytes, p.FLOPs}
	if !p.differentiable() {
		return []Cost{one}
	}
	return []Cost{one, p.dual()}
}

// dual is the cost in dual numbers: a second plane of what has a tangent, and two products for the
// derivative of one.
func (p *Problem) dual() Cost {
	tangents := 0
	for _, b := range p.buffers {
		if b.diff {
			tangents += 4 * b.len()
		}
	}
	return Cost{min(2*p.Bytes, p.Bytes+float64(tangents)), 3 * p.FLOPs}
}

// Once runs a case on a shape once, in dual numbers if asked.
func Once(ctx context.Context, d *device.Device, c Case, sh Shape, dual bool) error {
	p := c.New(sh, newRand(c, sh))
	m := mode{}
	if dual {
		m = mode{dual: true, tangents: (&checker{p: p, r: newRand(c, sh)}).direction()}
	}
	err := d.Do(ctx, 1, func(s *device.Stream) error {
		p.Run(s, p.bind(s, m))
		return s.Sync()
	})
	if err != nil {
		return fmt.Errorf("case %s %s: %w", c.Name, c.Label(sh), err)
	}
	return nil
}
