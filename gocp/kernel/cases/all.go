package cases

import "slices"

// All returns every case. A new kernel file adds its line here.
func All() []Case {
	return slices.Concat(
		activations(),
		batchNorm(),
		convolutions(),
		gathers(),
		softmaxes(),
		hingeCases(),
		noiseCases(),
		optimiserCases(),
		persampleCases(),
		samCases(),
		scoreCases(),
		vectorCases(),
	)
}
