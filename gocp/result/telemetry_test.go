package result

import (
	"math"
	"path/filepath"
	"reflect"
	"testing"
	"testing/fstest"
)

func gauge(values ...float64) *Gauge {
	g := new(Gauge)
	for _, v := range values {
		g.Observe(v, 1)
	}
	return g
}

func TestTelemetryAddsUp(t *testing.T) {
	one := Telemetry{Seconds: 4, Joules: 300, Devices: []Watched{{Kind: "gpu", ID: "a", Name: "A", Seconds: 4, Samples: 3, Joules: 300,
		Power: gauge(50, 100), MemoryTotal: 10, Throttled: map[string]float64{"heat": 1}, Corrected: 2}}}
	one.Spend(WorkCraft, 3, 200, 20)
	one.Spend("train victim", 1, 100, 1)
	two := Telemetry{Seconds: 1, Joules: 100, Devices: []Watched{{Kind: "cpu", ID: "0", Name: "P", Memory: gauge(7)},
		{Kind: "gpu", ID: "a", Name: "A", Seconds: 1, Samples: 2, Joules: 100, Power: gauge(30), Utilization: gauge(0.5),
			Throttled: map[string]float64{"heat": 2, "power": 1}, Corrected: 1, Lost: "gone"}}}
	two.Spend(WorkCraft, 1, 100, 10)
	var sum Telemetry
	sum.Add(&one)
	sum.Add(&two)
	want := Telemetry{Seconds: 5, Joules: 400, JoulesPerPoison: 10,
		Work: []Work{{Name: WorkCraft, Seconds: 4, Joules: 300, Count: 30}, {Name: "train victim", Seconds: 1, Joules: 100, Count: 1}},
		Devices: []Watched{{Kind: "gpu", ID: "a", Name: "A", Seconds: 5, Samples: 5, Joules: 400, Power: gauge(50, 100, 30), MemoryTotal: 10,
			Utilization: gauge(0.5), Throttled: map[string]float64{"heat": 3, "power": 1}, Corrected: 3, Lost: "gone"},
			{Kind: "cpu", ID: "0", Name: "P", Memory: gauge(7)}},
	}
	if !reflect.DeepEqual(sum, want) {
		t.Errorf("got  %+v\nwant %+v", sum, want)
	}
	if g := sum.Devices[0].Power; math.Abs(g.Mean-60) > 1e-12 || g.Max != 100 || g.Seconds != 3 {
		t.Errorf("power %+v", g)
	}
}

func TestGaugeOfOneMoment(t *testing.T) {
	var g Gauge
	g.Observe(5, 0)
	if g != (Gauge{Mean: 5, Max: 5}) {
		t.Errorf("one moment: %+v", g)
	}
	if g.Observe(2, 4); g != (Gauge{Mean: 2, Max: 5, Seconds: 4}) {
		t.Errorf("then four seconds: %+v", g)
	}
}

func TestTelemetryFile(t *testing.T) {
	dir := t.TempDir()
	r := small()
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	if back, err := Load(dir); err != nil || back.Telemetry != nil {
		t.Fatalf("nothing was read, yet there is %+v, %v", back.Telemetry, err)
	}
	before, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r.Telemetry = &Telemetry{Seconds: 2, Devices: []Watched{{Kind: "cpu", Name: "P", Power: gauge(3)}}}
	if after, err := r.Encode(); err != nil || string(after) != string(before) {
		t.Errorf("telemetry is in %s: %v", File, err)
	}
	if err := r.Save(dir); err != nil {
		t.Fatal(err)
	}
	back, err := Load(dir)
	if err != nil || !reflect.DeepEqual(back.Telemetry, r.Telemetry) {
		t.Errorf("%s: %+v, %v", filepath.Join(dir, TelemetryFile), back.Telemetry, err)
	}
	if _, err := LoadFS(fstest.MapFS{File: {Data: before}, TelemetryFile: {Data: []byte("{")}}); err == nil {
		t.Error("half a telemetry.json is read")
	}
}
