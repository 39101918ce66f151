package cases

import "slices"

// All returns every case. A new kernel file adds its line here.
func All() []Case {
	return slices.Concat(
		activations(),
		averages(),
		batchNorm(),
		convolutions(),
		dropouts(),
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
