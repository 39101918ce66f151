package telemetry

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/result"
)

// script gives one list of readings after another, the last one for ever.
type script struct {
	steps  [][]Reading
	at     int
	closed int
	err    error
}

func (s *script) Sample() []Reading {
	r := s.steps[min(s.at, len(s.steps)-1)]
	s.at++
	return r
}

func (s *script) Close() error { s.closed++; return s.err }

func card(id string, power, energy float64) Reading {
	r := Reading{Kind: "gpu", ID: id, Name: "card " + id, Power: &power, Throttle: []string{"power_cap"}}
	if energy >= 0 {
		r.Energy = &energy
	}
	return r
}

type ticking struct{ t time.Time }

func (c *ticking) now() time.Time         { return c.t }
func (c *ticking) after(d float64)        { c.t = c.t.Add(time.Duration(d * float64(time.Second))) }
func same(a, b float64) bool              { return math.Abs(a-b) < 1e-9 }
func (c *ticking) begin(s Sampler) *Meter { c.t = time.Unix(50, 0); return newMeter(s, c.now) }
func work(t *result.Telemetry, name string) result.Work {
	for _, w := range t.Work {
		if w.Name == name {
			return w
		}
	}
	return result.Work{}
}

func TestMeter(t *testing.T) {
	var c ticking
	// One card counts energy, the other only tells its power.
	m := c.begin(&script{steps: [][]Reading{
		{card("a", 100, 5), card("b", 10, -1)},
		{card("a", 300, 405), card("b", 30, -1)},
		{card("a", 200, 505), card("b", 30, -1)},
		{card("a", 200, 705), card("b", 30, -1)},
	}})
	craft := m.Begin(result.WorkCraft)
	c.after(1)
	train := m.Begin("train victim")
	c.after(1)
	m.sample() // 400 J and 40 J in 2 s: 2/3 crafting, 1/3 training
	train(1)
	c.after(1)
	m.sample() // 100 J and 30 J, all crafting
	craft(10)
	c.after(1)
	got := m.Take() // 200 J and 30 J, no job
	if got.Seconds != 4 || !same(got.Joules, 800) {
		t.Errorf("%v s, %v J", got.Seconds, got.Joules)
	}
	if w := work(got, result.WorkCraft); !same(w.Joules, 440*2/3.+130) || w.Seconds != 3 || w.Count != 10 {
		t.Errorf("crafting: %+v", w)
	}
	if w := work(got, "train victim"); !same(w.Joules, 440/3.) || w.Seconds != 1 || w.Count != 1 {
		t.Errorf("training: %+v", w)
	}
	if !same(got.JoulesPerPoison, (440*2/3.+130)/10) {
		t.Errorf("%v J a poison", got.JoulesPerPoison)
	}
	a, b := got.Devices[0], got.Devices[1]
	if !same(a.Joules, 700) || !same(b.Joules, 100) || a.Samples != 4 || a.Throttled["power_cap"] != 4 {
		t.Errorf("a: %+v\nb: %+v", a, b)
	}
	// a has a counter, b tells its power alone.
	if a.FromPower != 0 || !same(b.FromPower, 100) || !same(got.FromPower, 100) {
		t.Errorf("from power: %v J of a, %v J of b, %v J in all", a.FromPower, b.FromPower, got.FromPower)
	}
	if a.Power.Max != 300 || !same(a.Power.Mean, (2*300+200+200)/4.) {
		t.Errorf("power of a: %+v", *a.Power)
	}
	// What was taken is gone; the next part begins where it ended.
	c.after(2)
	if next := m.Take(); next.Seconds != 2 || len(next.Work) != 0 || next.Devices[0].Joules != 0 {
		t.Errorf("the next part: %+v", next)
	}
}

// A device that falls off the bus keeps what it used until then, and the others go on.
func TestMeterLosesADevice(t *testing.T) {
	var c ticking
	gone := Reading{Kind: "gpu", ID: "a", Name: "card a", Lost: "it has fallen off the bus"}
	m := c.begin(&script{steps: [][]Reading{
		{card("a", 100, 0), card("b", 10, 0)},
		{card("a", 100, 50), card("b", 10, 10)},
		{gone, card("b", 10, 20)},
		{gone, card("b", 10, 30)},
	}})
	for range 3 {
		c.after(1)
		m.sample()
	}
	got := m.Take()
	a, b := got.Devices[0], got.Devices[1]
	if a.Joules != 50 || a.Seconds != 1 || a.Samples != 2 || a.Lost != gone.Lost || a.Name != "card a" {
		t.Errorf("lost: %+v", a)
	}
	if b.Joules != 30 || b.Lost != "" || got.Joules != 80 {
		t.Errorf("left: %+v, in all %v J", b, got.Joules)
	}
}

func TestMeterWithoutEnergy(t *testing.T) {
	var c ticking
	u := 0.5
	m := c.begin(&script{steps: [][]Reading{{{Kind: "cpu", ID: "0", Utilization: &u}}}})
	end := m.Begin(result.WorkCraft)
	c.after(3)
	end(4)
	got := m.Take()
	if got.Joules != 0 || got.JoulesPerPoison != 0 || got.Devices[0].Joules != 0 || got.Devices[0].Power != nil || got.Devices[0].Utilization.Mean != 0.5 {
		t.Errorf("%+v", got)
	}
}

// A nil Meter, and one whose sampler finds nothing.
func TestMeterOfNothing(t *testing.T) {
	var none *Meter
	none.Begin("x")(1)
	if none.Take() != nil || none.Last() != nil || none.Stop() != nil {
		t.Error("a nil Meter sees something")
	}
	var c ticking
	m := c.begin(&script{steps: [][]Reading{nil}})
	c.after(1)
	if got := m.Take(); got != nil {
		t.Errorf("nothing was read: %+v", got)
	}
}

type counter struct{ samples, closed atomic.Int32 }

func (c *counter) Sample() []Reading { c.samples.Add(1); return nil }
func (c *counter) Close() error      { c.closed.Add(1); return errors.New("stuck") }

func TestMeterInTheBackground(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := new(counter)
	m := Start(ctx, s, time.Millisecond)
	for end := time.Now().Add(10 * time.Second); s.samples.Load() < 5 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if s.samples.Load() < 5 {
		t.Fatal("it does not sample by itself")
	}
	cancel()
	for range 2 {
		if err := m.Stop(); err == nil || s.closed.Load() != 1 {
			t.Errorf("stop: %v, closed %d times", err, s.closed.Load())
		}
	}
	n := s.samples.Load()
	m.Take()
	if s.samples.Load() != n {
		t.Error("a closed sampler is read")
	}
}

func TestJoin(t *testing.T) {
	one, two := &script{steps: [][]Reading{{card("a", 1, 1)}}}, &script{steps: [][]Reading{{card("b", 2, 2)}}, err: errors.New("no")}
	j := Join(one, two)
	if r := j.Sample(); len(r) != 2 || r[0].ID != "a" || r[1].ID != "b" {
		t.Errorf("%+v", r)
	}
	if err := j.Close(); err == nil || one.closed != 1 || two.closed != 1 {
		t.Errorf("close: %v", err)
	}
}
