package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/gocp/gocp/gocp/progress"
)

func quietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "show no progress"}
}

// newReporter shows progress on stderr: bars on a terminal, plain lines otherwise, nothing with
// --quiet. The caller calls close when the work has ended, before it prints anything else.
func newReporter(c *cli.Context) (r progress.Reporter, close func()) {
	w := c.App.ErrWriter
	if c.Bool("quiet") {
		return progress.Discard, func() {}
	}
	f, ok := w.(*os.File)
	if !ok || !cwriter.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return progress.Lines(w, 10*time.Second), func() {}
	}
	b := newBars(f)
	return b, b.close
}

// bars draws one bar for each phase that runs; a phase that ended leaves a line above them.
type bars struct {
	p *mpb.Progress

	mu   sync.Mutex
	open map[*barTask]bool
}

func newBars(w io.Writer) *bars {
	p := mpb.New(mpb.WithOutput(w), mpb.WithWidth(60), mpb.WithRefreshRate(200*time.Millisecond))
	return &bars{p: p, open: map[*barTask]bool{}}
}

func (b *bars) Note(format string, args ...any) {
	// A terminal that went away must not stop the work.
	_, _ = fmt.Fprintf(b.p, format+"\n", args...)
}

func (b *bars) Phase(name string, total int) progress.Task {
	t := &barTask{owner: b, name: name, meter: progress.Meter{Total: total, Start: time.Now()}}
	t.bar = b.p.AddBar(int64(total),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name, decor.WC{C: decor.DindentRight | decor.DextraSpace | decor.DSyncWidth})),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return " " + t.text() })),
	)
	b.mu.Lock()
	b.open[t] = true
	b.mu.Unlock()
	return t
}

// close takes down the bars of phases that were cut short and waits for the last drawing.
func (b *bars) close() {
	b.mu.Lock()
	for t := range b.open {
		t.bar.Abort(true)
	}
	b.mu.Unlock()
	b.p.Wait()
}

type barTask struct {
	owner *bars
	bar   *mpb.Bar
	name  string

	mu     sync.Mutex
	meter  progress.Meter
	detail string
	ended  bool
}

func (t *barTask) Add(n int) {
	t.mu.Lock()
	t.meter.Add(n, time.Now())
	whole := t.meter.Whole()
	t.mu.Unlock()
	if whole {
		t.Done()
		return
	}
	t.bar.IncrBy(n)
}

func (t *barTask) Detail(format string, args ...any) {
	t.mu.Lock()
	t.detail = fmt.Sprintf(format, args...)
	t.mu.Unlock()
}

// text is what stands beside the bar.
func (t *barTask) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.meter.State(time.Now())
	if t.detail != "" {
		s += ", " + t.detail
	}
	return s
}

func (t *barTask) Done() {
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return
	}
	t.ended = true
	line := t.name + ": " + t.meter.Ended(time.Now())
	if t.detail != "" {
		line += ", " + t.detail
	}
	t.mu.Unlock()
	t.owner.mu.Lock()
	delete(t.owner.open, t)
	t.owner.mu.Unlock()
	t.owner.Note("%s", line)
	t.bar.Abort(true)
}
