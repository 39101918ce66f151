package bench

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/usage"
)

// A layer inside the network costs 3 products in floats, 4 more for a crafting step, 9 for a Hessian-vector product
// and 4 for one with the Gauss–Newton matrix on primals that are there (docs/math.md §8).
func TestProductsOfAStep(t *testing.T) {
	shape := Shapes()[1]
	convs := shape.Spec.Convs(Batch, kernel.F32)
	second := convs[1]
	for name, want := range map[string]int{"train": 3, "craft": 3 + 4, "hvp": 9, "ggn": 4, "norms": 2} {
		got := 0
		for _, p := range passes[name].products(convs) {
			if p.g == second {
				got += p.count
			}
		}
		if got != want {
			t.Errorf("%s: %d products of the second convolution, want %d", name, got, want)
		}
	}
	if len(convs) != 5 || second.In() != Batch*16*16*64 || second.Out() != Batch*16*16*128 {
		t.Errorf("convolutions %+v", convs)
	}
}

// Every pass runs inside the library that users run, and its check finds the same number twice.
func TestPasses(t *testing.T) {
	d := testkit.Open(t)
	o := Options{Shapes: []string{"32x32x3-w16-stride"}, Precisions: []kernel.Precision{kernel.F32}, Batch: 48, Seconds: 0.01, Beside: []int{2}}
	var table, lines bytes.Buffer
	asTable, asLines := Table(&table), GoFormat(&lines)
	seen := map[string]int{}
	err := Run(context.Background(), d, o, func(r Row) error {
		seen[r.Pass]++
		if r.Wrong != 0 || !(r.Median > 0) || !(r.P99 >= r.Median) || !(r.ConvMedian > 0) || !(r.GFLOP > 0) {
			t.Errorf("row %+v", r)
		}
		if err := asTable(r); err != nil {
			return err
		}
		return asLines(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range Passes() {
		if seen[p] != 1 {
			t.Errorf("%d rows of %s, want 1", seen[p], p)
		}
	}
	if n := strings.Count(table.String(), "\n"); n != 6 {
		t.Errorf("%d lines in the table:\n%s", n, table.String())
	}
	if !strings.Contains(lines.String(), "BenchmarkPass/craft/32x32x3-w16-stride/f32/2x") {
		t.Errorf("Go's format:\n%s", lines.String())
	}
	for _, wrong := range []Options{{Batch: -1}, {Shapes: []string{"8x8"}}, {Passes: []string{"sgd"}}, {Seconds: -1}, {Beside: []int{0}}} {
		if err := Run(context.Background(), d, wrong, func(Row) error { return nil }); !usage.Is(err) {
			t.Errorf("%+v: error %v, want a usage error", wrong, err)
		}
	}
	if err := Run(context.Background(), d, Options{Shapes: o.Shapes, Passes: []string{"norms"}, Seconds: 0.01}, func(Row) error { return context.Canceled }); err == nil {
		t.Error("an error of emit is lost")
	}
}
