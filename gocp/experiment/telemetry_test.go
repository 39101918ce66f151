package experiment

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/telemetry"
)

// heater uses a joule between any two samples, and 7 W.
type heater struct {
	mu     sync.Mutex
	joules float64
}

func (h *heater) Sample() []telemetry.Reading {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.joules++
	e, p := h.joules, 7.0
	return []telemetry.Reading{{Kind: "gpu", ID: "h", Name: "heater", Energy: &e, Power: &p}}
}

func (h *heater) Close() error { return nil }

// The parts of a run that is stopped again and again add up to all that was used.
func TestTelemetryOfAResumedAudit(t *testing.T) {
	dev := testkit.Open(t)
	dir := filepath.Join(t.TempDir(), "run")
	c := tiny()
	c.Workers = 2
	var joules float64
	var tally progress.Tally
	for stops := 0; ; stops++ {
		ctx, cancel := context.WithCancel(context.Background())
		h := new(heater)
		m := telemetry.Start(ctx, h, 5*time.Millisecond)
		stopAfter := &stopper{left: 120, cancel: cancel}
		res, err := Audit(ctx, dev, c, tinyData(t), Options{Dir: dir, Resume: true, Progress: stopAfter, Meter: m, Tally: &tally})
		left := m.Take() // what Audit did not write down: the time after it
		if err := m.Stop(); err != nil {
			t.Fatal(err)
		}
		cancel()
		joules += h.joules - 1 // the first sample is where the counter begins
		if left != nil {
			joules -= left.Joules
		}
		joules-- // and the last is Stop's
		if err != nil {
			if !errors.Is(err, context.Canceled) || stops > 50 {
				t.Fatal(err)
			}
			continue
		}
		if stops < 1 {
			t.Errorf("stopped %d times", stops)
		}
		check(t, res, joules, c.Workers*stops)
		counts := tally.Counts()
		if n := counts[TallyJobs]; n > 5+2+2*5 || n < 5+2+2*5-c.Workers*stops || counts[TallyPlanned] <= n || counts[TallyPoisons] != 2*16 || counts[TallySteps] < 2*4 || counts[TallyEpochs] < 15*20 {
			t.Errorf("counted %v", counts)
		}
		back, err := result.Load(dir)
		if err != nil || back.Telemetry == nil || back.Telemetry.Joules != res.Telemetry.Joules {
			t.Errorf("read again: %+v, %v", back, err)
		}
		return
	}
}

// check compares with what was used. A model whose file is written when the run is stopped is not
// trained again, and not counted.
func check(t *testing.T, res *result.Result, joules float64, uncounted int) {
	t.Helper()
	got := res.Telemetry
	if got == nil || len(got.Devices) != 1 || got.Devices[0].Name != "heater" || got.Devices[0].Power.Mean != 7 {
		t.Fatalf("telemetry: %+v", got)
	}
	if math.Abs(got.Joules-joules) > 1e-6 || math.Abs(got.Devices[0].Joules-joules) > 1e-6 {
		t.Errorf("%v J, of the device %v; used were %v", got.Joules, got.Devices[0].Joules, joules)
	}
	counts := map[string]int{}
	var ofJobs float64
	for _, w := range got.Work {
		counts[w.Name] = w.Count
		ofJobs += w.Joules
		if w.Joules <= 0 || w.Seconds <= 0 {
			t.Errorf("%+v", w)
		}
	}
	if counts["craft"] != 2*16 || counts["train victim"]+counts["train surrogate"] > 2*5+2 || counts["train victim"]+counts["train surrogate"] < 2*5+2-uncounted || ofJobs > joules || got.JoulesPerPoison <= 0 {
		t.Errorf("jobs %v, %v J of them", got.Work, ofJobs)
	}
}

// Without a meter there is no telemetry, and no file.
func TestNoTelemetry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	c := tiny()
	c.Repeats, c.Victims, c.References, c.Conditions = 1, 1, 1, []result.Condition{result.Attack}
	res := audit(t, testkit.Open(t), c, dir)
	if _, err := os.Stat(filepath.Join(dir, result.TelemetryFile)); res.Telemetry != nil || !os.IsNotExist(err) {
		t.Errorf("%+v, %v", res.Telemetry, err)
	}
}
