package main

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/result"
)

// A profiler sees an audit as phases, repeats, steps and layers, one inside the other, and the audit
// ends with the same bytes.
func TestRanges(t *testing.T) {
	dir := workFolder(t)
	flags := append(slices.Clone(tinyAudit), "--quiet")
	succeeds(t, dir, append(slices.Clone(flags), "--out", "plain")...)
	library, err := filepath.Abs("../../build/cpp/libnvtxrecord.so")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(library); err != nil {
		t.Fatalf("%v; make lib builds it", err)
	}
	t.Setenv("NVTX_INJECTION64_PATH", library)
	t.Setenv("NVTX_RECORD", filepath.Join(dir, "ranges"))
	succeeds(t, dir, append(slices.Clone(flags), "--out", "seen")...)
	if !bytes.Equal(read(t, dir, "plain", result.File), read(t, dir, "seen", result.File)) {
		t.Error("a profiler changes the result")
	}

	open := map[string][]string{} // by thread
	running := map[string]string{}
	seen := map[string]int{} // how often each path of names was seen
	for line := range strings.Lines(string(read(t, dir, "ranges"))) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		switch f[0] {
		case "push":
			open[f[1]] = append(open[f[1]], f[2])
			seen[strings.Join(open[f[1]], " / ")]++
		case "pop":
			if len(open[f[1]]) == 0 {
				t.Fatalf("%s ends a range that did not begin", line)
			}
			open[f[1]] = open[f[1]][:len(open[f[1]])-1]
		case "start":
			running[f[1]] = f[2]
			seen[f[2]]++
		case "end":
			delete(running, f[1])
		}
	}
	for thread, names := range open {
		if len(names) > 0 {
			t.Errorf("thread %s ended inside %q", thread, names)
		}
	}
	if len(running) > 0 {
		t.Errorf("never ended: %v", running)
	}
	for path, want := range map[string]int{
		"phase benign models": 1, "phase poisons": 1, "phase victims": 1,
		"train surrogate-0 / epoch 15 / step 9":                                                           1, // the last, a full batch of 16
		"repeat 0 / train victim-000-attack-1 / epoch 0 / step 0 / record a step / forward / layer conv1": 1,
		"repeat 0 / train victim-000-attack-1 / epoch 0 / step 0 / record a step / backward / layer fc2":  1,
		"repeat 1 / train victim-001-randga-0 / predict":                                                  2, // calibration and test images
		"repeat 1 / train victim-001-randga-0 / predict / forward / layer fc1":                            3, // batches of 128
		"repeat 1 / craft / step 3":                                                                       1,
		"repeat 1 / craft / record a step / forward / layer conv1":                                        -1,
		"repeat 0 / surrogates":                                                                           1,
		"repeat 0 / bases":                                                                                1,
	} {
		if n := seen[path]; n != want && (want >= 0 || n == 0) {
			t.Errorf("%q was seen %d times, want %d", path, n, want)
		}
	}
	if t.Failed() {
		for _, path := range slices.Sorted(maps.Keys(seen)) {
			if !strings.Contains(path, " / epoch ") {
				t.Logf("%4d %s", seen[path], path)
			}
		}
	}
}
