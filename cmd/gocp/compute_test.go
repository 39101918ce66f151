package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/safetensors"
)

// vector copies a file of the golden vectors into dir.
func vector(t testing.TB, dir, name string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "gocp", "nn", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCompute(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"pool.model.safetensors", "pool.in.safetensors", "pool-bn.model.safetensors", "pool-bn.in.safetensors"} {
		vector(t, dir, name)
	}
	args := func(more ...string) []string {
		return append([]string{"compute", "--model", "pool.model.safetensors", "--in", "pool.in.safetensors", "--out", "out.safetensors"}, more...)
	}
	o := gocp(t, dir, args("logits", "hvp", "scores", "l2", "--score", "raps", "--miscoverage", "0.4", "--precision", "bf16")...)
	if o.code != exitOK || o.stderr != "" {
		t.Fatalf("status %d: %s", o.code, o.stderr)
	}
	f, err := safetensors.Load(filepath.Join(dir, "out.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range f.Tensors {
		names = append(names, x.Name)
	}
	all := strings.Join(names, " ")
	for _, want := range []string{"logits", "hvp.conv1.weight", "hvp.fc2.bias", "scores", "l2", "l2_terms", "l2_grad.fc1.weight"} {
		if f.Get(want) == nil {
			t.Errorf("no %s among %s", want, all)
		}
	}
	if f.Get("grad.conv1.weight") != nil || f.Get("loss") != nil {
		t.Errorf("more than was asked for: %s", all)
	}

	// A truncated file, for what the reader refuses.
	whole, err := os.ReadFile(filepath.Join(dir, "pool.in.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cut.safetensors"), whole[:len(whole)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	for want, line := range map[string][]string{
		"--model":                 {"compute", "logits"},
		"known: logits":           args(),
		`"gradient"`:              args("gradient"),
		`mode "test"`:             args("--mode", "test", "logits"),
		`precision "fp16"`:        args("--precision", "fp16", "logits"),
		"rounding of GPUs":        args("--precision", "tf32", "--device", "cpu", "logits"),
		"missing.safe":            args("--in", "missing.safetensors", "logits"),
		"cut.safetensors":         args("--in", "cut.safetensors", "logits"),
		"v.bn1.bias":              args("--in", "pool-bn.in.safetensors", "logits"),
		"no tensors of a network": args("--model", "pool.in.safetensors", "logits"),
		"batch norm":              args("--model", "pool-bn.model.safetensors", "--in", "pool-bn.in.safetensors", "--mode", "train", "persample-grad"),
		"99":                      args("--form", "softquantile", "--miscoverage", "0.01", "l2"),
	} {
		refuses(t, dir, want, line...)
	}
	o = gocp(t, dir, "compute", "--model", "pool.model.safetensors", "--in", "pool.in.safetensors", "--out", "no/such/folder/out.safetensors", "logits")
	if o.code == exitOK || !strings.Contains(o.stderr, "no/such/folder") {
		t.Errorf("status %d: %s", o.code, o.stderr)
	}
}

func TestBenchPasses(t *testing.T) {
	dir := t.TempDir()
	o := gocp(t, dir, "bench", "passes", "--pass", "norms", "--shape", "32x32x3-w16-stride", "--precision", "f32", "--beside", "1", "--seconds", "0.01", "--json")
	if o.code != exitOK || !strings.Contains(o.stdout, `"pass": "norms"`) || !strings.Contains(o.stdout, `"wrong": 0`) {
		t.Errorf("status %d: %s%s", o.code, o.stdout, o.stderr)
	}
	refuses(t, dir, `shape "8x8"`, "bench", "passes", "--shape", "8x8")
	refuses(t, dir, `precision "f64"`, "bench", "passes", "--precision", "f64")
	refuses(t, dir, "known: kernels, passes, roofline", "bench", "kernel")
}

func TestBenchKernels(t *testing.T) {
	dir := t.TempDir()
	o := gocp(t, dir, "bench", "kernels", "Quantize8", "Softmax")
	lines := strings.Split(strings.TrimSpace(o.stdout), "\n")
	if o.code != exitOK || len(lines) < 4 || !strings.HasPrefix(lines[0], "limits: copy") || !strings.Contains(o.stdout, "Softmax") {
		t.Errorf("status %d: %s%s", o.code, o.stdout, o.stderr)
	}
	if o = gocp(t, dir, "bench", "kernels", "--go", "Quantize8"); o.code != exitOK || !strings.HasPrefix(o.stdout, "BenchmarkKernel/Quantize8/") {
		t.Errorf("status %d: %s%s", o.code, o.stdout, o.stderr)
	}
	refuses(t, dir, `kernel "softmix"`, "bench", "kernels", "softmix")
	refuses(t, dir, "nothing to tune", "bench", "kernels", "--tune", "tiles.csv")
	refuses(t, dir, "goes with no kernel's name", "bench", "kernels", "--tune", "tiles.csv", "Softmax")
	write(t, dir, "broken.csv", []byte("sm,pass\n90,conv_forward\n"))
	refuses(t, dir, "broken.csv", "bench", "kernels", "--tune", "broken.csv")
	if _, err := os.Stat(filepath.Join(dir, "tiles.csv")); err == nil {
		t.Error("a refused --tune left a table")
	}
}
