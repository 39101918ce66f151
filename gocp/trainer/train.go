package trainer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gocp/gocp/gocp/atomicfile"
)

// Options say how a program is run; none of them may change what it answers.
type Options struct {
	Limit   time.Duration // 0: none
	Devices []int         // GPUs that are its own, as CUDA counts them; none: it is to compute on the processor
}

// grace is how long a program that is told to end has to do so.
const grace = 5 * time.Second

// Train makes dir, which must not be there, the folder of the job, runs the command in it and reads
// what it answered. Its errors are one sentence that begins with the command; dir stays as the program
// left it. Done on the context, it ends the program and all that it started.
func (c Command) Train(ctx context.Context, dir string, j Job, o Options) (*Answer, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		return nil, atomicfile.Explain(dir, err)
	}
	if err := j.write(dir); err != nil {
		return nil, err
	}
	if err := c.run(ctx, dir, j.Seed, o); err != nil {
		return nil, err
	}
	a, err := read(dir, j)
	if err != nil {
		return nil, fmt.Errorf("%s %w", c, err)
	}
	return a, nil
}

func (c Command) run(ctx context.Context, dir string, seed uint64, o Options) error {
	output, err := os.Create(filepath.Join(dir, OutputFile))
	if err != nil {
		return err
	}
	defer output.Close()
	limited, cancel := ctx, context.CancelFunc(func() {})
	if o.Limit > 0 {
		limited, cancel = context.WithTimeout(ctx, o.Limit)
	}
	defer cancel()
	cmd := exec.CommandContext(limited, c.Words[0], c.Words[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, output, output
	cmd.Env = append(os.Environ(), "GOCP_JOB="+dir, "GOCP_SEED="+strconv.FormatUint(seed, 10), "GOCP_DEVICES="+numbers(o.Devices))
	// A group of its own, so that what the program starts ends with it, and the end of gocp, even by
	// SIGKILL, is its end. That signal comes when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	err = cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case limited.Err() != nil:
		return fmt.Errorf("%s took longer than %v and was ended%s", c, o.Limit, lastLines(output))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%s ended with %w%s", c, err, lastLines(output))
	}
	return fmt.Errorf("%s: %w", c, unwrapped(err))
}

func numbers(devices []int) string {
	var words []string
	for _, d := range devices {
		words = append(words, strconv.Itoa(d))
	}
	return strings.Join(words, ",")
}

// How much of a program's output an error shows.
const (
	shownLines = 6
	shownBytes = 2000
)

// lastLines is the end of a program's output, for a sentence.
func lastLines(f *os.File) string {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return ""
	}
	b := make([]byte, min(size, shownBytes))
	if _, err := f.ReadAt(b, size-int64(len(b))); err != nil {
		return ""
	}
	var lines []string
	for line := range bytes.Lines(b) {
		if text := strings.TrimSpace(strings.ToValidUTF8(string(line), "?")); text != "" {
			lines = append(lines, text)
		}
	}
	if len(lines) == 0 {
		return "; it said nothing"
	}
	lines = slices.Clone(lines[max(0, len(lines)-shownLines):])
	return "; its last lines: " + strings.Join(lines, " | ")
}
