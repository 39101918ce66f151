// Package conformal is split conformal prediction for classification, stated exactly: scores,
// thresholds, sets and coverage, in float64, on gonum and without cgo. It depends on nothing else of
// gocp and works on anyone's logits.
//
// # Sets that cover
//
// Let S(x, y) be any score, small when y conforms to x, and s_1 … s_n its values on calibration
// samples (x_i, y_i) that the model was not trained on. For a miscoverage ε put
//
//	r = ⌈(n+1)(1−ε)⌉      τ = s_(r), the r-th smallest; +∞ if r > n
//	C(x) = { y : S(x, y) ≤ τ }
//
// If calibration and test samples are exchangeable, the rank of S(x, y) of a test sample among
// the n+1 scores is uniform on 1 … n+1 (ties broken at random), and y ∈ C(x) whenever that rank is
// at most r. Hence
//
//	1 − ε ≤ P(y ∈ C(x)),   and P(y ∈ C(x)) = r/(n+1) < 1 − ε + 1/(n+1) without ties.
//
// This holds whatever the model does, which is why an attack on a model shows in the sets of its
// victims and not in the coverage of everybody else.
//
// The same sets, seen as p-values: y ∈ C(x) exactly when (1 + #{i : s_i ≥ S(x, y)})/(n+1) > ε.
// The package's tests hold the two against each other.
//
// # Exactness
//
// r is computed in integers from the decimal string of ε (Level): 0.1 in binary floating point is
// more than a tenth, and ⌈(n+1)·0.9⌉ in float64 is one too high or too low for some n. τ is an
// order statistic, never interpolated; a score equal to τ is inside. When n < 1/ε − 1 no finite
// threshold covers, τ is +∞ and the Threshold says so (TooFew).
//
// Probabilities have the same bits on every machine (exp.go). Float32 logits have a faster way, by
// AVX2 or AVX-512 where there is, through bounds that say when a row must be computed by the definition:
// CalibrateTable and PredictTable give the same thresholds and sets to the bit either way (fast.go).
//
// # Scores
//
// HPS, APS and RAPS, in the form that their documentation gives. Labels are ordered by falling
// probability, ties by label index, and ranks count from 1. The u of APS and RAPS is 1, or drawn
// per sample, or per label; libraries differ here, so a Variant records it.
//
// Variant.RowUniforms draws u from a seed and the row of probabilities itself, which makes a randomised
// score a fixed function of (row, label): whatever is predicted beside it, in one file or in many, by one
// call or a million. Rows that are equal share their u, in calibration and in prediction alike, so that
// sets cover even where rows repeat; the price is that they also stay tied. Draws of different rows are
// independent of each other. Calibration and prediction take one seed: with two, the score would be
// another function on either side, and 1 − ε would not hold for repeated rows. What is hashed are the
// probabilities as float64, so the same logits have the same u in every type of number that holds them;
// logits that were rounded (to bfloat16, say) are other rows, with draws of their own.
//
// Variant.Uniforms draws it from a seed and the sample's number instead, for those who know their samples
// by number: then the same sample gets the same u under every model that they compare.
//
// # How much coverage moves by chance
//
// Given the calibration part, coverage is itself random: Beta(r, n+1−r). Of M test samples the
// number covered is Beta–binomial (CoverageLaw), and its Band is what a coverage must lie in to be
// unremarkable. Clopper–Pearson is the interval for the coverage of one fixed threshold.
//
// # Sources
//
// Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005. Vovk, "Conditional
// validity of inductive conformal predictors", ACML 2012. Sadinle, Lei, Wasserman, JASA 2019 (HPS).
// Romano, Sesia, Candès, NeurIPS 2020 (APS). Angelopoulos, Bates, Malik, Jordan, ICLR 2021 (RAPS).
// Clopper, Pearson, Biometrika 1934.
package conformal
