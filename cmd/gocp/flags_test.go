package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/safetensors"
)

// Every flag of every command is shown to do something by two tiny runs, with it and without it, or is
// refused, or is one of a few that only change how a run is shown, which are shown to change no result.

// trial is how a flag is shown to do something.
type trial struct {
	value   string   // of the flag; a switch has none
	with    []string // what both runs have beside the command's own
	less    string   // a flag of the command's own that both leave out
	without string   // a flag that the second run leaves out
	refused bool     // the second run is refused
}

// walk is a run of a command that succeeds, and what its flags are tried with.
type walk struct {
	command string
	base    []string
	flags   map[string]trial
}

// shows are the flags that change how a run is shown or done, never its results; see TestShownAlike.
var shows = []string{"quiet", "json", "workers", "threads", "device", "devices", "metrics", "memory"}

// elsewhere are flags that no tiny run can show, with where they are tried.
var elsewhere = map[string]string{
	"conformal calibrate clusters": "gocp/conformal: three labels fall into one",
	"attack nonempty":              "gocp/attack: no set of such a model is empty",
	"model convert out":            "gocp/checkpoint: of other libraries' networks, which are large",
	"model convert to":             "gocp/checkpoint: the same",
	"model convert arch":           "gocp/checkpoint: the same",
	"model convert stem":           "gocp/checkpoint: the same",
	"model convert input":          "gocp/checkpoint: the same",
	"model convert mean":           "gocp/checkpoint: the same",
	"model convert std":            "gocp/checkpoint: the same",
	"model convert dropout":        "gocp/checkpoint: the same",
	"top once":                     "top_test.go: without it top has no end",
	"top interval":                 "top_test.go: a time",
	"victims check test-split":     "gocp/data: of so few images as many may be right in either part",
	"data fetch dir":               "gocp/data: it needs the network",
	"bench kernels tune":           "gocp/bench: it needs a GPU, and minutes",
	"bench kernels go":             "gocp/bench: times are never the same twice",
	"bench kernels batch":          "gocp/bench: of what --tune times",
	"bench passes go":              "gocp/bench: times are never the same twice",
	"bench passes batch":           "gocp/bench: the same",
	"bench passes shape":           "gocp/bench: a pass takes seconds",
	"bench passes pass":            "gocp/bench: the same",
	"bench passes beside":          "gocp/bench: the same",
	"bench passes seconds":         "gocp/bench: the same",
	"bench passes precision":       "gocp/bench: the same",
	"bench roofline count":         "scripts/counts.sh: it needs the emulator",
	"audit resume":                 "audit_test.go: it needs a run that was interrupted",
	"audit take-over":              "gocp/owner: it needs another machine",
	"slurm submit partition":       "gocp/slurm and make test-slurm: it needs Slurm",
	"slurm submit gres":            "the same",
	"slurm submit time":            "the same",
	"slurm submit throttle":        "the same",
	"slurm submit pack":            "the same",
	"slurm submit sbatch":          "the same",
	"slurm submit print":           "the same",
	"collect take-over":            "gocp/owner: the same",
	"audit victims-at-once":        "gocp/experiment: it changes no result",
	"audit victim-timeout":         "victims_test.go: a time",
	"victims check victim-timeout": "the same",
	"audit arch":                   "there is one",
	"train arch":                   "there is one",
}

func walks() []walk {
	trainer := trainerLine()
	logits := []string{"--logits", "cal.csv", "--labels", "cal_y.csv", "--quiet"}
	raps := []string{"--score", "raps", "--lambda", "0.5"}
	score := map[string]trial{
		"score": {value: "margin"}, "randomized": {with: []string{"--score", "aps"}}, "u": {value: "label", with: []string{"--score", "aps"}},
		"lambda": {value: "0.1", with: raps}, "k-reg": {value: "1", with: raps}, "nonempty": {with: []string{"--miscoverage", "0.6"}},
	}
	input := map[string]trial{"logits": {value: "test.csv"}, "probs": {value: "p.csv", without: "logits"}, "header": {value: "yes", refused: true},
		"exact-sums": {with: []string{"--probs", "rounded.csv"}, less: "logits", refused: true}}
	labelled := map[string]trial{"labels": {value: "test_y.csv"}, "miscoverage": {value: "0.4"}}
	splits := map[string]trial{"splits": {value: "3"}, "share": {value: "0.7"}, "temperature": {value: "3"}, "seed": {value: "2"}, "report": {value: "page.html"}}
	test := map[string]trial{"test-labels": {value: "cal_y.csv"}, "threshold-out": {value: "t.json"}, "out": {value: "sets.npy"}}
	fitted := []string{"--temperature", "auto", "--tune", "test.csv", "--tune-labels", "cal2_y.csv"}
	half := []string{"--miscoverage", "0.5"}
	return []walk{
		{"conformal calibrate", append([]string{"--out", "thr.json"}, logits...), merge(score, input, labelled, map[string]trial{
			"by": {value: "class"}, "groups": {value: "test_g.csv", with: []string{"--by", "group", "--groups", "cal_g.csv"}}, "min-cell": {value: "50", with: []string{"--by", "class"}},
			"below":       {value: "marginal", with: []string{"--by", "class", "--min-cell", "50"}},
			"temperature": {value: "2"}, "tune": {value: "cal2.csv", with: fitted}, "tune-labels": {value: "tune_y.csv", with: fitted},
			"tune-share": {value: "0.5", with: []string{"--temperature", "auto", "--tune-share", "0.3"}}, "seed": {value: "3"}, "out": {value: "other.json"}})},
		{"conformal predict", []string{"--threshold", "t.thr", "--logits", "test.csv", "--out", "sets.csv", "--quiet"}, merge(input, map[string]trial{
			"threshold": {value: "u.thr"}, "groups": {value: "test_g.csv", with: []string{"--threshold", "g.thr", "--groups", "cal_g.csv"}}, "out": {value: "sets.npy"}, "logits": {value: "cal.csv"},
			"probs": {value: "p.csv", without: "logits", refused: true}, "exact-sums": {with: []string{"--threshold", "p.thr", "--probs", "rounded.csv"}, less: "logits", refused: true}})},
		{"conformal evaluate", []string{"--threshold", "t.thr", "--logits", "test.csv", "--labels", "test_y.csv", "--quiet"}, merge(input, map[string]trial{
			"threshold": {value: "u.thr"}, "groups": {value: "test_g.csv"}, "features": {value: "cal.csv"}, "report": {value: "page.html"}, "logits": {value: "cal.csv"}, "labels": {value: "cal2_y.csv"},
			"probs": {value: "p.csv", without: "logits", refused: true}, "exact-sums": {with: []string{"--threshold", "p.thr", "--probs", "rounded.csv"}, less: "logits", refused: true}})},
		{"conformal evaluate", append([]string{"--splits", "2"}, logits...), merge(score, splits, labelled, map[string]trial{
			"tune-share": {value: "0.5", with: []string{"--score", "saps", "--lambda", "auto", "--tune-share", "0.3"}}})},
		{"conformal compare", append([]string{"--splits", "2"}, logits...), merge(input, splits, labelled, map[string]trial{"tune-share": {value: "0.5"}})},
		{"conformal full", []string{"--features", "cal.csv", "--labels", "cal_y.csv", "--test-features", "test.csv", "--out", "sets.csv", "--quiet"}, map[string]trial{
			"features": {value: "test.csv"}, "labels": {value: "cal2_y.csv"}, "test-features": {value: "cal.csv"}, "test-labels": {value: "test_y.csv"}, "classes": {value: "5", with: []string{"--out", "sets.npy"}}, "head": {value: "softmax"},
			"lambda": {value: "9"}, "bias": {}, "score": {value: "margin"}, "miscoverage": {value: "0.6"}, "out": {value: "sets.npy"}, "header": {value: "yes", refused: true}}},
		{"conformal cross", append([]string{"--folds", "cal_g.csv", "--test-logits", "test.csv", "--test-logits", "cal.csv", "--out", "sets.csv"}, logits...), merge(score, input, labelled, test, map[string]trial{
			"logits": {value: "cal2.csv"}, "labels": {value: "cal2_y.csv"}, "folds": {value: "test_g.csv"}, "test-logits": {value: "cal2.csv", without: "test-logits", refused: true},
			"test-probs": {value: "p.csv", refused: true}, "min-max": {}, "seed": {value: "5", with: []string{"--score", "aps", "--randomized"}}, "probs": {value: "p.csv", without: "logits", refused: true},
			"exact-sums": {refused: true}})},
		{"conformal rscp", []string{"--logits", "cal.csv", "--labels", "cal_y.csv", "--test-logits", "test.csv", "--sigma", "1", "--out", "sets.csv", "--quiet", "--json"}, merge(score, input, labelled, test, map[string]trial{
			"test-logits": {value: "cal2.csv", without: "test-logits"}, "test-probs": {value: "p.csv", without: "test-logits", refused: true}, "probs": {value: "p.csv", without: "logits", refused: true},
			"logits": {value: "cal2.csv", without: "logits"}, "labels": {value: "cal2_y.csv"}, "sigma": {value: "2", with: []string{"--radius", "0.3"}}, "radius": {value: "0.5"}, "correction": {value: "hoeffding", without: "none", with: []string{"--miscoverage", "0.5"}, refused: true},
			"beta": {value: "0.01", with: []string{"--correction", "hoeffding", "--miscoverage", "0.8", "--beta", "0.2"}}, "exact-sums": {refused: true}, "seed": {value: "5", with: []string{"--score", "aps", "--randomized"}}})},
		{"conformal rps", []string{"--votes", "votes.csv", "--labels", "cal_y.csv", "--parts", "cal_g.csv", "--test-votes", "votes.csv", "--out", "sets.csv", "--quiet", "--json"}, merge(test, map[string]trial{
			"votes": {value: "votes2.csv", with: half}, "labels": {value: "cal2_y.csv", with: half}, "parts": {value: "cal3_g.csv"}, "test-votes": {value: "votes2.csv"}, "rule": {value: "binomial"}, "miscoverage": {value: "0.5"},
			"training-radius": {value: "1"}, "calibration-radius": {value: "1"}, "header": {value: "yes", refused: true}})},
		{"conformal risk", []string{"--logits", "cal.csv", "--truth", "truth.csv", "--out", "risk.json", "--quiet"}, merge(score, input, map[string]trial{
			"truth": {value: "truth2.csv"}, "risk": {value: "0.4"}, "temperature": {value: "3"}, "seed": {value: "3"}, "out": {value: "other.json"}, "nonempty": {refused: true}, "header": {value: "yes", refused: true}})},

		{"data info", []string{"blobs.npz"}, readings}, {"data check", []string{"blobs.npz"}, map[string]trial{"coarse": {refused: true}, "skip-unreadable": {refused: true}, "resize": {value: "99999", refused: true}, "crop": {value: "99", refused: true}, "test-split": {value: "x", refused: true}, "model": {value: "m.safetensors"}, "near": {value: "1", with: []string{"--model", "m.safetensors"}}, "pictures": {value: "pairs", with: []string{"--model", "m.safetensors"}}, "data": {value: "other.npz", refused: true}}},
		{"model info", []string{"m.safetensors"}, saying},
		{"data export", []string{"blobs.npz", "--out", "x.npz"}, merge(readings, map[string]trial{"out": {value: "y.npz"}, "data": {value: "blobs.npz", refused: true}})},
		{"data list", nil, nil},
		{"data fetch", []string{"nothing", "--quiet"}, nil},
		{"version", nil, nil}, {"doctor", nil, nil}, {"top", []string{"--once"}, nil}, {"bench kernels", nil, nil}, {"bench passes", nil, nil},
		{"bench roofline", nil, map[string]trial{"group": {value: "step"}}},
		{"collect", []string{"run"}, map[string]trial{"data": {value: "other.npz", refused: true}}},
		{"slurm submit", []string{"run", "--print"}, nil}, {"slurm status", []string{"run"}, nil}, {"slurm cancel", []string{"run"}, nil},
		{"report", []string{"run"}, map[string]trial{"figures": {value: "figures"}, "format": {value: "png", with: []string{"--figures", "figures"}}}},
		{"compute", []string{"logits", "--model", "pool-bn.model.safetensors", "--in", "pool-bn.in.safetensors", "--out", "out.safetensors"}, merge(saying, map[string]trial{
			"model": {value: "pool-bn.other.safetensors"}, "in": {value: "pool-bn.changed.safetensors"}, "out": {value: "out2.safetensors"}, "precision": {value: "bf16"}, "mode": {value: "train"},
			"score": {value: "aps", with: []string{"scores"}}, "lambda": {value: "0.7", with: []string{"scores", "--score", "raps"}}, "kreg": {value: "0", with: []string{"scores", "--score", "raps"}},
			"form": {value: "softquantile", with: []string{"l2", "--miscoverage", "0.4"}}, "miscoverage": {value: "0.5", with: []string{"l2", "--miscoverage", "0.4"}}, "margin": {value: "2", with: []string{"l2", "--miscoverage", "0.4"}},
			"window": {value: "1", with: []string{"l2", "--miscoverage", "0.4"}}, "bandwidth": {value: "3", with: []string{"l2", "--miscoverage", "0.4", "--form", "softquantile"}},
			"beta": {value: "0.01", with: []string{"l2", "--miscoverage", "0.4"}}, "rho": {value: "0.2", with: []string{"sam"}}, "p": {value: "inf", with: []string{"sam"}}, "of": {value: "l2", with: []string{"sam", "l2", "--miscoverage", "0.4"}},
			"curvature": {value: "hessian", with: []string{"ihvp", "--damping", "90"}}, "damping": {value: "0.5", with: []string{"ihvp"}}})},
		{"defend filter", []string{"--features", "cal.csv", "--labels", "cal_y.csv", "--budget", "0.05", "--out", "flagged.csv", "--quiet"}, merge(filters, map[string]trial{"out": {value: "other.csv"}, "report": {value: "page.html"}})},
		{"defend filter", []string{"--model", "m.safetensors", "--data", "blobs.npz", "--budget", "0.05", "--out", "flagged.csv", "--quiet", "--json"}, merge(saying, misfit, filtered)},
		{"defend compare", []string{"--features", "cal.csv", "--labels", "cal_y.csv", "--poisons", "at.csv", "--budget", "0.05", "--quiet"}, merge(filters, map[string]trial{"poisons": {value: "at2.csv"}, "report": {value: "page.html"}})},
		{"defend compare", []string{"--model", "m.safetensors", "--data", "blobs.npz", "--poisons", "at.csv", "--budget", "0.05", "--quiet", "--json"}, merge(saying, misfit, filtered, map[string]trial{"take": {value: ":490"}})},
		{"victims check", []string{trainer, "--data", "blobs.npz"}, merge(readings, map[string]trial{"data": {value: "other.npz"}})},
		{"train", small("train", "--epochs", "1", "--out", "m2.safetensors"), merge(readings, shared, models, map[string]trial{
			"out": {value: "m3.safetensors"}, "data": {value: "other.npz"}, "split": {value: "test"}, "take": {value: "20:60"}, "shuffle": {value: "3"}, "poisons": {value: "poisons"}}, defenceTrials)},
		{"calibrate", []string{"--data", "blobs.npz", "--model", "m.safetensors", "--out", "c2.json"}, merge(misfit, saying, scoreTrials(), map[string]trial{
			"model": {value: "other.safetensors"}, "out": {value: "c3.json"}, "data": {value: "other.npz"}, "split": {value: "test"}, "take": {value: ":50"}, "shuffle": {value: "2", with: []string{"--take", ":50"}},
			"seed": {value: "2"}, "precision": {value: "bf16"}, "miscoverage": {value: "0.3"}})},
		{"evaluate", []string{"--data", "blobs.npz", "--model", "m.safetensors", "--calibration", "c.json"}, merge(misfit, saying, map[string]trial{
			"model": {value: "other.safetensors", refused: true}, "calibration": {value: "d.json"}, "data": {value: "other.npz"}, "split": {value: "train", refused: true}, "take": {value: ":50"}, "shuffle": {value: "2", with: []string{"--take", ":50"}}, "show": {value: "3"}})},
		{"attack", []string{"--data", "blobs.npz", "--surrogate", "m.safetensors", "--target", "1", "--take", ":160", "--calibration", "160:220", "--out", "p2", "--budget", "0.1", "--steps", "3", "--goal", "add", "--labels", "0,1,2,3", "--quiet", "--json"},
			merge(misfit, saying, shared, goalTrials(), scoreTrials(), craftTrials(), map[string]trial{"goal": {value: "unequal", less: "labels", with: []string{"--goal", "underconfidence"}}, "labels": {value: "1,2"}, "surrogate": {value: "other.safetensors"}, "target": {value: "3"}, "out": {value: "p3"}, "data": {value: "other.npz"}, "test-split": {value: "train", refused: true},
				"take": {value: ":120"}, "calibration": {value: "170:230"}, "shuffle": {value: "5"}})},
		{"sweep", []string{"plan.yaml", "--out", "sw", "--quiet"}, map[string]trial{"out": {value: "sw2"}, "dry-run": {}}},
		{"audit", small("audit", "--out", "r2", "--repeats", "1", "--victims", "1", "--surrogates", "1", "--references", "1", "--controls", "1", "--train-size", "160", "--cal-size", "60", "--candidates", "100",
			"--budget", "0.1", "--epochs", "8", "--steps", "3", "--goal", "remove", "--labels", "0"),
			merge(readings, shared, models, goalTrials(), scoreTrials(), craftTrials(), map[string]trial{"out": {value: "r3"}, "shard": {value: "0/1"}, "prepare": {}, "stage": {value: "benign", with: []string{"--shard", "0/1"}}, "data": {value: "other.npz"}, "test-split": {value: "train", refused: true}, "config": {value: "short.json"},
				"quick": {less: "surrogates"}, "subgroups": {value: "blobs_g.csv", less: "labels", with: []string{"--goal", "unequal", "--targets", "2", "--subgroups", "classes"}},
				"clusters": {value: "3", less: "labels", with: []string{"--goal", "unequal", "--targets", "2", "--clusters", "4"}}, "repeats": {value: "2"}, "targets": {value: "2"}, "victims": {value: "2"}, "conditions": {value: "attack,randun", less: "controls"}, "surrogates": {value: "2"}, "attackers": {value: "1", with: []string{"--surrogates", "2"}},
				"surrogate-arch": {value: "x", refused: true}, "surrogate-width": {value: "4,6", less: "surrogates"}, "surrogate-stem": {value: "pool"}, "surrogate-head": {value: "mlp", refused: true}, "surrogate-batchnorm": {}, "references": {value: "2"}, "controls": {value: "2"}, "white-box": {}, "victim-command": {value: trainer}, "reference-command": {value: trainer + " probabilities", with: []string{"--victim-command", trainer}}, "train-size": {value: "150"}, "cal-size": {value: "50"}, "candidates": {value: "90"}}, defenceTrials, map[string]trial{"defense": {value: "loss"}})},
	}
}

// small are the flags of a small training.
func small(command string, more ...string) []string {
	s := []string{"--data", "blobs.npz", "--seed", "3", "--width", "8", "--batch", "16", "--lr", "0.05", "--quiet"}
	if command == "train" {
		s = append(s, "--take", ":60")
	}
	return append(s, more...)
}

// Trials of the flags that several commands share.
var (
	readings = map[string]trial{"coarse": {refused: true}, "skip-unreadable": {refused: true}, "resize": {value: "10"}, "crop": {value: "10"}}
	saying   = map[string]trial{"arch": {value: "resnet18", refused: true}, "stem": {value: "imagenet", refused: true}, "input": {value: "3x7x7", refused: true}, "mean": {value: "0.5", refused: true}, "std": {value: "0.5", refused: true}, "dropout": {value: "0.5", refused: true}}
	filters  = map[string]trial{"features": {value: "test.csv"}, "labels": {value: "cal2_y.csv"}, "logits": {value: "test.csv"}, "images": {value: "x.csv", refused: true, with: []string{"--report", "page.html"}}, "method": {value: "spectral"}, "budget": {value: "0.1"},
		"neighbours": {value: "9"}, "cluster-share": {value: "0.5"}, "seed": {value: "1", with: []string{"--method", "spectral"}, refused: true}, "header": {value: "yes", refused: true}, "model": {value: "m.safetensors", refused: true}}
	filtered = map[string]trial{"model": {value: "other.safetensors"}, "data": {value: "other.npz"}, "split": {value: "test"}, "take": {value: ":450"}, "shuffle": {value: "2", with: []string{"--take", ":490"}}}
	misfit   = map[string]trial{"coarse": {refused: true}, "skip-unreadable": {refused: true}, "resize": {value: "10", refused: true}, "crop": {value: "10", refused: true}} // the model's images have one size
	shared   = map[string]trial{"seed": {value: "4"}, "shift": {value: "2"}, "flip": {}, "pad": {value: "reflect", with: []string{"--shift", "2"}}, "precision": {value: "bf16"}}
	models   = map[string]trial{"width": {value: "4"}, "stem": {value: "pool"}, "batchnorm": {}, "epochs": {value: "6"}, "batch": {value: "20"}, "lr": {value: "0.04"}, "momentum": {value: "0.8"}, "recipe": {value: "witchesbrew"}, "nesterov": {}, "warmup": {value: "1"}, "schedule": {value: "cosine", with: []string{"--epochs", "3"}},
		"milestones": {value: "2", with: []string{"--epochs", "3", "--schedule", "steps", "--milestones", "1"}}, "gamma": {value: "0.5", with: []string{"--epochs", "3", "--schedule", "steps", "--milestones", "1"}}, "weight-decay": {value: "0.01"}, "head": {value: "mlp", refused: true}, "dropout": {value: "0.3", refused: true}}
)

// defenceTrials are of flags of defences of training.
var defenceTrials = map[string]trial{"defense": {value: "maxup"}, "defense-copies": {value: "3", with: []string{"--defense", "maxup"}}, "defense-vary": {value: "noise", with: []string{"--defense", "augment"}},
	"defense-radius": {value: "0.5", with: []string{"--defense", "sam"}},
	"defense-clip":   {value: "0.1", with: []string{"--defense", "dp-sgd"}}, "defense-noise": {value: "0.5", with: []string{"--defense", "dp-sgd"}}, "defense-delta": {value: "0.01", with: []string{"--defense", "dp-sgd"}},
	"defense-ball": {value: "4", with: []string{"--defense", "adversarial-poisoning"}}, "defense-steps": {value: "2", with: []string{"--defense", "adversarial-poisoning"}},
	"defense-fraction": {value: "0.3", with: []string{"--defense", "epic", "--epochs", "3"}}, "defense-from": {value: "2", with: []string{"--defense", "epic", "--epochs", "3", "--defense-fraction", "0.4"}},
	"defense-every": {value: "2", with: []string{"--defense", "epic", "--epochs", "4", "--defense-fraction", "0.4"}}}

var alongSolve = []string{"--order", "2"}

// grow is a goal that keeps the prediction.
var grow = []string{"--goal", "underconfidence", "--add-count", "1"}

func goalTrials() map[string]trial {
	return map[string]trial{"goal": {value: "add"}, "labels": {value: "1"}, "true-label": {with: []string{"--goal", "remove", "--labels", "0"}}, "add-count": {value: "2", less: "labels", with: grow},
		"set-size": {value: "1", refused: true}, "reckless": {less: "labels", with: grow}}
}

func scoreTrials() map[string]trial {
	return map[string]trial{"score": {value: "aps"}, "u": {value: "sample", with: []string{"--score", "aps"}}, "lambda": {value: "0.5", with: []string{"--score", "raps", "--lambda", "0.1"}},
		"kreg": {value: "3", with: []string{"--score", "raps", "--lambda", "0.5"}}, "nonempty": {with: []string{"--miscoverage", "0.5"}}, "miscoverage": {value: "0.3"}}
}

func craftTrials() map[string]trial {
	meta := []string{"--method", "metapoison", "--ages", "2"}
	return map[string]trial{"method": {value: "witchesbrew"}, "ages": {value: "3", with: meta}, "unroll": {value: "1", with: meta}, "age-every": {value: "2", with: meta}, "adversarial-label": {value: "random", with: []string{"--method", "witchesbrew", "--seed", "3"}}, "budget": {value: "0.2"}, "epsilon": {value: "32"}, "bases": {value: "gradnorm"}, "diverse": {}, "poison": {value: "labels", less: "steps"}, "rounds": {value: "2", less: "steps", with: []string{"--poison", "labels"}}, "align": {value: "poison"}, "loss": {value: "softquantile"}, "steps": {value: "2"}, "restarts": {value: "2"},
		"craft-batch": {value: "8", with: []string{"--align", "batch", "--craft-batch", "4"}}, "step-size": {value: "0.3"}, "start": {value: "normal"}, "threshold": {value: "moving"}, "keep-beta": {value: "0.01", less: "labels", with: grow}, "margin": {value: "0.8"},
		"window": {value: "1", with: []string{"--threshold", "moving"}}, "bandwidth": {value: "0.2", with: []string{"--loss", "softquantile", "--threshold", "moving"}}, "plain": {}, "sam-rho": {value: "0.5"}, "sam-p": {value: "3"}, "sam-steps": {value: "2"},
		"order": {value: "2"}, "second-order": {value: "exact", with: alongSolve}, "curvature": {value: "hessian", with: alongSolve}, "damping": {value: "0.5", with: alongSolve}, "solver": {value: "lissa", with: alongSolve}, "preconditioner": {value: "kfac", with: alongSolve}, "solve-iterations": {value: "2", with: alongSolve},
		"solve-tolerance": {value: "0.9", with: alongSolve}, "curvature-images": {value: "20", with: alongSolve}}
}

func merge(all ...map[string]trial) map[string]trial {
	out := map[string]trial{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

// leaves are the commands that do something, by their path.
func leaves(commands []*cli.Command, path string, visit func(path string, c *cli.Command)) {
	for _, c := range commands {
		if p := strings.TrimSpace(path + " " + c.Name); len(c.Subcommands) > 0 {
			leaves(c.Subcommands, p, visit)
		} else {
			visit(p, c)
		}
	}
}

// here runs the command line in this process.
func here(args ...string) outcome {
	var stdout, stderr bytes.Buffer
	code := run(append([]string{"gocp"}, args...), &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

// machine are the lines on what a run took of the machine.
var machine = regexp.MustCompile(`(?m)^(Machine:|A run took) .*\n`)

// left is what a run left: its output, and the files that were not there before, which it takes away.
type left struct {
	outcome
	files map[string]string
}

func leaving(t *testing.T, keep map[string]bool, args ...string) left {
	t.Helper()
	l := left{here(args...), map[string]string{}}
	l.stdout = machine.ReplaceAllString(l.stdout, "") // another one each time
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || keep[name] {
			return err
		}
		b, err := os.ReadFile(name)
		l.files[name] = effective(name, b)
		return err
	})
	for name := range l.files {
		if top, _, _ := strings.Cut(name, string(filepath.Separator)); !keep[top] {
			err = first(err, os.RemoveAll(top))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// effective is what a file says beside the settings that it was made with.
func effective(name string, b []byte) string {
	switch filepath.Base(name) {
	case "config.json", "clock.jsonl", "all-0-of-1.clock.jsonl", "all-0-of-1.journal.jsonl", "timings.json", "telemetry.json", "report.html", "journal.jsonl", "manifest.json":
		return ""
	}
	switch filepath.Ext(name) {
	case ".safetensors":
		f, err := safetensors.Parse(b)
		if err != nil {
			return err.Error()
		}
		f.Meta = nil
		return fmt.Sprint(f.Tensors)
	case ".json":
		return withoutSettings(string(b))
	}
	return string(b)
}

// withoutSettings leaves out of JSON what only repeats the command line.
func withoutSettings(text string) string {
	var v map[string]any
	if json.Unmarshal([]byte(text), &v) != nil || v["config"] == nil {
		return text
	}
	delete(v, "config")
	delete(v, "models") // their files tell
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// same tells whether two runs left the same.
func same(a, b left) bool {
	return a.code == b.code && a.stdout == b.stdout && maps.Equal(a.files, b.files)
}

func inputs(t *testing.T) map[string]bool {
	t.Helper()
	keep := map[string]bool{}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		keep[name] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return keep
}

// drop leaves a flag and its value out of args, wherever it stands.
func drop(args []string, flag string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		if args[i] == "--"+flag {
			i++
			continue
		}
		out = append(out, args[i])
	}
	return out
}

// flagFiles makes the files that walks name.
func flagFiles(t testing.TB, dir string) {
	t.Helper()
	conformalData(t, dir, "cal", 40)
	conformalData(t, dir, "few", 12)
	conformalData(t, dir, "test", 40)
	shift := func(name string, by int) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitAfter(string(b), "\n")
		lines = lines[:len(lines)-1]
		return strings.Join(append(slices.Clone(lines[by:]), lines[:by]...), "")
	}
	for name, text := range map[string]string{
		"test.csv": shift("test.csv", 7), "test_y.csv": shift("test_y.csv", 3), "test_g.csv": shift("test_g.csv", 1), "cal2.csv": shift("cal.csv", 5), "cal2_y.csv": shift("cal_y.csv", 2),
		"cal3_g.csv": strings.Repeat("1\n0\n2\n0\n", 10), "votes.csv": strings.Repeat("3,1,1\n0,5,0\n1,1,3\n2,2,1\n", 10), "votes2.csv": strings.Repeat("2,2,1\n3,1,1\n0,5,0\n1,1,3\n", 10),
		"blobs_g.csv": strings.Repeat("0\n1\n2\n1\n", 40), "at.csv": "5\n0\n7\n", "at2.csv": "1\n", "truth.csv": strings.Repeat("1,0,0\n1,1,0\n0,0,1\n0,1,0\n", 10), "truth2.csv": strings.Repeat("0,0,1\n0,1,1\n1,0,0\n1,0,0\n", 10),
		"p.csv": strings.Repeat("0.5,0.25,0.25\n0.125,0.75,0.125\n0,0.5,0.5\n0.25,0.125,0.625\n", 10), "rounded.csv": strings.Repeat("0.334,0.334,0.333\n0.2,0.5,0.3\n0.5,0.3,0.2\n0,0.5,0.5\n", 10),
	} {
		write(t, dir, name, []byte(text))
	}
	write(t, dir, "plan.yaml", []byte("base: {data: blobs.npz, seed: 3, width: 8, batch: 16, lr: 0.05, repeats: 1, victims: 1, surrogates: 1, references: 1, controls: 1, "+
		"train-size: 160, cal-size: 60, candidates: 100, budget: 0.1, epochs: 8, steps: 3, goal: remove, labels: 0}\naxes: {plain: [true]}\n"))
	write(t, dir, "tune_y.csv", []byte(shift("cal_y.csv", 1)))
	for _, name := range []string{"pool-bn.model.safetensors", "pool-bn.in.safetensors"} {
		vector(t, dir, name)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for out, args := range map[string][]string{
		"t.thr": {"--logits", in("cal.csv")}, "u.thr": {"--logits", in("cal.csv"), "--miscoverage", "0.5"}, "p.thr": {"--probs", in("p.csv")},
		"g.thr": {"--logits", in("cal.csv"), "--by", "group", "--groups", in("cal_g.csv"), "--miscoverage", "0.3"},
	} {
		if o := here(append([]string{"conformal", "calibrate", "--labels", in("cal_y.csv"), "--quiet", "--out", in(out)}, args...)...); o.code != exitOK {
			t.Fatal(o.stderr)
		}
	}
}

// modelFiles makes the models, data and runs that walks name.
func modelFiles(t *testing.T, dir string) {
	t.Helper()
	for name, seed := range map[string]uint64{"blobs.npz": 1, "other.npz": 5} {
		if err := data.ExportSource(filepath.Join(dir, name), &data.Source{Name: name, Splits: []*data.Dataset{blobs(t, "train", 500, seed), blobs(t, "test", 160, seed+1)}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"model", "in"} { // the same with one weight, one pixel changed
		f, err := safetensors.Load(filepath.Join(dir, "pool-bn."+name+".safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Tensors {
			if x := &f.Tensors[i]; x.Name == "x" || x.Name == "conv1.weight" {
				x.Data[3] ^= 1
			}
		}
		if err := f.Save(filepath.Join(dir, map[string]string{"model": "pool-bn.other.safetensors", "in": "pool-bn.changed.safetensors"}[name])); err != nil {
			t.Fatal(err)
		}
	}
	write(t, dir, "short.json", []byte(`{"craft": {"sam_p": "inf"}, "surrogate_train": {"epochs": 9, "batch": 16, "lr": 0.05}}`))
	succeeds(t, dir, append([]string{"train"}, small("train", "--take", ":200", "--epochs", "8", "--out", "m.safetensors")...)...)
	succeeds(t, dir, append([]string{"train"}, small("train", "--take", "200:400", "--epochs", "8", "--out", "other.safetensors")...)...)
	for _, level := range []string{"c.json=0.1", "d.json=0.4"} {
		name, miscoverage, _ := strings.Cut(level, "=")
		succeeds(t, dir, "calibrate", "--data", "blobs.npz", "--model", "m.safetensors", "--out", name, "--miscoverage", miscoverage, "--take", "400:")
	}
	succeeds(t, dir, "attack", "--data", "blobs.npz", "--surrogate", "m.safetensors", "--target", "1", "--take", ":60", "--calibration", "160:220", "--out", "poisons", "--budget", "0.1", "--steps", "2", "--goal", "add", "--labels", "0,1,2,3", "--quiet")
	succeeds(t, dir, append([]string{"audit", "--out", "run"}, append(slices.Clone(tinyAudit[1:]), "--quiet")...)...)
}

func TestEveryFlagDoesSomething(t *testing.T) {
	if os.Getenv("GOCP_LONG") == "" {
		t.Skip("a few hundred runs: GOCP_LONG=1 makes them")
	}
	dir := t.TempDir()
	flagFiles(t, dir)
	modelFiles(t, dir)
	t.Chdir(dir)
	t.Setenv("GOCP_DEVICE", "cpu")
	keep := inputs(t)
	tried, commands := map[string]bool{}, map[string]*cli.Command{}
	leaves(newApp(nil, nil).Commands, "", func(path string, c *cli.Command) { commands[path] = c })
	for _, w := range walks() {
		references := map[string]left{}
		command := commands[w.command]
		for name, tr := range w.flags {
			if !slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return f.Names()[0] == name }) {
				continue // a list that commands share
			}
			if elsewhere[w.command+" "+name] != "" {
				continue
			}
			tried[w.command+" "+name] = true
			base := append(strings.Fields(w.command), w.base...)
			if tr.less != "" {
				base = drop(base, tr.less)
			}
			base = append(base, tr.with...)
			key := strings.Join(base, " ")
			ref, ok := references[key]
			if !ok {
				ref = leaving(t, keep, base...)
				references[key] = ref
			}
			if ref.code != exitOK {
				t.Errorf("%s: %s", key, ref.stderr)
				continue
			}
			args := append(slices.Clone(base), "--"+name)
			if tr.value != "" {
				args = append(args, tr.value)
			}
			if tr.without != "" {
				args = append(drop(base, tr.without), args[len(base):]...)
			}
			got := leaving(t, keep, args...)
			switch {
			case tr.refused && got.code != exitUsage, !tr.refused && got.code != exitOK:
				t.Errorf("%s: status %d: %s", strings.Join(args, " "), got.code, got.stderr)
			case !tr.refused && same(ref, got):
				t.Errorf("%s: it does nothing", strings.Join(args, " "))
			}
		}
	}
	leaves(newApp(nil, nil).Commands, "", func(path string, c *cli.Command) {
		for _, f := range c.Flags {
			name := f.Names()[0]
			if f == cli.HelpFlag || slices.Contains(shows, name) || elsewhere[path+" "+name] != "" || tried[path+" "+name] {
				continue
			}
			t.Errorf("%s --%s: nothing shows that it does something", path, name)
		}
	})
}

// The flags that change how a run is shown, or on what it runs, leave its files and numbers alone.
func TestShownAlike(t *testing.T) {
	dir := t.TempDir()
	flagFiles(t, dir)
	if err := data.ExportSource(filepath.Join(dir, "blobs.npz"), &data.Source{Name: "blobs", Splits: []*data.Dataset{blobs(t, "train", 500, 1), blobs(t, "test", 160, 2)}}); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("GOCP_DEVICE", "cpu")
	keep, shown := inputs(t), map[string]bool{}
	for _, c := range []struct {
		args  []string
		flags [][]string
	}{
		{[]string{"conformal", "calibrate", "--logits", "cal.csv", "--labels", "cal_y.csv", "--out", "thr.json"}, [][]string{{"--workers", "3"}, {"--quiet"}, {"--json"}}},
		{append([]string{"train", "--out", "m.safetensors"}, small("train", "--epochs", "1")...), [][]string{{"--device", "cpu"}, {"--metrics", "127.0.0.1:0"}, {"--json"}, {"--threads", "1"}}},
		{append([]string{"audit"}, small("audit", "--out", "r2", "--repeats", "1", "--victims", "1", "--surrogates", "1", "--references", "1", "--controls", "1", "--train-size", "160", "--cal-size", "60", "--candidates", "100",
			"--budget", "0.1", "--epochs", "8", "--steps", "3", "--goal", "remove", "--labels", "0")...), [][]string{{"--memory", "64MiB"}}},
	} {
		ref := leaving(t, keep, c.args...)
		if ref.code != exitOK {
			t.Fatal(ref.stderr)
		}
		for _, f := range c.flags {
			got := leaving(t, keep, append(slices.Clone(c.args), f...)...)
			shown[strings.TrimPrefix(f[0], "--")] = true
			if f[0] == "--json" {
				strict(t, []byte(got.stdout))
				got.stdout = ref.stdout
			}
			if f[0] == "--quiet" && got.stderr != "" {
				t.Errorf("%s said %q", f[0], got.stderr)
			}
			if !same(ref, got) {
				t.Errorf("%s %v: %+v, without %+v", strings.Join(c.args, " "), f, got.outcome, ref.outcome)
			}
		}
	}
	shown["devices"] = true // audit_test.go and several_test.go: a number of devices changes nothing
	for _, f := range shows {
		if !shown[f] {
			t.Errorf("nothing shows that --%s changes no result", f)
		}
	}
}
