package twin

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// callsFile is where csrc's front notes every driver call (csrc/driver/front.cc).
const callsFile = "GOCP_CALLS"

// Calls is the driver calls of this process.
type Calls struct{ path string }

// Counted returns the driver calls of this process, if they are noted: the front opens its file
// before main, so the test that asks is run in a process of its own, and gets nil when that has passed.
func Counted(t *testing.T) *Calls {
	t.Helper()
	if path := os.Getenv(callsFile); path != "" {
		return &Calls{path}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.count=1", "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), callsFile+"="+filepath.Join(t.TempDir(), "calls"))
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "--- PASS") {
		t.Fatalf("with its calls noted: %v\n%s", err, said)
	}
	return nil
}

// All lists the calls so far.
func (c *Calls) All(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

// Count is how often each of the calls with these names was made in a part of the list.
func Count(calls []string, names ...string) int {
	n := 0
	for _, c := range calls {
		if slices.Contains(names, c) {
			n++
		}
	}
	return n
}
