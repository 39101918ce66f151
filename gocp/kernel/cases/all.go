package cases

import "slices"

// HostOnly lists the kernels that a GPU has not got yet, sorted.
func HostOnly() []string {
	var names []string
	for _, c := range All() {
		if c.HostOnly {
			names = append(names, c.Kernels...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// All returns every case. A new kernel file adds its line here.
func All() []Case {
	return slices.Concat(
		activations(),
		batchNorm(),
		convolutions(),
		gathers(),
		hinges(),
		noises(),
		nonconformity(),
		optimisers(),
		persamples(),
		perturbations(),
		softmaxes(),
		vectors(),
	)
}
