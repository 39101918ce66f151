package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/result"
)

// A run can be watched by HTTP, and says where.
func TestMetrics(t *testing.T) {
	dir := workFolder(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append(slices.Clone(tinyAudit), "--out", "run", "--victims", "6", "--metrics", ":0")...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asGocp+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	page, url := "", ""
	for lines.Scan() {
		if at, ok := strings.CutPrefix(lines.Text(), "metrics: "); ok {
			url = at
		}
		// The victims are the longest part: the run goes on while the page is read.
		if page == "" && strings.HasPrefix(lines.Text(), "victims") {
			page = body(t, url)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"gocp_jobs_planned 37\n", "\ngocp_jobs_done_total ", `gocp_phase_units_done{phase="victims"}`, `gocp_poisons_crafted_total `,
		"gocp_craft_steps_total ", `gocp_device_up{device="0",kind="cpu"`, "process_cpu_seconds_total"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q at %s:\n%s", want, url, page)
		}
	}
	if _, err := http.Get(url); err == nil {
		t.Error("it answers after the run")
	}
	r, err := result.Load(dir + "/run")
	if err != nil {
		t.Fatal(err)
	}
	if r.Telemetry == nil || len(r.Telemetry.Devices) == 0 || r.Telemetry.Seconds <= 0 {
		t.Errorf("telemetry: %+v", r.Telemetry)
	}
	if !strings.Contains(string(read(t, dir, "run", reportFile)), `id="telemetry"`) {
		t.Error("the report says nothing of the machine")
	}
}

func body(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMetricsPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := workFolder(t)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	refuses(t, dir, "address already in use", append(slices.Clone(tinyAudit), "--out", "run", "--metrics", ":"+port)...)
	refuses(t, dir, "is no address", "train", "--data", "blobs.npz", "--out", "m.safetensors", "--metrics", "here")
}

func TestTop(t *testing.T) {
	dir := t.TempDir()
	o := succeeds(t, dir, "top", "--once", "--interval", "200ms")
	for _, want := range []string{"DEVICE", "HELD BACK BY", "GiB"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %s in\n%s", want, o.stdout)
		}
	}
	o = succeeds(t, dir, "top", "--once", "--json", "--interval", "200ms")
	var top Top
	if err := json.Unmarshal([]byte(o.stdout), &top); err != nil || strings.Count(o.stdout, "\n") != 1 {
		t.Fatalf("%v in %s", err, o.stdout)
	}
	last := top.Devices[len(top.Devices)-1]
	if last.Kind != "cpu" || last.MemoryTotal == nil || last.Utilization == nil || *last.Utilization < 0 || *last.Utilization > 1 || top.Time.IsZero() {
		t.Errorf("%+v", top)
	}
	refuses(t, dir, "at least 100ms", "top", "--interval", "1ms")
}
