// Package twin gives a test that runs on a GPU the same computation on the host engine. The back end
// is chosen before main, so the twin is another process: the test binary again, with
// GOCP_DEVICE=cpu, running the one test that asks.
package twin

import (
	"encoding/gob"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// results names the twin's file of results in its environment.
const results = "GOCP_TEST_TWIN"

// OnHost returns what compute gives on the host engine, if this process is on a GPU, and whether it is.
// It must come before anything that takes long: in the twin the test ends here. T must have only
// exported fields (encoding/gob).
func OnHost[T any](t *testing.T, onGPU bool, compute func() T) (host T, ok bool) {
	t.Helper()
	if path := os.Getenv(results); path != "" {
		f, err := os.Create(path)
		if err == nil {
			err = gob.NewEncoder(f).Encode(compute())
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.SkipNow()
	}
	if !onGPU {
		return host, false
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "twin")
	names := strings.Split(t.Name(), "/")
	for i, n := range names {
		names[i] = "^" + regexp.QuoteMeta(n) + "$"
	}
	cmd := exec.Command(self, "-test.count=1", "-test.run="+strings.Join(names, "/"))
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "GOCP_DEVICE=") && !strings.HasPrefix(e, "GOCP_CALLS=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "GOCP_DEVICE=cpu", results+"="+path)
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("on the host engine: %v\n%s", err, said)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatalf("on the host engine: %v\n%s", err, said)
	}
	defer f.Close()
	if err := gob.NewDecoder(f).Decode(&host); err != nil {
		t.Fatal(err)
	}
	return host, true
}
