// Package nvidia reads NVIDIA's GPUs by NVML, the management library that comes with the driver. It
// is looked for when the program runs; a program with this package starts without it.
package nvidia
