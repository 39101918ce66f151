package trainer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// The test binary is a program that trains where its first argument is this word.
const program = "as-trainer"

// The test binary is a process that has a model trained in the folder that this variable names.
const parent = "GOCP_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parent); dir != "" && len(os.Args) == 1 {
		c, err := Resolve([]string{"sh", "-c", "echo $$; exec sleep 1000"})
		if err == nil {
			_, err = c.Train(context.Background(), dir, tinyJob(), Options{})
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == program {
		if err := behave(os.Args[2:]...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// leave writes numbers as name.npy.
func leave(name string, a *npy.Array) error {
	return atomicfile.Write(name+".npy", func(w io.Writer) error { return npy.Write(w, a) })
}

// ramp is n×k logits that are all different.
func ramp(n, k int) []float64 {
	x := make([]float64, n*k)
	for i := range x {
		x[i] = float64(i) / 8
	}
	return x
}

// behave does what its first argument says, right or wrong. The job is that of the tests.
func behave(args ...string) error {
	both := func(kind string, calibration, test *npy.Array) error {
		if err := leave("calibration_"+kind, calibration); err != nil {
			return err
		}
		return leave("test_"+kind, test)
	}
	good := func() *npy.Array { return npy.Float64(ramp(3, 2), 3, 2) }
	even := func(n int) *npy.Array { return npy.Float64(slices.Repeat([]float64{.25, .75}, n), n, 2) }
	switch args[0] {
	case "logits":
		fmt.Println("epoch 1")
		return both("logits", good(), npy.Float64(ramp(4, 2), 4, 2))
	case "float32":
		return both("logits", npy.Float32(make([]float32, 6), 3, 2), npy.Float32(make([]float32, 8), 4, 2))
	case "probabilities":
		return both("probabilities", even(3), even(4))
	case "environment":
		for _, name := range []string{"GOCP_JOB", "GOCP_SEED", "GOCP_DEVICES"} {
			fmt.Printf("%s=%s\n", name, os.Getenv(name))
		}
		dir, err := os.Getwd()
		fmt.Printf("in %s with %q\n", dir, args[1:])
		return errors.Join(err, both("logits", good(), npy.Float64(ramp(4, 2), 4, 2)))
	case "swapped":
		return both("logits", npy.Float64(ramp(4, 2), 4, 2), good())
	case "transposed":
		return both("logits", npy.Float64(ramp(2, 3), 2, 3), npy.Float64(ramp(4, 2), 4, 2))
	case "classes":
		return both("logits", good(), npy.Float64(ramp(4, 3), 4, 3))
	case "labels":
		return both("logits", good(), npy.Int64(make([]int64, 4), 4))
	case "integers":
		return both("logits", good(), npy.Int64(make([]int64, 8), 4, 2))
	case "nan":
		x := ramp(4, 2)
		x[5] = math.NaN()
		return both("logits", good(), npy.Float64(x, 4, 2))
	case "no probabilities":
		return both("probabilities", even(3), npy.Float64(ramp(4, 2), 4, 2))
	case "calibration alone":
		return leave("calibration_logits", good())
	case "two kinds":
		return errors.Join(leave("calibration_logits", good()), leave("test_probabilities", even(4)))
	case "both kinds":
		return errors.Join(both("logits", good(), npy.Float64(ramp(4, 2), 4, 2)), both("probabilities", even(3), even(4)))
	case "nothing":
		return nil
	case "another name":
		return leave("logits", good())
	case "half a file":
		return errors.Join(leave("test_logits", good()), os.WriteFile("calibration_logits.npy", []byte("\x93NUMPY\x01\x00"), 0o666))
	case "fails":
		for i := range 20 {
			fmt.Printf("line %d\n\n", i)
		}
		return errors.New("ValueError: no GPU")
	case "silent":
		os.Exit(4)
	case "killed":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "sleeps":
		fmt.Println("epoch 1")
		time.Sleep(time.Hour)
	}
	return fmt.Errorf("no such behaviour: %q", args)
}

func tinyJob() Job {
	return Job{H: 2, W: 1, C: 3, Classes: []string{"cat", "dog"}, Seed: 5, Train: []uint8{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, Labels: []int32{1, 0},
		Calibration: make([]uint8, 18), Test: make([]uint8, 24)}
}

func self(t *testing.T, args ...string) Command {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Resolve(append([]string{path, program}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTrain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "jobs", "0")
	a, err := self(t, "logits").Train(t.Context(), dir, tinyJob(), Options{Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if a.Kind != Logits || a.K != 2 || !slices.Equal(a.Calibration, ramp(3, 2)) || !slices.Equal(a.Test, ramp(4, 2)) {
		t.Errorf("%+v", a)
	}
	if b, err := os.ReadFile(filepath.Join(dir, OutputFile)); err != nil || string(b) != "epoch 1\n" {
		t.Errorf("output %q, %v", b, err)
	}
	// What the program found.
	for name, want := range map[string]*npy.Array{"train_images": npy.Uint8(tinyJob().Train, 2, 2, 1, 3), "train_labels": npy.Int64([]int64{1, 0}, 2),
		"calibration_images": npy.Uint8(make([]uint8, 18), 3, 2, 1, 3), "test_images": npy.Uint8(make([]uint8, 24), 4, 2, 1, 3)} {
		got, err := npy.Load(filepath.Join(dir, name+".npy"))
		if err != nil || got.Type != want.Type || !slices.Equal(got.Shape, want.Shape) || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "job.json"))
	if err != nil {
		t.Fatal(err)
	}
	leaves, order, err := strictjson.Leaves(b)
	if err != nil || leaves["seed"] != "5" || leaves["classes"] != `["cat","dog"]` || leaves["test"] != "4" {
		t.Errorf("job.json: %v, %v", leaves, err)
	}
	if want := []string{"protocol", "seed", "classes", "height", "width", "channels", "train", "calibration", "test"}; !slices.Equal(order, want) {
		t.Errorf("job.json says %v; what is not %v could tell the condition", order, want)
	}
	if _, err := self(t, "logits").Train(t.Context(), dir, tinyJob(), Options{}); err == nil {
		t.Error("a folder that is there was taken for a new one")
	}
	for _, kind := range []string{"float32", "probabilities"} {
		a, err := self(t, kind).Train(t.Context(), filepath.Join(t.TempDir(), "x"), tinyJob(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, test, err := a.Probs()
		if want := map[string]float64{"float32": .5, "probabilities": .25}[kind]; err != nil || test.At(3, 0) != want {
			t.Errorf("%s: %+v, %v", kind, test, err)
		}
	}
}

func TestProgramsEnvironment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x")
	if _, err := self(t, "environment", "two words", "$HOME", "*").Train(t.Context(), dir, tinyJob(), Options{Devices: []int{1, 3}}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, OutputFile))
	if err != nil {
		t.Fatal(err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("GOCP_JOB=%s\nGOCP_SEED=5\nGOCP_DEVICES=1,3\nin %s with %q\n", dir, real, []string{"two words", "$HOME", "*"})
	if string(b) != want {
		t.Errorf("it saw\n%s\nwant\n%s", b, want)
	}
}

// Whatever a program does wrong is one sentence that says what.
func TestBadPrograms(t *testing.T) {
	for _, c := range []struct{ does, want string }{
		{"swapped", "left calibration_logits.npy of shape (4, 2); (3, 2) is due, a row for each image of calibration_images.npy"},
		{"transposed", "shape (2, 3); (3, 2) is due"},
		{"classes", "left test_logits.npy of shape (4, 3); (4, 2) is due"},
		{"labels", "left test_logits.npy of shape (4); (4, 2) is due"},
		{"integers", "left test_logits.npy of type i8; floating-point"},
		{"nan", "left test_logits.npy: logits of row 2: label 1 is NaN"},
		{"no probabilities", "left test_probabilities.npy: probabilities of row 0: they sum to 0.125"},
		{"calibration alone", "left no test_logits.npy (or test_probabilities.npy); it left calibration_logits.npy"},
		{"two kinds", "left calibration_logits.npy but no test_logits.npy; both are to be of one kind"},
		{"both kinds", "left both calibration_logits.npy and calibration_probabilities.npy"},
		{"nothing", "ended well but left no calibration_logits.npy (or calibration_probabilities.npy); it left no file at all"},
		{"another name", "; it left logits.npy"},
		{"half a file", "left a calibration_logits.npy that cannot be read: not a valid .npy file"},
		{"fails", "ended with exit status 3; its last lines: line 15 | line 16 | line 17 | line 18 | line 19 | ValueError: no GPU"},
		{"silent", "ended with exit status 4; it said nothing"},
		{"killed", "ended with signal: killed"},
		{"sleeps", "took longer than 300ms and was ended; its last lines: epoch 1"},
	} {
		t.Run(c.does, func(t *testing.T) {
			limit := time.Minute
			if c.does == "sleeps" {
				limit = 300 * time.Millisecond
			}
			_, err := self(t, c.does).Train(t.Context(), filepath.Join(t.TempDir(), "x"), tinyJob(), Options{Limit: limit})
			if err == nil || usage.Is(err) || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), filepath.Base(os.Args[0])+" "+program) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

// A program ends with what it was started for, and so does what it started itself.
func TestInterruptedProgramEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir := filepath.Join(t.TempDir(), "x")
	c, err := Resolve([]string{"sh", "-c", "sleep 1000 & echo $! $$; wait"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := c.Train(ctx, dir, tinyJob(), Options{})
		done <- err
	}()
	ids := started(t, dir, 2)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	ends(t, ids)
}

// ends reports processes that go on.
func ends(t *testing.T, ids []string) {
	t.Helper()
	for _, id := range ids {
		gone := false
		for range 200 {
			b, err := os.ReadFile("/proc/" + id + "/stat")
			if gone = err != nil || strings.Contains(string(b), ") Z "); gone {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if !gone {
			t.Errorf("process %s goes on", id)
		}
	}
}

// started are the process numbers that a program wrote.
func started(t *testing.T, dir string, n int) []string {
	t.Helper()
	for range 500 {
		b, _ := os.ReadFile(filepath.Join(dir, OutputFile))
		if ids := strings.Fields(string(b)); len(ids) == n && strings.HasSuffix(string(b), "\n") {
			return ids
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the program did not start in time")
	return nil
}

// A program does not outlive a gocp that was killed: the resumed run has its folder for itself.
func TestKilledParentsProgramEnds(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "x")
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), parent+"="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ids := started(t, dir, 1)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	ends(t, ids)
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{"train.py": "print()\n", "run.sh": "#!/bin/sh\n", "plain": ""} {
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod("run.sh", 0o777); err != nil {
		t.Fatal(err)
	}
	c, err := Resolve([]string{"sh", "train.py", "--lr", "0.1", "gone.py", "."})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"sh", filepath.Join(dir, "train.py"), "--lr", "0.1", "gone.py", "."}; !slices.Equal(c.Words, want) {
		t.Errorf("words %q, want %q", c.Words, want)
	}
	const sum = "d8594fa1268ecabc62af7c9e2449b8c46db0f426cd9aad384c67efe59e582b3e" // sha256sum train.py
	if len(c.Files) != 1 || c.Files[0] != (File{1, sum}) || c.String() != "sh train.py --lr 0.1 gone.py ." {
		t.Errorf("%+v, %s", c.Files, c)
	}
	if c, err = Resolve([]string{"./run.sh"}); err != nil || c.Words[0] != filepath.Join(dir, "run.sh") || len(c.Files) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, words := range [][]string{nil, {"run.sh"}, {"./gone"}, {"./plain"}, {"no-such-program-anywhere"}, {"sh", "a\x00b"}} {
		if _, err := Resolve(words); !usage.Is(err) {
			t.Errorf("%q: %v", words, err)
		}
	}
}
