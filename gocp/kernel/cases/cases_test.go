package cases_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel/cases"
)

// With -failfast a case ends at the first shape that fails it.
func TestCases(t *testing.T) {
	d := testkit.Open(t)
	first := flag.Lookup("test.failfast").Value.String() == "true"
	for _, c := range cases.All() {
		t.Run(c.Name+"/"+c.Precision, func(t *testing.T) {
			for _, sh := range c.Tests {
				if err := cases.Check(context.Background(), d, c, sh); err != nil {
					t.Error(err)
					if first {
						return
					}
				}
			}
		})
	}
}

var (
	kernelLine = regexp.MustCompile(`(?m)^KERNEL (\w+)\(`)
	gpuLine    = regexp.MustCompile(`(?m)^extern "C" __global__ void (\w+)\(`) // without a twin on the host
	glueLine   = regexp.MustCompile(`(?m)^\s*\{"(\w+)", \d+, `)
)

// Every kernel in the sources has a case, and a case names only kernels that are there.
func TestEveryKernelHasACase(t *testing.T) {
	var sources []string
	find := func(pattern string, line *regexp.Regexp) {
		files, err := filepath.Glob(filepath.Join("..", "..", "..", pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files for %s: %v", pattern, err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range line.FindAllSubmatch(text, -1) {
				sources = append(sources, string(m[1]))
			}
		}
	}
	find("kernels/*.cu", kernelLine)
	find("kernels/*.cu", gpuLine)
	find("csrc/onednn/*.cc", glueLine)
	d := testkit.Open(t)
	sources = append(sources, d.Kernels()...)
	var covered []string
	for _, c := range cases.All() {
		if len(c.Tests) == 0 || len(c.Benches) == 0 {
			t.Errorf("case %s has no shapes to test or none to time", c.Name)
		}
		for _, k := range c.Kernels {
			if !slices.Contains(sources, k) {
				t.Errorf("case %s is of %s, which no source defines", c.Name, k)
			}
		}
		covered = append(covered, c.Kernels...)
	}
	for _, k := range sources {
		covers := func(name string) bool { return k == name || strings.HasPrefix(k, name+"_") }
		if !slices.ContainsFunc(covered, covers) {
			t.Errorf("kernel %s has no case", k)
		}
	}
}
