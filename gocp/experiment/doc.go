// Package experiment runs audits: how far can an adversary who controls a small share of the
// training data bend the conformal prediction sets of models trained on it?
//
// An audit splits the data into disjoint parts, trains surrogates on the adversary's part,
// chooses targets that the surrogates agree about, crafts poisons for each group of targets,
// trains fresh victims on the victim's part with the poisons in place, calibrates them on clean
// data, and measures the sets of the targets against those of benign models that had no part in
// choosing them. The same victims, seed by seed, trained with noise in place of the poisons are
// the control; benign models trained anew show what retraining alone does.
//
// The work is a list of jobs with dependencies. Each job computes on a stream of width 1 and ends
// by writing one file whole, so the results depend neither on the number of cores nor on the
// order of the jobs, and a run that was killed goes on from its files to the same bytes.
package experiment
