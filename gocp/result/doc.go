// Package result is the record of an experiment: the structs behind result.json, and the
// aggregation that turns its repeats into the table that is reported.
//
// # What is a repeat
//
// A repeat is one independent draw: a group of V targets, the poisons crafted for them, and under
// each condition (crafted poisons, uniform noise, Gaussian noise, nothing) a few victims trained
// from fresh initialisations. Victims with the same seed are paired across conditions. Victims of
// a repeat share their poisons, so they are averaged first; means, standard errors and paired
// tests are then taken over repeats:
//
//	x̄ = Σ x_i / n,   se = √(Σ (x_i − x̄)² / (n−1) / n),   z = x̄ / se
//
// # Ratios
//
// With b_i the set size of repeat i under the reference benign models (models that took no part
// in choosing the targets) and c_i the size under the victims, the reduction is reported as
//
//	mean of ratios   (1/n) Σ (b_i − c_i)/b_i        (over targets inside a repeat first)
//	ratio of means   R = Σ (b_i − c_i) / Σ b_i      se(R) = se(e)/b̄,  e_i = (b_i − c_i) − R b_i
//
// and again with max(1, size) in place of size on both sides, since an empty set is not a
// confident one. The expansion is the reduction with its sign turned. The difference between two
// conditions is taken within repeats, over the same denominators.
//
// # Bytes
//
// Nothing in a Result depends on the clock or on where the folder lies, so the same command gives
// the same bytes; wall times go to timings.json beside it, telemetry to telemetry.json.
package result
