package csrc_test

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gorgonia.org/cu"

	"github.com/gocp/gocp/csrc"
)

func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("no %s", p)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// used lists the driver functions that gorgonia.org/cu calls, by the names it uses.
func used(t *testing.T) []string {
	t.Helper()
	dir := strings.TrimSpace(command(t, "", "go", "list", "-m", "-f", "{{.Dir}}", "gorgonia.org/cu"))
	comment := regexp.MustCompile(`(?m)//.*$`)
	inGo, inC := regexp.MustCompile(`\bC\.(cu[A-Z]\w*)`), regexp.MustCompile(`\b(cu[A-Z]\w*)\(`)
	own := map[string]bool{"cuDeviceGetAttributes": true, "cuLaunchAndSync": true, "cuAllocAndCopy": true} // its own C
	seen := map[string]bool{}
	var names []string
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		call := inC
		switch filepath.Ext(f.Name()) {
		case ".go":
			call = inGo
			if strings.HasSuffix(f.Name(), "_test.go") {
				continue
			}
		case ".c", ".h":
		default:
			continue
		}
		for _, m := range call.FindAllStringSubmatch(comment.ReplaceAllString(read(t, filepath.Join(dir, f.Name())), ""), -1) {
			if !own[m[1]] && !seen[m[1]] {
				seen[m[1]] = true
				names = append(names, m[1])
			}
		}
	}
	if len(names) < 150 {
		t.Fatalf("found only %d functions in %s", len(names), dir)
	}
	return names
}

// Every driver function that gorgonia.org/cu needs is in the table, and defined by the archive.
func TestSymbols(t *testing.T) {
	need(t, "go", "nm")
	versioned := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^#define (cu\w+) (cu\w+)$`).FindAllStringSubmatch(read(t, "cuda.h"), -1) {
		versioned[m[1]] = m[2]
	}
	table := map[string]bool{"cuInit": true}
	for _, m := range regexp.MustCompile(`GOCP_FN\((cu\w+),`).FindAllStringSubmatch(read(t, "driver/functions.inc"), -1) {
		table[m[1]] = true
	}
	defined := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m) T (cu\w+)$`).FindAllStringSubmatch(command(t, "", "nm", "../build/cpp/libgocp.a"), -1) {
		defined[m[1]] = true
	}
	wanted := used(t)
	for _, name := range wanted {
		symbol := name
		if v := versioned[name]; v != "" {
			symbol = v
		}
		if !table[symbol] || !defined[symbol] {
			t.Errorf("%s (%s): in the table %v, defined %v", name, symbol, table[symbol], defined[symbol])
		}
	}
	if len(table) != len(wanted) {
		t.Errorf("%d functions in the table, %d used", len(table), len(wanted))
	}
}

// What the host engine lacks answers so. (That its answers are right is gocp/device's tests'
// concern.)
func TestUnsupported(t *testing.T) {
	if csrc.Backend() != "host" {
		t.Skip("not the host engine")
	}
	if _, err := cu.CurrentCacheConfig(); err != cu.NotSupported {
		t.Errorf("CurrentCacheConfig: %v", err)
	}
	if _, err := cu.MemAlloc(1); err != cu.InvalidContext || csrc.LastError() == "" {
		t.Errorf("MemAlloc without a context: %v, %q", err, csrc.LastError())
	}
}

// Code that was compiled for one instruction set shares no symbol with the rest: the linker would
// keep one copy, and might keep the one that this processor cannot run.
func TestInstructionSetsApart(t *testing.T) {
	need(t, "nm")
	member := ""
	for _, line := range strings.Split(command(t, "", "nm", "-C", "../build/cpp/libgocp.a"), "\n") {
		if strings.HasSuffix(line, ".o:") {
			member = strings.TrimSuffix(line, ":")
			continue
		}
		weak := regexp.MustCompile(` [WVu] (.*)$`).FindStringSubmatch(line)
		if weak == nil || member != "kernels.cc.o" && member != "tiles.cc.o" || strings.HasPrefix(weak[1], "DW.ref.") {
			continue
		}
		if !regexp.MustCompile(`gocp_(winograd_)?(base|v3|v4)::`).MatchString(weak[1]) {
			t.Errorf("%s: %s", member, weak[1])
		}
	}
}

// The program must not export the driver's names, or it would answer the real driver's own calls.
func TestHidden(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if regexp.MustCompile(`^(cu[A-Z]|gocp)`).MatchString(s.Name) {
			t.Errorf("%s is exported", s.Name)
		}
	}
}

// cuda.h declares the interface that testdata/abi.txt records; so does the header of the toolkit
// that CUDA_HOME names, if it does.
func TestABI(t *testing.T) {
	need(t, "gcc")
	var c bytes.Buffer
	c.WriteString("#include <cuda.h>\n#include <stddef.h>\n")
	lines := 0
	for _, line := range strings.Split(read(t, "testdata/abi.txt"), "\n") {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		what := f[1]
		switch f[0] {
		case "size":
			what = "sizeof(" + f[1] + ")"
		case "offset":
			what = "offsetof(" + f[1] + ", " + f[2] + ")"
		}
		fmt.Fprintf(&c, "_Static_assert(%s == %s, %q);\n", what, f[len(f)-1], line)
		lines++
	}
	if lines < 300 {
		t.Fatalf("%d lines", lines)
	}
	file := filepath.Join(t.TempDir(), "abi.c")
	if err := os.WriteFile(file, c.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	command(t, "", "gcc", "-fsyntax-only", "-w", "-I.", file)
	if home := os.Getenv("CUDA_HOME"); home != "" {
		command(t, "", "gcc", "-fsyntax-only", "-w", "-I"+filepath.Join(home, "include"), file)
	}
}

func TestBuildHash(t *testing.T) {
	// A C++ build that ran meanwhile is no failure of this program.
	if stamp := read(t, "stamp.h"); strings.Contains(stamp, csrc.BuildHash()) {
		sum := sha256.Sum256([]byte(read(t, "../build/cpp/libgocp.a")))
		if got := fmt.Sprintf("%x", sum); got != csrc.BuildHash() {
			t.Errorf("linked with %s, the archive is %s", csrc.BuildHash(), got)
		}
	}
}

// A changed kernel, header or engine file, and a new kernel file, reach the program through cmake
// and go build; and nothing is relinked when nothing changed.
func TestNothingStale(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the engine")
	}
	need(t, "cmake", "go", "g++")
	dir := t.TempDir()
	copyTree := func(from, to string, keep func(path string) bool) {
		err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !keep(path) {
				return err
			}
			rel, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			dst := filepath.Join(dir, to, rel)
			if err := os.MkdirAll(filepath.Dir(dst), 0o777); err != nil {
				return err
			}
			return os.WriteFile(dst, b, 0o666)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	copyTree(".", "csrc", func(path string) bool {
		return !strings.HasPrefix(path, "stamp") && !strings.HasSuffix(path, "_test.go")
	})
	copyTree("../kernels", "kernels", func(path string) bool { return filepath.Base(path) == "block.cuh" })
	for _, file := range []string{"CMakeLists.txt", "scripts/gpu.sh", "scripts/cuda.txt"} {
		write(file, read(t, "../"+file))
	}
	write("kernels/first.cu", "#include \"block.cuh\"\nKERNEL first(int n, float* x) { LANES(i, n) x[i] = 1; }\n")
	write("go.mod", "module github.com/gocp/gocp\n\ngo 1.26\n")
	write("main.go", "package main\n\nimport \"github.com/gocp/gocp/csrc\"\n\nfunc main() { print(csrc.BuildHash()) }\n")

	build := func() string {
		t.Helper()
		command(t, dir, "cmake", "-S", ".", "-B", "build/cpp", "-DCMAKE_BUILD_TYPE=Release")
		command(t, dir, "cmake", "--build", "build/cpp")
		command(t, dir, "go", "build", "-o", "program", ".")
		hash := command(t, dir, "./program")
		if sum := sha256.Sum256([]byte(read(t, filepath.Join(dir, "build/cpp/libgocp.a")))); fmt.Sprintf("%x", sum) != hash {
			t.Errorf("the program was linked with %s, the archive is %x", hash, sum)
		}
		return hash
	}
	last := build()
	stamp, err := os.Stat(filepath.Join(dir, "csrc/stamp.h"))
	if err != nil {
		t.Fatal(err)
	}
	if build() != last {
		t.Error("a second build differs")
	}
	if again, err := os.Stat(filepath.Join(dir, "csrc/stamp.h")); err != nil || !again.ModTime().Equal(stamp.ModTime()) {
		t.Errorf("the stamp was written again (%v)", err)
	}
	for _, c := range []struct{ path, text string }{
		{"kernels/first.cu", "#include \"block.cuh\"\nKERNEL first(int n, float* x) { LANES(i, n) x[i] = 2; }\n"},
		{"kernels/block.cuh", read(t, "../kernels/block.cuh") + "\nstatic const char changed[] __attribute__((used)) = \"changed\";\n"},
		{"kernels/second.cu", "#include \"block.cuh\"\nKERNEL second(float* x) { *x = 3; }\n"},
		{"csrc/host/memory.cc", strings.Replace(read(t, "host/memory.cc"), "kGuard = 1024", "kGuard = 2048", 1)},
	} {
		write(c.path, c.text)
		hash := build()
		if hash == last {
			t.Errorf("%s changed and the program did not", c.path)
		}
		last = hash
	}
	symbols := command(t, dir, "nm", "-C", "build/cpp/libgocp.a")
	if !strings.Contains(symbols, "second") {
		t.Error("the new kernel is not in the archive")
	}
}
