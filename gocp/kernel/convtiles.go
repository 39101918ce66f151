package kernel

import (
	"cmp"
	_ "embed" // the table
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gocp/gocp/gocp/device"
)

// A ConvLayout is how a GPU computes a convolution where there is a choice: a block's tile of the
// result (kernels/conv.cuh), and how many parts a sum is split into at most. Neither changes what
// fits the workspace. The zero value is the rule's.
type ConvLayout struct {
	Tile  string
	Parts int
}

// A TileKey is what a layout is chosen by: an architecture, a product (pass, precision, and form, one
// or dual: whether a result and its tangent are made at once), and its size, each extent by the
// power of two that it does not exceed.
type TileKey struct {
	SM                    int
	Pass, Precision, Form string
	M, N, Depth           int
}

// A TileRow says which layout was fastest for a key, and by how much: the rule's time over its.
type TileRow struct {
	TileKey
	ConvLayout
	Gain float64
}

var tileColumns = []string{"sm", "pass", "precision", "form", "m", "n", "depth", "tile", "parts", "gain"}

const tileComment = "# Tiles and parts of convolutions that a GPU was fastest with: gocp bench kernels --tune writes this.\n" +
	"# What no row names goes by the rule (pick, in convgpu.go).\n"

// ReadTiles reads a table as WriteTiles writes it. A row that no kernel could follow is an error.
func ReadTiles(r io.Reader) ([]TileRow, error) {
	lines := csv.NewReader(r)
	lines.Comment = '#'
	lines.FieldsPerRecord = len(tileColumns)
	records, err := lines.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("table of tiles: %w", err)
	}
	if len(records) == 0 || !slices.Equal(records[0], tileColumns) {
		return nil, fmt.Errorf("table of tiles: the first line is not %s", strings.Join(tileColumns, ","))
	}
	var rows []TileRow
	for _, f := range records[1:] {
		row := TileRow{TileKey: TileKey{Pass: f[1], Precision: f[2], Form: f[3]}, ConvLayout: ConvLayout{Tile: f[7]}}
		var errs [6]error
		for i, to := range []*int{&row.SM, &row.M, &row.N, &row.Depth, &row.Parts} {
			*to, errs[i] = strconv.Atoi(f[[]int{0, 4, 5, 6, 8}[i]])
		}
		row.Gain, errs[5] = strconv.ParseFloat(f[9], 64)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("table of tiles: row %s: %w", strings.Join(f, ","), err)
		}
		precision, err := ParsePrecision(row.Precision)
		if err != nil {
			return nil, fmt.Errorf("table of tiles: row %s: %w", strings.Join(f, ","), err)
		}
		if !slices.ContainsFunc(convTiles(convPass(row.Pass), precision, row.Form == formDual), func(t convTile) bool { return t.name == row.Tile }) {
			return nil, fmt.Errorf("table of tiles: row %s: there is no such kernel", strings.Join(f, ","))
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// WriteTiles writes rows, in an order of their own.
func WriteTiles(w io.Writer, rows []TileRow) error {
	if _, err := io.WriteString(w, tileComment); err != nil {
		return err
	}
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b TileRow) int {
		return cmp.Or(cmp.Compare(a.SM, b.SM), cmp.Compare(a.Pass, b.Pass), cmp.Compare(a.Precision, b.Precision),
			cmp.Compare(a.Form, b.Form), cmp.Compare(a.M, b.M), cmp.Compare(a.N, b.N), cmp.Compare(a.Depth, b.Depth))
	})
	out := csv.NewWriter(w)
	records := [][]string{tileColumns}
	for _, r := range rows {
		records = append(records, []string{strconv.Itoa(r.SM), r.Pass, r.Precision, r.Form, strconv.Itoa(r.M), strconv.Itoa(r.N),
			strconv.Itoa(r.Depth), r.Tile, strconv.Itoa(r.Parts), strconv.FormatFloat(r.Gain, 'f', 2, 64)})
	}
	return out.WriteAll(records)
}

//go:embed convtiles.csv
var tileTable string

// tuned are the embedded rows.
var tuned = sync.OnceValues(func() (map[TileKey]ConvLayout, error) {
	rows, err := ReadTiles(strings.NewReader(tileTable))
	layouts := map[TileKey]ConvLayout{}
	for _, r := range rows {
		layouts[r.TileKey] = r.ConvLayout
	}
	return layouts, err
})

// Forms of a product.
const (
	formOne  = "one"
	formDual = "dual"
)

// convTiles are the tiles that there are kernels for (CONV_PRECISION in kernels/conv.cuh), the
// larger ones first: dual, or of one product.
func convTiles(pass convPass, precision Precision, dual bool) []convTile {
	wide, long, both := convTile{"wide", 128, 128}, convTile{"long", 256, 64}, convTile{"dual", 128, 64}
	switch pass {
	case convForward:
	case convBackwardData:
		if precision == F32 { // the others would not fit the registers
			if dual {
				return nil
			}
			return []convTile{wide}
		}
	case convBackwardWeight:
		long, both = convTile{"long", 64, 256}, convTile{"dual", 64, 128}
	default:
		return nil
	}
	if dual {
		return []convTile{both}
	}
	return []convTile{wide, long}
}

// extents are the rows, columns and terms of a group's product.
func (g Conv) extents(pass convPass) (m, n, depth int) {
	c, k := g.C/g.groups(), g.K/g.groups()
	pixels := g.N * g.OutH() * g.OutW()
	switch pass {
	case convForward:
		return pixels, k, g.R * g.S * c
	case convBackwardData:
		return g.N * g.H * g.W, c, (g.R*g.S*k + g.Stride*g.Stride - 1) / (g.Stride * g.Stride)
	}
	return k, g.R * g.S * c, pixels
}

func (g Conv) tileKey(sm int, pass convPass, dual bool) TileKey {
	up := func(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }
	m, n, depth := g.extents(pass)
	key := TileKey{SM: sm, Pass: string(pass), Precision: g.Precision.String(), Form: formOne, M: up(m), N: up(n), Depth: up(depth)}
	if dual {
		key.Form = formDual
	}
	return key
}

// laidOut is g with the table's layout for s's device, unless it has one.
func (g Conv) laidOut(s *device.Stream, pass convPass, mode convMode) Conv {
	if g.Layout == (ConvLayout{}) {
		table, _ := tuned() // a table that cannot be read is a failing test
		g.Layout = table[g.tileKey(s.Device().Info().Capability, pass, mode.dual)]
	}
	return g
}

// A TileChoice is a product on a GPU, the key that it goes by in the table, and the layouts that could
// compute it, the rule's first.
type TileChoice struct {
	Key     TileKey
	Layouts []ConvLayout
}

// TileChoices are those of g's three products on an architecture, each alone and in dual numbers,
// where there is more than one layout.
func (g Conv) TileChoices(sm int) []TileChoice {
	g.Layout = ConvLayout{}
	if g.check() != nil || g.depthwise() {
		return nil
	}
	var all []TileChoice
	for _, pass := range []convPass{convForward, convBackwardData, convBackwardWeight} {
		for _, mode := range []convMode{convOne, convDual} {
			if mode.dual && !g.dualKernel(pass) {
				continue
			}
			p := g.plan(pass, mode, false, false)
			c := TileChoice{Key: g.tileKey(sm, pass, mode.dual), Layouts: []ConvLayout{{p.tile.name, p.parts}}}
			for _, t := range convTiles(pass, g.Precision, mode.dual) {
				h := g
				h.Layout.Tile = t.name
				for parts := h.plan(pass, mode, false, false).parts; ; parts /= 2 {
					if l := (ConvLayout{t.name, parts}); l != c.Layouts[0] {
						c.Layouts = append(c.Layouts, l)
					}
					if parts <= 1 {
						break
					}
				}
			}
			if len(c.Layouts) > 1 {
				all = append(all, c)
			}
		}
	}
	return all
}
