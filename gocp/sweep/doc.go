// Package sweep reads plans of many audits: what they have in common, and axes along which they differ.
//
//	base:
//	  data: cifar10-sample
//	  precision: bf16
//	axes:                        # every combination
//	  budget: [0.01, 0.02, 0.04]
//	  score: [hps, aps]
//	points:                      # and single ones
//	  - {budget: 0.04, plain: true}
//	exclude:
//	  - {budget: 0.01, score: aps}
//
// Names are those of flags; the caller says which there are and what they may hold.
package sweep
