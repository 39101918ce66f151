package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/gocp/gocp/gocp/slurm"
)

// warning is the signal by which a batch system says that the time of a job will soon be over.
const warning = syscall.SIGUSR1

// signalled is why a context is done. It is context.Canceled.
type signalled struct{ os.Signal }

func (signalled) Error() string   { return context.Canceled.Error() }
func (s signalled) Unwrap() error { return context.Canceled }

// signals is a context that is done at the first SIGINT, SIGTERM or SIGUSR1. A second signal ends the
// process at once, but for those that come of the first: Slurm warns, then a requeue sends SIGTERM.
func signals() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	come := make(chan os.Signal, 8)
	signal.Notify(come, os.Interrupt, syscall.SIGTERM, warning)
	go func() {
		for s := range come {
			switch {
			case ctx.Err() == nil:
				cancel(signalled{s})
			case s == warning || warned(ctx) && s == syscall.SIGTERM:
			default:
				signal.Reset(s)
				_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
			}
		}
	}()
	return ctx, func() {
		signal.Stop(come)
		close(come)
		cancel(nil)
	}
}

// warned tells whether ctx is done because of a batch system's warning.
func warned(ctx context.Context) bool {
	var s signalled
	return errors.As(context.Cause(ctx), &s) && s.Signal == warning
}

// requeue lets Slurm start this task again, if it is one, which goes on where this process stopped.
func requeue(stderr io.Writer) {
	task := slurm.Current()
	switch did, err := task.Requeue(context.Background()); {
	case err != nil:
		fmt.Fprintf(stderr, "gocp: task %s is not requeued: %v\n", task.Name(), err)
	case did:
		fmt.Fprintf(stderr, "gocp: task %s is requeued\n", task.Name())
	}
}
