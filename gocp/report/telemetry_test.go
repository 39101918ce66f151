package report

import (
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/result"
)

// machine is invented, as everything in made is.
func machine() *result.Telemetry {
	return &result.Telemetry{Seconds: 100, Joules: 25_300, JoulesPerPoison: 3.25, Devices: []result.Watched{
		{Kind: "gpu", Name: "A card", Seconds: 100, Samples: 100, Joules: 20_300, Power: &result.Gauge{Mean: 203.4, Max: 300, Seconds: 100},
			Utilization: &result.Gauge{Mean: 0.876, Max: 1, Seconds: 100}, Memory: &result.Gauge{Mean: 3 << 30, Max: 4 << 30, Seconds: 100},
			Throttled: map[string]float64{"power_cap": 12, "hardware_thermal": 70}, Corrected: 4, Uncorrected: 1},
		{Kind: "cpu", Name: "A processor", Seconds: 100, Samples: 100, Joules: 5000, Lost: "why ever"},
	}}
}

// Energy that no counter told is marked, and a slice of a card says what it is.
func TestTelemetryOfASlice(t *testing.T) {
	const slice = "a MIG slice: power, energy and load are told of the whole card alone"
	for _, c := range []struct {
		name            string
		joules, power   float64
		page, plainText string
	}{
		{"counter", 5000, 0, "5 kJ in all", "Machine: 5 kJ; "},
		{"power alone", 5000, 5000, "5 kJ (power times time, no counter) in all", "Machine: 5 kJ (power times time, no counter); "},
		{"some of it", 5000, 1250, "5 kJ (1.25 kJ of it power times time, no counter) in all", "Machine: 5 kJ (1.25 kJ of it power times time, no counter); "},
	} {
		r, fsys := made("overconfidence", 4, 10, 1)
		r.Telemetry = &result.Telemetry{Seconds: 10, Joules: c.joules, FromPower: c.power, Devices: []result.Watched{
			{Kind: "cpu", Name: "A processor", Joules: c.joules, FromPower: c.power, Power: &result.Gauge{Mean: 500, Max: 500, Seconds: 10}},
			{Kind: "gpu", Name: "A card MIG 1g.10gb", Slice: slice, Memory: &result.Gauge{Mean: 1 << 30, Max: 1 << 30, Seconds: 10}},
		}}
		page := write(t, r, fsys)
		if !strings.Contains(page, c.page) || !strings.Contains(page, slice) {
			t.Errorf("%s: the page does not say it", c.name)
		}
		var b strings.Builder
		if err := Text(&b, r); err != nil {
			t.Fatal(err)
		}
		if want := c.plainText + "A processor 500 W; A card MIG 1g.10gb is " + slice + "\n"; !strings.HasSuffix(b.String(), want) {
			t.Errorf("%s: want %q at the end of\n%s", c.name, want, b.String())
		}
	}
}

func TestTelemetry(t *testing.T) {
	r, fsys := made("overconfidence", 4, 10, 1)
	if strings.Contains(write(t, r, fsys), `id="telemetry"`) {
		t.Error("nothing was read, yet the page speaks of it")
	}
	var plain, b strings.Builder
	if err := Text(&plain, r); err != nil {
		t.Fatal(err)
	}
	r.Telemetry = machine()
	page := write(t, r, fsys)
	for _, want := range []string{"25.3 kJ in all, 3.25 J of crafting a poison", "203 W (most 300 W)", "88 % (most 100 %)", "3.0 GiB (most 4.0 GiB)",
		"held back by hardware thermal for 1 min 10 s; held back by power cap for 12.0 s; memory errors: 4 corrected, 1 not", "lost: why ever"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if err := Text(&b, r); err != nil {
		t.Fatal(err)
	}
	const want = "\nMachine: 25.3 kJ in all, 3.25 J of crafting a poison; A card 203 W, 88 % busy, held back by hardware thermal, power cap, " +
		"1 uncorrected memory error; A processor lost: why ever\n"
	if b.String() != plain.String()+want {
		t.Errorf("got\n%s", strings.TrimPrefix(b.String(), plain.String()))
	}
}
