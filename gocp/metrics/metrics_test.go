package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/progress"
	"github.com/gocp/gocp/gocp/telemetry"
	"github.com/gocp/gocp/gocp/usage"
)

type fixed []telemetry.Reading

func (f fixed) Sample() []telemetry.Reading { return f }
func (f fixed) Close() error                { return nil }

func ptr[T any](v T) *T { return &v }

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", url, r.Status, err, b)
	}
	return string(b)
}

func TestServe(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m := telemetry.Start(ctx, fixed{
		{Kind: "gpu", ID: "GPU-1", Name: `A "card"`, Power: ptr(250.), Energy: ptr(12.5), Utilization: ptr(0.75), MemoryUsed: ptr(uint64(5)),
			Clock: ptr(1410.), Throttle: []string{"power_cap", "sync_boost"}, Corrected: ptr(uint64(3)), Processes: []telemetry.Process{{PID: 1}}},
		{Kind: "gpu", ID: "GPU-2", Name: "B", Lost: "gone"},
		{Kind: "cpu", ID: "0", Name: "P", Temperature: ptr(50.)},
	}, time.Hour)
	defer m.Stop()
	var tally progress.Tally
	tally.Add("jobs_planned", 9)
	tally.Add("poisons_crafted_total", 180)
	tally.Watch(nil).Phase("craft", 40).Add(7)
	s, err := Serve(ctx, ":0", m, &tally)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.URL, "http://127.0.0.1:") {
		t.Errorf("without a host it is on %s", s.URL)
	}
	page := get(t, s.URL)
	const one = `{device="GPU-1",kind="gpu",name="A \"card\""}`
	for _, want := range []string{
		"gocp_power_watts" + one + " 250", "gocp_energy_joules_total" + one + " 12.5", "gocp_utilization_ratio" + one + " 0.75",
		"gocp_memory_used_bytes" + one + " 5", "gocp_clock_hertz" + one + " 1.41e+09", "gocp_device_processes" + one + " 1",
		`gocp_throttled{device="GPU-1",kind="gpu",name="A \"card\"",reason="sync_boost"} 1`,
		`gocp_ecc_errors_total{device="GPU-1",kind="gpu",name="A \"card\"",severity="corrected"} 3`,
		`gocp_device_up{device="GPU-2",kind="gpu",name="B"} 0`, `gocp_temperature_celsius{device="0",kind="cpu",name="P"} 50`,
		"gocp_jobs_planned 9", "# TYPE gocp_poisons_crafted_total counter", "gocp_poisons_crafted_total 180",
		`gocp_phase_units{phase="craft"} 40`, `gocp_phase_units_done{phase="craft"} 7`, "process_resident_memory_bytes",
	} {
		if !strings.Contains(page, want+"\n") && !strings.Contains(page, want+" ") {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	tally.Add("poisons_crafted_total", 20)
	if page := get(t, s.URL); !strings.Contains(page, "gocp_poisons_crafted_total 200\n") {
		t.Errorf("the second answer is the first:\n%s", page)
	}
	cancel()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := http.Get(s.URL); err == nil {
		t.Error("it answers after the end")
	}
}

func TestServeNothing(t *testing.T) {
	s, err := Serve(context.Background(), "0", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if page := get(t, s.URL); strings.Contains(page, "gocp_") {
		t.Errorf("there is nothing to tell:\n%s", page)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for addr, want := range map[string]string{
		":" + port: "address already in use", port: "address already in use", "localhost": "is no address", ":http": "is no port",
		":70000": "is no port", "256.1.1.1:0": "metrics: ",
	} {
		s, err := Serve(context.Background(), addr, nil, nil)
		if !usage.Is(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", addr, s, err)
		}
	}
}
