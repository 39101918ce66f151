package bench

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/kernel/cases"
	"github.com/gocp/gocp/gocp/usage"
)

// CountsFile is the variable that names the file in which the emulator counts.
const CountsFile = "PTXEMU_COUNTS"

// countsCSV is made by scripts/counts.sh.
//
//go:embed counts.csv
var countsCSV []byte

// A Count is what the emulator counted in the launches of a case.
type Count struct {
	Name         string  `json:"name"`
	Shape        string  `json:"shape"`
	Precision    string  `json:"precision"`
	Launches     int     `json:"launches"`
	Instructions float64 `json:"warp_instructions"`
	Least        float64 `json:"least_bytes"` // that must move, as in a RooflineRow
	Read         float64 `json:"read"`        // bytes that threads asked global memory for
	Written      float64 `json:"written"`
	ReadOnce     float64 `json:"read_once"` // bytes of the 32-byte sectors among them, each counted once
	WrittenOnce  float64 `json:"written_once"`
}

// Requested is the bytes that threads asked for over those that must move: what the caches see.
func (c Count) Requested() float64 { return (c.Read + c.Written) / c.Least }

// Distinct is the sectors touched over what must move: what memory sees if the second-level cache
// keeps whatever comes back.
func (c Count) Distinct() float64 { return (c.ReadOnce + c.WrittenOnce) / c.Least }

var countColumns = []string{"case", "shape", "precision", "launches", "warp_instructions", "least_bytes", "read", "written", "read_once", "written_once"}

func (c *Count) numbers() []*float64 {
	return []*float64{&c.Instructions, &c.Least, &c.Read, &c.Written, &c.ReadOnce, &c.WrittenOnce}
}

// Counts are the committed counts.
func Counts() ([]Count, error) { return readCounts(bytes.NewReader(countsCSV)) }

func readCounts(r io.Reader) ([]Count, error) {
	lines := csv.NewReader(r)
	lines.Comment = '#'
	records, err := lines.ReadAll()
	if err != nil || len(records) == 0 {
		return nil, fmt.Errorf("counts.csv: no table: %w", err)
	}
	var counts []Count
	for _, f := range records[1:] {
		c := Count{Name: f[0], Shape: f[1], Precision: f[2]}
		if c.Launches, err = strconv.Atoi(f[3]); err != nil {
			return nil, fmt.Errorf("counts.csv: %w", err)
		}
		for i, to := range c.numbers() {
			if *to, err = strconv.ParseFloat(f[4+i], 64); err != nil {
				return nil, fmt.Errorf("counts.csv: %w", err)
			}
		}
		counts = append(counts, c)
	}
	return counts, nil
}

// WriteCounts writes counts as Counts reads them.
func WriteCounts(w io.Writer, counts []Count) error {
	lines := csv.NewWriter(w)
	records := [][]string{countColumns}
	for _, c := range counts {
		f := []string{c.Name, c.Shape, c.Precision, strconv.Itoa(c.Launches)}
		for _, v := range c.numbers() {
			f = append(f, strconv.FormatFloat(*v, 'f', -1, 64))
		}
		records = append(records, f)
	}
	return lines.WriteAll(records)
}

// CountTable writes counts in columns.
func CountTable(w io.Writer, counts []Count) error {
	out := &printer{w: w}
	out.printf("\ncounted on the emulator (bytes asked for, and distinct 32-byte sectors, over the bytes that must move)\n")
	out.printf("%-18s %-46s %-9s %8s %12s %9s %10s %9s\n", "kernel", "shape", "precision", "launches", "warp instr", "MB", "requested", "distinct")
	for _, c := range counts {
		out.printf("%-18s %-46s %-9s %8d %12.4g %9.3g %10.2f %9.3f\n", c.Name, c.Shape, c.Precision, c.Launches, c.Instructions, c.Least*1e-6, c.Requested(), c.Distinct())
	}
	return out.err
}

// What is counted: convolutions of ResNet-18 and their per-sample gradients, in TF32 (bytes are much
// the same in all precisions), the other kernels at their smallest bench shape, if it moves no more
// than countBytes: the emulator is slow. There are as many images as fill a GPU in most passes, so that
// parts of split sums are not what is counted.
var countLayers = []string{"layer1", "layer2.0.down", "layer4"}

const (
	countBytes  = 16 << 20
	countImages = 32
)

func countedShapes(c cases.Case) []cases.Shape {
	switch {
	case c.Precision == "":
		bytes := func(sh cases.Shape) float64 { return cases.Costs(c, sh)[0].Bytes }
		sh := slices.MinFunc(c.Benches, func(a, b cases.Shape) int { return cmp.Compare(bytes(a), bytes(b)) })
		if bytes(sh) > countBytes {
			return nil
		}
		return []cases.Shape{sh}
	case c.Precision != kernel.TF32.String():
		return nil
	}
	var shapes []cases.Shape
	for _, l := range ResNet18(countImages, kernel.TF32) {
		if !slices.Contains(countLayers, l.Name) {
			continue
		}
		g := l.Conv
		numbers := map[string]int{"n": g.N, "h": g.H, "w": g.W, "c": g.C, "k": g.K, "r": g.R, "stride": g.Stride, "pad": g.Pad}
		sh := cases.Shape{}
		for _, axis := range c.Axes {
			n, ok := numbers[axis]
			if !ok {
				n = 1 // of groups
			}
			sh.Dims = append(sh.Dims, n)
		}
		shapes = append(shapes, sh)
	}
	return shapes
}

// Emulated runs cases on the emulator and counts; a device that is none is a usage error.
func Emulated(ctx context.Context, d *device.Device, all []cases.Case, emit func(Count) error) error {
	file := os.Getenv(CountsFile)
	if file == "" || d.Info().Backend != "cuda" {
		return usage.Errorf("counting needs the emulator: run scripts/counts.sh")
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return fmt.Errorf("%s: %w", CountsFile, err)
	}
	for _, c := range all {
		for _, sh := range countedShapes(c) {
			for i, cost := range cases.Costs(c, sh) {
				n, err := countOnce(ctx, d, file, c, sh, i > 0)
				if err != nil {
					return err
				}
				n.Least = cost.Bytes
				if err := emit(n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// countOnce runs a case and reads the lines that the emulator has added meanwhile.
func countOnce(ctx context.Context, d *device.Device, file string, c cases.Case, sh cases.Shape, dual bool) (Count, error) {
	n := Count{Name: c.Name, Shape: c.Label(sh), Precision: c.Precision}
	if n.Precision == "" {
		n.Precision = "f32"
	}
	if dual {
		n.Precision = "dual " + n.Precision
	}
	if err := os.Truncate(file, 0); err != nil {
		return n, fmt.Errorf("%s: %w", CountsFile, err)
	}
	if err := cases.Once(ctx, d, c, sh, dual); err != nil {
		return n, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return n, fmt.Errorf("%s: %w", CountsFile, err)
	}
	for line := range strings.Lines(string(text)) {
		var name string
		var blocks int
		var v [5]float64
		if _, err := fmt.Sscan(line, &name, &blocks, &v[0], &v[1], &v[2], &v[3], &v[4]); err != nil {
			return n, fmt.Errorf("%s: %q: %w", CountsFile, strings.TrimSpace(line), err)
		}
		n.Launches++
		for i, to := range []*float64{&n.Instructions, &n.Read, &n.Written, &n.ReadOnce, &n.WrittenOnce} {
			*to += v[i]
		}
	}
	if n.Launches == 0 {
		return n, usage.Errorf("counting needs the emulator, and this device counted nothing: run scripts/counts.sh")
	}
	return n, nil
}
