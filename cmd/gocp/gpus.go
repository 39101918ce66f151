package main

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// GPU is a card as NVIDIA's management library sees it, whether or not gocp computes on it.
type GPU struct {
	Name   string `json:"name"`
	Memory uint64 `json:"memory_bytes"`
	Driver string `json:"driver"`
}

// gpus lists the machine's GPUs. Without a driver there are none: the library then fails in Init,
// and must not be called again.
func gpus(lib nvml.Interface) []GPU {
	if lib.Init() != nvml.SUCCESS {
		return nil
	}
	defer lib.Shutdown()
	driver, _ := lib.SystemGetDriverVersion()
	n, ret := lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	var out []GPU
	for i := range n {
		d, ret := lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue
		}
		g := GPU{Driver: driver}
		g.Name, _ = d.GetName()
		if m, ret := d.GetMemoryInfo(); ret == nvml.SUCCESS {
			g.Memory = m.Total
		}
		out = append(out, g)
	}
	return out
}
