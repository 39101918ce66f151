// Package twin gives a test that runs on a GPU the same computation on the host engine. The back end
// is chosen before main, so the twin is another process: the test binary again, with
// GOCP_DEVICE=cpu, running the one test that asks.
//
// Where the host is slow, or of another kind, twins can be computed elsewhere: GOCP_DEVICE=cpu and
// GOCP_TEST_TWIN=FOLDER/ leave every test's result in the folder, and GOCP_TEST_TWINS=FOLDER takes them
// from there (scripts/gpu-kit.sh).
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

const (
	results = "GOCP_TEST_TWIN"  // the twin's file of results, or a folder for those of many tests, with a "/" behind it
	folder  = "GOCP_TEST_TWINS" // of results that are there already
)

// inFolder is the file of a test's results in a folder of many packages' ones.
func inFolder(dir, test string) string {
	return filepath.Join(dir, strings.ReplaceAll(filepath.Base(os.Args[0])+"."+test, "/", ".")+".gob")
}

// OnHost returns what compute gives on the host engine, if this process is on a GPU, and whether it is.
// It must come before anything that takes long: in the twin the test ends here. T must have only
// exported fields (encoding/gob).
func OnHost[T any](t *testing.T, onGPU bool, compute func() T) (host T, ok bool) {
	t.Helper()
	if path := os.Getenv(results); path != "" {
		if strings.HasSuffix(path, "/") {
			path = inFolder(path, t.Name())
		}
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
	if dir := os.Getenv(folder); dir != "" {
		if err := read(inFolder(dir, t.Name()), &host); err != nil {
			t.Fatalf("%s: %v", folder, err)
		}
		return host, true
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
	if err := read(path, &host); err != nil {
		t.Fatalf("on the host engine: %v\n%s", err, said)
	}
	return host, true
}

func read(path string, to any) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return gob.NewDecoder(f).Decode(to)
}
