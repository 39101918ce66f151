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
