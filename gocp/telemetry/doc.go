// Package telemetry reads what a machine says of itself while work runs: power, energy, load,
// memory, clocks, temperature, what holds it back, memory errors, processes.
//
// A [Sampler] reads devices once. [NewHost] is the processor as /proc and, where they may be read,
// the energy counters of /sys/class/powercap (RAPL) show it; telemetry/nvidia is the GPUs. A
// [Meter] samples in the background and sums up:
//
//	energy of a device   its counter's rise, or else the power between two samples, by trapezoids
//	energy of a job      the jobs that ran between two samples share the energy of all devices in
//	                     proportion to how long they ran
//	means                weighted by the time between samples
//
// What a device does not tell is nil, and absent in the summary; it is never 0.
package telemetry
