package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/result"
)

// watchedRow is what was seen of one device.
type watchedRow struct {
	Name, Energy, Power, Load, Memory, Heat, Clock, Note string
}

// energyText writes joules for people.
func energyText(j float64) string {
	switch {
	case j <= 0 || !finite(j):
		return dash
	case j < 1000:
		return fmt.Sprintf("%.3g J", j)
	case j < 1e6:
		return fmt.Sprintf("%.3g kJ", j/1e3)
	case j < 1e9:
		return fmt.Sprintf("%.3g MJ", j/1e6)
	}
	return fmt.Sprintf("%.3g GJ", j/1e9)
}

// fromPower marks energy that no counter told.
func fromPower(part, all float64) string {
	switch {
	case !(part > 0):
		return ""
	case part >= all*(1-1e-9):
		return " (power times time, no counter)"
	}
	return " (" + energyText(part) + " of it power times time, no counter)"
}

// gaugeText is a mean and a maximum.
func gaugeText(g *result.Gauge, decimals int, unit string, scale float64) string {
	if g == nil {
		return dash
	}
	text := func(x float64) string { return num(result.Number(x*scale), decimals) + " " + unit }
	return text(g.Mean) + " (most " + text(g.Max) + ")"
}

func watchedRows(t *result.Telemetry) []watchedRow {
	var rows []watchedRow
	for _, d := range t.Devices {
		row := watchedRow{Name: cmp.Or(d.Name, d.Kind), Energy: energyText(d.Joules) + fromPower(d.FromPower, d.Joules), Power: gaugeText(d.Power, 0, "W", 1),
			Load: gaugeText(d.Utilization, 0, "%", 100), Memory: gaugeText(d.Memory, 1, "GiB", 1.0/(1<<30)),
			Heat: gaugeText(d.Temperature, 0, "°C", 1), Clock: gaugeText(d.Clock, 0, "MHz", 1)}
		var notes []string
		for _, why := range slices.Sorted(maps.Keys(d.Throttled)) {
			notes = append(notes, fmt.Sprintf("held back by %s for %s", strings.ReplaceAll(why, "_", " "), duration(d.Throttled[why])))
		}
		if d.Corrected+d.Uncorrected > 0 {
			notes = append(notes, fmt.Sprintf("memory errors: %d corrected, %d not", d.Corrected, d.Uncorrected))
		}
		if d.Slice != "" {
			notes = append(notes, d.Slice)
		}
		if d.Lost != "" {
			notes = append(notes, "lost: "+d.Lost)
		}
		row.Note = strings.Join(notes, "; ")
		rows = append(rows, row)
	}
	return rows
}

// telemetryText is one sentence about the machine, "" if nothing was read.
func telemetryText(t *result.Telemetry) string {
	if t == nil || len(t.Devices) == 0 {
		return ""
	}
	var parts []string
	if t.Joules > 0 {
		s := energyText(t.Joules) + fromPower(t.FromPower, t.Joules)
		if t.JoulesPerPoison > 0 {
			s += fmt.Sprintf(" in all, %s of crafting a poison", energyText(t.JoulesPerPoison))
		}
		parts = append(parts, s)
	}
	for _, d := range t.Devices {
		var said []string
		if d.Slice != "" {
			said = append(said, "is "+d.Slice)
		}
		if d.Power != nil {
			said = append(said, num(result.Number(d.Power.Mean), 0)+" W")
		}
		if d.Utilization != nil {
			said = append(said, num(result.Number(100*d.Utilization.Mean), 0)+" % busy")
		}
		if len(d.Throttled) > 0 {
			said = append(said, "held back by "+strings.ReplaceAll(strings.Join(slices.Sorted(maps.Keys(d.Throttled)), ", "), "_", " "))
		}
		if d.Uncorrected > 0 {
			said = append(said, plural(int(d.Uncorrected), "uncorrected memory error"))
		}
		if d.Lost != "" {
			said = append(said, "lost: "+d.Lost)
		}
		if len(said) > 0 {
			parts = append(parts, cmp.Or(d.Name, d.Kind)+" "+strings.Join(said, ", "))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "Machine: " + strings.Join(parts, "; ")
}
