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
	t := &barTask{owner: b, name: name, total: total, start: time.Now()}
	after := []decor.Decorator{
		decor.CountersNoUnit(" %d/%d"),
		decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}), ""),
	}
	if total <= 0 {
		after = []decor.Decorator{decor.CurrentNoUnit(" %d"), decor.Elapsed(decor.ET_STYLE_GO, decor.WC{W: 8})}
	}
	after = append(after, decor.Any(func(decor.Statistics) string { return t.text() }))
	t.bar = b.p.AddBar(int64(total),
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(name, decor.WC{C: decor.DindentRight | decor.DextraSpace | decor.DSyncWidth})),
		mpb.AppendDecorators(after...),
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
	total int
	start time.Time

	mu     sync.Mutex
	done   int
	detail string
	ended  bool
}

func (t *barTask) Add(n int) {
	t.mu.Lock()
	t.done += n
	// A bar that reaches its total vanishes, and whether the phase has ended Done says.
	whole := t.total > 0 && t.done >= t.total
	t.mu.Unlock()
	if !whole {
		t.bar.IncrBy(n)
	}
}

func (t *barTask) Detail(format string, args ...any) {
	t.mu.Lock()
	t.detail = fmt.Sprintf(format, args...)
	t.mu.Unlock()
}

func (t *barTask) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.detail == "" {
		return ""
	}
	return "  " + t.detail
}

func (t *barTask) Done() {
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return
	}
	t.ended = true
	how := progress.Ended(t.done, t.total, time.Since(t.start))
	t.mu.Unlock()
	t.owner.mu.Lock()
	delete(t.owner.open, t)
	t.owner.mu.Unlock()
	t.owner.Note("%s: %s%s", t.name, how, t.text())
	t.bar.Abort(true)
}
