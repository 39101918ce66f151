package gocp_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gocp/gocp/"

// layers lists every package, the highest layer first. A package imports packages of lower layers
// only. What stands below csrc is pure Go and can be used alone.
var layers = [][]string{
	{"cmd/gocp", "gocp/data/internal/mksample", "bench/conformalspeed", "bench/memory"},
	{"gocp/experiment", "gocp/compute", "gocp/bench", "gocp/metrics", "gocp/telemetry/nvidia"},
	{"gocp/attack"},
	{"gocp/train", "gocp/checkpoint", "gocp/defense", "gocp/curvature"},
	{"gocp/nn"},
	{"gocp/kernel/cases"},
	{"gocp/kernel"},
	{"gocp/tensor"},
	{"gocp/internal/testkit"}, // of tests alone
	{"gocp/device"},
	{"csrc"},
	{"gocp/report", "gocp/telemetry"},
	{"gocp/result"},
	{"gocp/data/cifar10sample"},
	{"gocp/trainer/trainertest"}, // of tests alone
	{"gocp/data", "gocp/conformalio", "gocp/trainer"},
	{"gocp/data/internal/picture", "gocp/data/internal/resample"},
	{"gocp/data/internal/jpeg"},
	{"gocp/matrix"},
	{"gocp/internal/testfiles"}, // of tests alone
	{"gocp/conformal", "gocp/safetensors", "gocp/npy", "gocp/rng", "gocp/progress", "gocp/privacy"},
	{"gocp/slurm"},
	{"gocp/journal", "gocp/owner", "gocp/store", "gocp/sweep"},
	{"gocp/atomicfile", "gocp/strictjson", "gocp/selection"},
	{"gocp/usage", "gocp/foreign"},
	{"gocp/internal/twin"}, // of tests alone
}

// owners are the only packages that may import a path.
var owners = map[string][]string{
	"gorgonia.org/cu":                    {"gocp/device"},
	"github.com/NVIDIA/go-nvml/pkg/nvml": {"gocp/telemetry/nvidia"},
	"C":                                  {"csrc", "gocp/device"},
	"encoding/json":                      {"gocp/safetensors"}, // of headers, which have rules of their own
	"github.com/go-json-experiment/json": {"gocp/strictjson"},
	"go.yaml.in/yaml/v4":                 {"gocp/sweep"},
	"mvdan.cc/sh/v3/syntax":              {"gocp/trainer"},
}

func layerOf(pkg string) int {
	return slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, pkg) })
}

func TestImportsPointDownward(t *testing.T) {
	const root = ".."
	files := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); rel != "." && (strings.HasPrefix(base, ".") || base == "testdata" || rel == "build" || rel == "runs") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		files++
		checkFile(t, filepath.ToSlash(rel), name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Errorf("only %d Go files found: is the root right?", files)
	}
}

func checkFile(t *testing.T, rel, name string) {
	pkg := path.Dir(rel)
	if pkg == "gocp" || strings.HasPrefix(pkg, "examples/") {
		return // this test, and programs that stand above everything
	}
	if layerOf(pkg) < 0 {
		t.Errorf("%s: the package %s has no layer: give it one in layers_test.go", rel, pkg)
		return
	}
	test := strings.HasSuffix(rel, "_test.go") // a test may look from above
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		if own, ok := owners[imp]; ok && !test && !slices.Contains(own, pkg) {
			t.Errorf("%s imports %q, which only %s may", rel, imp, strings.Join(own, ", "))
		}
		to, ours := strings.CutPrefix(imp, module)
		if !ours || to == pkg {
			continue // the package itself: an external test
		}
		switch layer := layerOf(to); {
		case layer < 0:
			t.Errorf("%s imports %s, which has no layer", rel, to)
		case layer <= layerOf(pkg) && !test:
			t.Errorf("%s imports %s, which is not below %s", rel, to, pkg)
		}
	}
}
