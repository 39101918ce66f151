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
//
// # A run folder
//
// config.json is the run's identity: configuration, data, and all of engine and program that changes
// bits. A folder goes on only with a run of the same identity; what differs is named. journal.jsonl
// has the size and the hash of every file, noted when it was made (package journal): on resuming, what
// is not as it says is made again, and named. A file that comes out with other bytes the second time
// ends the run. Clock times and telemetry (clock.jsonl, timings.json, telemetry.json) and the page are
// not in the journal: they differ from run to run.
package experiment
