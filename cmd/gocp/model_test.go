package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/safetensors"
)

// A model goes to another library's names and back without its metadata, and is the same one; commands
// take such a file when flags say what it does not.
func TestModelConvert(t *testing.T) {
	dir := t.TempDir()
	vector(t, dir, "resnet18-cifar.model.safetensors")
	vector(t, dir, "resnet18-cifar.in.safetensors")
	ok := func(args ...string) string {
		t.Helper()
		o := gocp(t, dir, args...)
		if o.code != exitOK || o.stderr != "" {
			t.Fatalf("gocp %s: status %d: %s", strings.Join(args, " "), o.code, o.stderr)
		}
		return o.stdout
	}
	load := func(name string) *safetensors.File {
		f, err := safetensors.Load(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	ok("model", "convert", "--to", "pytorch-cifar", "--out", "cifar.safetensors", "resnet18-cifar.model.safetensors")
	f := load("cifar.safetensors")
	if f.Get("layer2.0.shortcut.0.weight") == nil || f.Get("linear.bias") == nil {
		t.Error("not pytorch-cifar's names")
	}
	f.Meta = nil
	for i := range f.Tensors {
		f.Tensors[i].Name = "module." + f.Tensors[i].Name
	}
	if err := f.Save(filepath.Join(dir, "bare.safetensors")); err != nil {
		t.Fatal(err)
	}
	info := ok("model", "info", "bare.safetensors")
	for _, want := range []string{"pytorch-cifar", "module. (stripped)", "resnet18", "not in the file: --mean"} {
		if !strings.Contains(info, want) {
			t.Errorf("no %q in\n%s", want, info)
		}
	}
	said := []string{"--input", "3x16x15", "--mean", "0.47,0.48,0.45", "--std", "0.25,0.26,0.24"}
	ok(slices.Concat([]string{"compute", "--model", "bare.safetensors", "--in", "resnet18-cifar.in.safetensors", "--out", "bare.out"}, said, []string{"logits"})...)
	ok("compute", "--model", "resnet18-cifar.model.safetensors", "--in", "resnet18-cifar.in.safetensors", "--out", "own.out", "logits")
	if !slices.Equal(load("bare.out").Get("logits").Data, load("own.out").Get("logits").Data) {
		t.Error("other logits by the way of pytorch-cifar's names")
	}
	for want, args := range map[string][]string{
		"give --input, --mean, --std": {"model", "convert", "--out", "x", "bare.safetensors"},
		`unknown library "keras"`:     {"model", "convert", "--out", "x", "--to", "keras", "resnet18-cifar.model.safetensors"},
		"timm has no resnet18":        {"model", "convert", "--out", "x", "--to", "timm", "resnet18-cifar.model.safetensors"},
		"channels x height x width":   {"model", "info", "--input", "32", "bare.safetensors"},
		"a number for each channel":   {"model", "info", "--mean", "a,b", "bare.safetensors"},
		"wants one FILE":              {"model", "info"},
		"unknown architecture":        {"model", "info", "--arch", "alexnet", "bare.safetensors"},
		"and vgg16 by the flags":      {"model", "info", "--arch", "vgg16", "resnet18-cifar.model.safetensors"},
	} {
		refuses(t, dir, want, args...)
	}
}

// What networks can't be ends before anything is trained.
func TestBadNetworks(t *testing.T) {
	dir := t.TempDir()
	for want, args := range map[string][]string{
		`unknown architecture "alexnet" (known: convnet, resnet18`: {"--arch", "alexnet"},
		`resnet18 has no stem "stride" (known: cifar, imagenet)`:   {"--arch", "resnet18", "--stem", "stride"},
		"no head": {"--arch", "vgg11", "--head", "conv"},
		"dropout": {"--arch", "resnet18", "--width", "4", "--dropout", "0.5"},

		`unknown recipe "madry" (known: demo, li, witchesbrew)`:       {"--recipe", "madry"},
		`unknown schedule "linear" (known: constant, steps, cosine)`:  {"--schedule", "linear"},
		`unknown padding "edge" (known: zero, reflect)`:               {"--shift", "2", "--pad", "edge"},
		`an input of 16x16 is too small for vgg16 with stem "cifar"`:  {"--arch", "vgg16", "--width", "4", "--resize", "16"},
		"shifts of up to 32 pixels move images of 32x32 out of sight": {"--shift", "32"},
	} {
		refuses(t, dir, want, append([]string{"train", "--out", "m.safetensors", "--take", ":100"}, args...)...)
	}
	for want, args := range map[string][]string{
		`unknown architecture "alexnet" (known: convnet, resnet18`:                         {"--surrogate-arch", "vgg11,alexnet"},
		"--surrogate-arch names 2 kinds and --surrogate-width 3; give as many, or one for": {"--surrogate-arch", "vgg11,resnet18", "--surrogate-width", "8,8,8"},
		`--surrogate-width: "0" is no width`:                                               {"--surrogate-width", "8,0"},
		"4 kinds of surrogates, but only 3 surrogates":                                     {"--surrogate-width", "4,5,6,7", "--surrogates", "3"},
	} {
		refuses(t, dir, want, append([]string{"audit", "--out", "run"}, args...)...)
	}
}

// A model and data, or a file and what it says of itself, that do not fit.
func TestMisfits(t *testing.T) {
	dir := workFolder(t)
	vector(t, dir, "resnet18-cifar.model.safetensors")
	f, err := safetensors.Load(filepath.Join(dir, "resnet18-cifar.model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	f.Meta["width"] = "8"
	if err := f.Save(filepath.Join(dir, "wide.safetensors")); err != nil {
		t.Fatal(err)
	}
	use := func(model string) []string {
		return []string{"calibrate", "--data", "blobs.npz", "--take", ":100", "--out", "c.json", "--model", model}
	}
	refuses(t, dir, "wide.safetensors: width is 8 by the file's metadata, and 2 by its tensors", use("wide.safetensors")...)
	refuses(t, dir, "reads images of 16x15x3 and has 10 classes; the data have 12x12x1 and 4", use("resnet18-cifar.model.safetensors")...)
	refuses(t, dir, "reads images of 16x15x3 and has 10 classes; the data have 12x12x1 and 4", "attack", "--data", "blobs.npz", "--surrogate", "resnet18-cifar.model.safetensors", "--take", ":100", "--calibration", "100:150", "--target", "1", "--out", "p")
}
