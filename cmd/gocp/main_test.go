package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary is gocp itself where this is set: flags, exit statuses and the second start that
// --device makes are then those of a real process.
const asGocp = "GOCP_TEST_AS_GOCP"

func TestMain(m *testing.M) {
	if os.Getenv(asGocp) != "" {
		main()
	}
	os.Exit(m.Run())
}

// outcome is what a run of gocp left.
type outcome struct {
	code           int
	stdout, stderr string
}

// gocp runs the command line in the folder dir.
func gocp(t *testing.T, dir string, args ...string) outcome {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asGocp+"=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// refuses checks that a command line ends as wrong input must: status 2, one sentence that holds
// want, nothing on stdout, nothing written.
func refuses(t *testing.T, dir string, want string, args ...string) {
	t.Helper()
	before := listing(t, dir)
	o := gocp(t, dir, args...)
	line := strings.TrimSuffix(o.stderr, "\n")
	switch {
	case o.code != exitUsage:
		t.Errorf("status %d, want %d; stderr: %s", o.code, exitUsage, o.stderr)
	case line == "" || strings.Contains(line, "\n"):
		t.Errorf("stderr is not one line: %q", o.stderr)
	case !strings.Contains(line, want):
		t.Errorf("stderr %q does not hold %q", line, want)
	case o.stdout != "":
		t.Errorf("stdout: %q", o.stdout)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("files before:\n%s\nafter:\n%s", before, after)
	}
}

// listing names every file under dir with its size and time.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			b.WriteString(path + " " + info.ModTime().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBadCommandLines(t *testing.T) {
	cases := []struct {
		name string
		args []string
		want string // the sentence holds this
	}{
		{"unknown command", []string{"audti"}, `there is no command "audti"; known: `},
		{"unknown flag", []string{"version", "--jsno"}, `there is no flag "--jsno"; known: --json`},
		{"argument too many", []string{"version", "please"}, `takes no argument, but got "please"`},
		{"flag that is no truth value", []string{"version", "--json=perhaps"}, `invalid boolean value "perhaps"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { refuses(t, t.TempDir(), c.want, c.args...) })
	}
}

func TestVersion(t *testing.T) {
	o := gocp(t, t.TempDir(), "version", "--json")
	if o.code != exitOK || !strings.Contains(o.stdout, `"platform"`) || o.stderr != "" {
		t.Errorf("%+v", o)
	}
}

func TestHelp(t *testing.T) {
	o := gocp(t, t.TempDir(), "--help")
	if o.code != exitOK || !strings.Contains(o.stdout, "version") || o.stderr != "" {
		t.Errorf("%+v", o)
	}
	if bare := gocp(t, t.TempDir()); bare != o {
		t.Errorf("gocp alone: %+v, want the help", bare)
	}
}
