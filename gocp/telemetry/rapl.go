package telemetry

import (
	"io/fs"
	"path"
	"strings"
)

// A rapl is one energy counter of the processor, in microjoules. It starts again from 0 when it
// has reached its range, minutes apart at full load.
type rapl struct {
	dir   string
	span  uint64
	last  uint64
	known bool
}

// openRAPL finds the counters of whole packages and of their memory; those of cores are parts of a
// package's. Linux lets only root read them.
func openRAPL(root fs.FS) []*rapl {
	const class = "sys/class/powercap"
	dirs, _ := fs.Glob(root, class+"/intel-rapl:*") // on AMD too
	var out []*rapl
	for _, d := range dirs {
		name := text(root, path.Join(d, "name"))
		if !strings.HasPrefix(name, "package") && name != "dram" {
			continue
		}
		span, ok := number(root, path.Join(d, "max_energy_range_uj"))
		if !ok {
			continue
		}
		c := &rapl{dir: d, span: span}
		if _, ok := c.rise(root); ok {
			out = append(out, c)
		}
	}
	return out
}

// rise is the energy since the last call in joules.
func (c *rapl) rise(root fs.FS) (joules float64, ok bool) {
	v, ok := number(root, path.Join(c.dir, "energy_uj"))
	if !ok {
		return 0, false
	}
	last, known := c.last, c.known
	c.last, c.known = v, true
	switch {
	case !known:
		return 0, true
	case v >= last:
		return float64(v-last) / 1e6, true
	case last > c.span: // no counter of that range
		return 0, true
	}
	return float64(c.span-last+v) / 1e6, true
}
