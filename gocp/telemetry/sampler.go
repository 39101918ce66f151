package telemetry

import "errors"

// A Reading is what one device says at one moment. What it does not say is nil.
type Reading struct {
	Kind string `json:"kind"` // gpu or cpu
	ID   string `json:"id"`   // the same in every reading: a GPU's UUID
	Name string `json:"name"`

	Power       *float64  `json:"power_watts,omitempty"`
	PowerLimit  *float64  `json:"power_limit_watts,omitempty"`
	Energy      *float64  `json:"energy_joules,omitempty"` // since the sampler was opened
	Utilization *float64  `json:"utilization,omitempty"`   // share of the last moments, 0 to 1
	MemoryUsed  *uint64   `json:"memory_used_bytes,omitempty"`
	MemoryTotal *uint64   `json:"memory_total_bytes,omitempty"`
	Clock       *float64  `json:"clock_mhz,omitempty"`
	MemoryClock *float64  `json:"memory_clock_mhz,omitempty"`
	Temperature *float64  `json:"temperature_celsius,omitempty"`
	Throttle    []string  `json:"throttle,omitempty"` // what holds the device back now
	Corrected   *uint64   `json:"ecc_corrected,omitempty"`
	Uncorrected *uint64   `json:"ecc_uncorrected,omitempty"`
	Processes   []Process `json:"processes,omitempty"`

	// Slice is why a part of a device tells less than the whole; "" for a whole one.
	Slice string `json:"slice,omitempty"`
	// Lost is why the device cannot be read any more; nothing else is set then.
	Lost string `json:"lost,omitempty"`
}

// A Process uses a device.
type Process struct {
	PID         int      `json:"pid"`
	Name        string   `json:"name"`
	Memory      *uint64  `json:"memory_bytes,omitempty"`
	Utilization *float64 `json:"utilization,omitempty"` // of one core
}

// A Sampler reads devices. Its methods are not for several goroutines at once.
type Sampler interface {
	// Sample returns a reading of every device, always in the same order.
	Sample() []Reading
	Close() error
}

// Join reads what all of the samplers read, in their order.
func Join(samplers ...Sampler) Sampler { return joined(samplers) }

type joined []Sampler

func (j joined) Sample() []Reading {
	var out []Reading
	for _, s := range j {
		out = append(out, s.Sample()...)
	}
	return out
}

func (j joined) Close() error {
	var errs []error
	for _, s := range j {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
