package telemetry

import (
	"fmt"
	"strings"
)

// Disturbances says in a sentence each why times of these GPUs are not steady: something holds their
// clocks back, or processes other than self compute on them.
func Disturbances(readings []Reading, self int) []string {
	var out []string
	for _, r := range readings {
		if r.Kind != "gpu" {
			continue
		}
		if len(r.Throttle) > 0 {
			out = append(out, fmt.Sprintf("%s is held back (%s): times are longer than it can do", r.Name, strings.Join(r.Throttle, ", ")))
		}
		var others []string
		for _, p := range r.Processes {
			if p.PID != self {
				others = append(others, strings.TrimSpace(fmt.Sprintf("%d %s", p.PID, p.Name)))
			}
		}
		if len(others) > 0 {
			out = append(out, fmt.Sprintf("%s is used by others (%s): times are shared with them", r.Name, strings.Join(others, ", ")))
		}
	}
	return out
}
