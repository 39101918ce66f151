package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/telemetry"
)

type fixed []telemetry.Reading

func (f fixed) Sample() []telemetry.Reading { return f }
func (f fixed) Close() error                { return nil }

func ptr[T any](v T) *T { return &v }

func TestTopText(t *testing.T) {
	got := Top{Note: "why not", Devices: []telemetry.Reading{
		{Kind: "gpu", Name: "Card", Power: ptr(249.6), PowerLimit: ptr(400.), Energy: ptr(1234.), Utilization: ptr(0.75), MemoryUsed: ptr(uint64(3 << 29)), MemoryTotal: ptr(uint64(40 << 30)),
			Temperature: ptr(61.), Clock: ptr(1410.), Throttle: []string{"power_cap", "sync_boost"}, Corrected: ptr(uint64(3)), Uncorrected: ptr(uint64(0)),
			Processes: []telemetry.Process{{PID: 77, Name: "python", Memory: ptr(uint64(5 << 20))}}},
		{Kind: "gpu", Name: "Gone", Lost: "it has fallen off the bus"},
		{Kind: "cpu", Name: "Processor", Processes: []telemetry.Process{{PID: 9, Name: "gocp", Utilization: ptr(1.5)}}},
	}}.text()
	const want = `DEVICE     POWER         ENERGY  LOAD  MEMORY           HEAT   CLOCK     HELD BACK BY           ECC
Card       250 W of 400  1234 J  75 %  1.5 of 40.0 GiB  61 °C  1410 MHz  power_cap, sync_boost  3 corrected, 0 not
Gone       it has fallen off the bus
Processor  –  –  –  –  –  –  –  –

PID  LOAD   MEMORY  DEVICE  PROCESS
77   –      5 MiB   gpu     python
9    150 %  –       cpu     gocp

why not
`
	if squeezed(got) != squeezed(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// squeezed is text with runs of spaces made one.
func squeezed(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

// Without --once it goes on until it is stopped, and what it writes to can fail.
func TestTopGoesOn(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	var b bytes.Buffer
	w := writer(func(p []byte) (int, error) {
		b.Write(p)
		if strings.Count(b.String(), `"devices"`) == 3 {
			cancel()
		}
		return len(p), nil
	})
	s := fixed{{Kind: "cpu", Name: "P"}}
	if err := top(ctx, w, s, topOptions{every: time.Millisecond, json: true}); err != nil {
		t.Error(err)
	}
	if n := strings.Count(b.String(), "\n"); n < 3 || n > 4 {
		t.Errorf("%d lines:\n%s", n, b.String())
	}
	broken := errors.New("broken pipe")
	w = func([]byte) (int, error) { return 0, broken }
	if err := top(context.Background(), w, s, topOptions{every: time.Millisecond}); !errors.Is(err, broken) {
		t.Errorf("a broken pipe: %v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
