package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/trainer/trainertest"
)

// The test binary is gocp itself where this is set: flags, exit statuses and the second start that
// --device makes are then those of a real process.
const asGocp = "GOCP_TEST_AS_GOCP"

func TestMain(m *testing.M) {
	trainertest.Main()
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

// self is this test's program.
func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// gocp runs the command line in the folder dir.
func gocp(t *testing.T, dir string, args ...string) outcome {
	t.Helper()
	cmd := exec.Command(self(t), args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asGocp+"=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
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
		{"unknown subcommand", []string{"data", "frobnicate"}, `there is no command "frobnicate"; known: `},
		{"unknown flag of a command with many", []string{"audit", "--gaol", "add"}, `there is no flag "--gaol"; known: --add-count, `},
		{"flag without its value", []string{"audit", "--out"}, `the flag --out needs a value`},
		{"no number", []string{"audit", "--steps", "many"}, `invalid value "many" for flag -steps`},
		{"audit without a folder", []string{"audit"}, `needs a folder to write`},
		{"unknown goal", []string{"audit", "--out", "x", "--goal", "chaos"}, `(known: overconfidence, `},
		{"unknown score", []string{"audit", "--out", "x", "--score", "best"}, `score "best" can't be attacked here (known: hps, aps, raps)`},
		{"score that can't be attacked", []string{"audit", "--out", "x", "--score", "margin"}, `(known: hps, aps, raps)`},
		{"unknown precision", []string{"audit", "--out", "x", "--precision", "f16"}, `(known: f32, bf16, tf32, auto)`},
		{"precision of a GPU on the CPU", []string{"audit", "--out", "x", "--device", "cpu", "--precision", "tf32"}, `precision tf32 is a rounding of GPUs, and this runs on the CPU: take f32, bf16 or auto`},
		{"precision of a GPU to train with on the CPU", []string{"train", "--out", "x", "--device", "cpu", "--precision", "tf32"}, `precision tf32 is a rounding of GPUs`},
		{"unknown bases", []string{"audit", "--out", "x", "--bases", "best"}, `(known: nearest, random, gradnorm, alignment)`},
		{"unknown condition", []string{"audit", "--out", "x", "--conditions", "attack,luck"}, `unknown condition "luck"`},
		{"unknown data", []string{"audit", "--out", "x", "--data", "imagenot"}, `is neither a known data set nor a file or folder; the known ones are cifar10-sample`},
		{"unknown device", []string{"audit", "--out", "x", "--device", "tpu"}, `there is no device "tpu"; known: auto, cpu, cuda`},
		{"device that is not there", []string{"audit", "--out", "x", "--device", "cpu", "--devices", "0,1"}, `there is no device 1; they are counted from 0 to 0`},
		{"device twice", []string{"audit", "--out", "x", "--device", "cpu", "--devices", "0,0"}, `device 0 is there twice`},
		{"devices that are no list", []string{"audit", "--out", "x", "--device", "cpu", "--devices", "both"}, `--devices: "both" is no list`},
		{"no steps", []string{"audit", "--out", "x", "--steps", "0"}, `--steps is 0; it must be at least 1`},
		{"budget above 1", []string{"audit", "--out", "x", "--budget", "2"}, `budget "2"`},
		{"budget of no image", []string{"audit", "--out", "x", "--budget", "0.00001"}, `is less than one image`},
		{"label that is none", []string{"audit", "--out", "x", "--goal", "add", "--labels", "catt"}, `label catt is neither the name nor the number of a class`},
		{"label out of range", []string{"audit", "--out", "x", "--goal", "add", "--labels", "10"}, `label 10 is neither the name nor the number of a class`},
		{"too few to calibrate on", []string{"audit", "--out", "x", "--cal-size", "20", "--miscoverage", "0.01"}, `are too few for miscoverage 0.01`},
		{"miscoverage that is none", []string{"audit", "--out", "x", "--miscoverage", "1.5"}, `1.5`},
		{"more images than there are", []string{"audit", "--out", "x", "--train-size", "50000"}, `the training part has 12000 images`},
		{"more than there are, as the most that would do", []string{"audit", "--out", "x", "--train-size", "9000"}, `has 12000 images; victim and adversary need 20000 (9000 to train and 1000 to calibrate on, each); the most that they are enough for is --train-size 5400 with --cal-size 600`},
		{"more than there are, with a calibration of one's own", []string{"audit", "--out", "x", "--train-size", "5900", "--cal-size", "200"}, `--train-size 5800 with --cal-size 200`},
		{"budget larger than the class", []string{"audit", "--out", "x", "--budget", "0.3"}, `budget 0.3 is 1350 poisons; victim and adversary have images of the classes that these come from for `},
		{"poisons of fewer images than labels", []string{"audit", "--out", "x", "--goal", "underconfidence", "--budget", "0.0005"}, `budget 0.0005 of 4500 training images is 2 poisons, and poisons come from 4 classes at least`},
		{"ball below a level of 8 bits", []string{"audit", "--out", "x", "--epsilon", "0.4"}, `so that the ball holds a step of the 8-bit grid`},
		{"sets of more labels than there are", []string{"audit", "--out", "x", "--set-size", "11"}, `goal overconfidence for sets of 11 labels has no targets`},
		{"nothing to remove that leaves a class", []string{"audit", "--out", "x", "--goal", "remove", "--labels", "0,1,2,3,4,5,6,7,8,9"}, `has no targets`},
		{"condition twice", []string{"audit", "--out", "x", "--conditions", "attack,randun,attack"}, `condition attack is there twice`},
		{"momentum that is none", []string{"audit", "--out", "x", "--momentum", "1"}, `momentum 1; it must be in [0,1)`},
		{"shift out of sight", []string{"audit", "--out", "x", "--shift", "32"}, `shifts of up to 32 pixels move images of 32x32 out of sight`},
		{"more targets than one class has", []string{"audit", "--out", "x", "--targets", "450", "--repeats", "4"}, `are enough for 0 of 4 repeats of 450 targets of one class; lower --repeats or give more --candidates`},
		{"a model into no folder", []string{"train", "--out", "none/x.safetensors"}, `none/x.safetensors: its folder does not exist; make it first`},
		{"resume of nothing", []string{"audit", "--out", "x", "--resume"}, `x is not a run folder`},
		{"configuration that is not there", []string{"audit", "--out", "x", "--config", "none.json"}, `none.json`},
		{"report of nothing", []string{"report", "x"}, `x holds no finished run`},
		{"report of two", []string{"report", "x", "y"}, `takes one argument, but got "y" too`},
		{"format of no figures", []string{"report", "x", "--format", "pdf"}, `there is no --figures`},
		{"report without a folder", []string{"report"}, `gocp report needs the folder of a finished run`},
		{"range that is none", []string{"train", "--out", "x", "--take", "9:3"}, `--take: "9:3" is no range`},
		{"range past the end", []string{"train", "--out", "x", "--take", "0:99999"}, `it has 12000`},
		{"unknown split", []string{"train", "--out", "x", "--split", "validation"}, `no split is called "validation"; there is train and test`},
		{"threads that are none", []string{"train", "--out", "x", "--threads", "0"}, `--threads is 0; it must be at least 1`},
		{"memory without a unit", []string{"audit", "--out", "x", "--memory", "4"}, `--memory is "4", no size such as 4GiB`},
		{"memory for nothing", []string{"audit", "--out", "x", "--memory", "2MiB", "--workers", "2"}, `training a victim needs at least`},
		{"model that is not there", []string{"calibrate", "--model", "none.safetensors", "--out", "x"}, `none.safetensors`},
		{"attack without a surrogate", []string{"attack", "--out", "x", "--target", "1", "--calibration", ":500"}, `needs --surrogate`},
		{"set that cannot be fetched", []string{"data", "fetch", "imagenet"}, `what can be fetched is cifar10`},
		{"export of nothing", []string{"data", "export", "nothing", "--out", "x"}, `"nothing" is neither a known data set nor a file or folder`},
		{"compute without a model", []string{"compute", "logits"}, `--model`},
		{"argument too many", []string{"version", "please"}, `takes no argument, but got "please"`},
		{"flag that is no truth value", []string{"version", "--json=perhaps"}, `invalid boolean value "perhaps"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { refuses(t, t.TempDir(), c.want, c.args...) })
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "unknown.json", []byte(`{"seeds": 1}`))
	write(t, dir, "broken.json", []byte(`{"seed": `))
	write(t, dir, "two.json", []byte(`{} {}`))
	write(t, dir, "wrong.json", []byte(`{"steps": "many", "repeats": "x"}`))
	write(t, dir, "photos/train/cat/1.jpg", []byte("\xff\xd8\xff\xe0 and no more"))
	write(t, dir, "photos/train/dog/1.jpg", []byte("\xff\xd8\xff\xe0 and no more"))
	write(t, dir, "cut.npz", []byte("PK\x03\x04"))
	write(t, dir, "cut.tar.gz", []byte("\x1f\x8b\x08"))
	write(t, dir, "notes.txt", []byte("not a data set"))
	write(t, dir, "run/result.json", []byte(`{"schema": 1}`))
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"unknown field", []string{"audit", "--out", "x", "--config", "unknown.json"}, `unknown.json: json: unknown field "seeds"`},
		{"broken configuration", []string{"audit", "--out", "x", "--config", "broken.json"}, `broken.json`},
		{"two configurations", []string{"audit", "--out", "x", "--config", "two.json"}, `after top-level value`},
		{"wrong type", []string{"audit", "--out", "x", "--config", "wrong.json"}, `wrong.json`},
		{"corrupt JPEG", []string{"data", "info", "photos"}, `1.jpg`},
		{"truncated npz", []string{"data", "info", "cut.npz"}, `cut.npz`},
		{"truncated tar", []string{"data", "info", "cut.tar.gz"}, `cut.tar.gz`},
		{"no data set", []string{"data", "info", "notes.txt"}, `unknown format`},
		{"broken result", []string{"report", "run"}, `run: result.json`},
	} {
		t.Run(c.name, func(t *testing.T) { refuses(t, dir, c.want, c.args...) })
	}
}

func TestDevice(t *testing.T) {
	t.Setenv("GOCP_LIBCUDA", "libno-such-driver.so")
	t.Setenv("GOCP_DEVICE", "")
	o := gocp(t, t.TempDir(), "doctor", "--device", "cuda")
	if o.code != exitFailed || strings.Count(o.stderr, "\n") != 1 || !strings.HasPrefix(o.stderr, "gocp: --device cuda: libno-such-driver.so") {
		t.Errorf("--device cuda without a driver: %+v", o)
	}
	for _, name := range []string{"cpu", "auto"} {
		o := gocp(t, t.TempDir(), "doctor", "--device", name)
		if o.code != exitOK || !strings.Contains(o.stdout, "computes on") || !strings.Contains(o.stdout, "oneDNN") || o.stderr != "" {
			t.Errorf("--device %s: %+v", name, o)
		}
	}
	o = gocp(t, t.TempDir(), "doctor", "--device", "cpu", "--json")
	if !strings.Contains(o.stdout, `"backend": "host"`) || !strings.Contains(o.stdout, `GOCP_DEVICE=cpu`) {
		t.Errorf("%+v", o)
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
