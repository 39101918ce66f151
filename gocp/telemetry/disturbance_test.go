package telemetry

import (
	"reflect"
	"testing"
)

func TestDisturbances(t *testing.T) {
	got := Disturbances([]Reading{
		{Kind: "cpu", Name: "cpu", Throttle: []string{"heat"}},
		{Kind: "gpu", Name: "quiet", Processes: []Process{{PID: 7, Name: "gocp"}}},
		{Kind: "gpu", Name: "hot", Throttle: []string{"hardware_thermal", "power_cap"}},
		{Kind: "gpu", Name: "shared", Processes: []Process{{PID: 7}, {PID: 8, Name: "python"}, {PID: 9}}},
	}, 7)
	want := []string{
		"hot is held back (hardware_thermal, power_cap): times are longer than it can do",
		"shared is used by others (8 python, 9): times are shared with them",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}
