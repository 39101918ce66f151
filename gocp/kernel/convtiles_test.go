package kernel

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestEmbeddedTiles(t *testing.T) {
	if _, err := tuned(); err != nil {
		t.Error(err)
	}
}

func TestTilesFile(t *testing.T) {
	g := Conv{N: 128, H: 56, W: 56, C: 64, K: 64, R: 3, S: 3, Stride: 1, Pad: 1, Precision: TF32}
	rows := []TileRow{
		{g.tileKey(90, convForward, false), ConvLayout{"wide", 1}, 1.25},
		{g.tileKey(80, convBackwardWeight, true), ConvLayout{"dual", 12}, 1.5},
	}
	var file bytes.Buffer
	if err := WriteTiles(&file, rows); err != nil {
		t.Fatal(err)
	}
	got, err := ReadTiles(bytes.NewReader(file.Bytes()))
	slices.Reverse(rows)
	if err != nil || !slices.Equal(got, rows) {
		t.Errorf("%v, %v; want %v from\n%s", got, err, rows, file.String())
	}
	for old, bad := range map[string]string{
		"sm,": "arch,", "80,": "8x,", "conv_backward_weight": "conv_sideways", "tf32": "tf64", "dual,12": "wide,12", "wide,1,": "wide,",
	} {
		if _, err := ReadTiles(strings.NewReader(strings.Replace(file.String(), old, bad, 1))); err == nil || !strings.Contains(err.Error(), "table of tiles: ") {
			t.Errorf("%q for %q: %v", bad, old, err)
		}
	}
}

// A layout changes what a launch is and not what it may take: the workspace that the rule asks for
// suffices for any.
func TestLayoutsFitWorkspace(t *testing.T) {
	for _, g := range resnet {
		for _, g.Precision = range []Precision{F32, TF32, BF16} {
			choices := g.TileChoices(90)
			if len(choices) == 0 {
				t.Errorf("%+v: no choice", g)
			}
			for _, c := range choices {
				pass, mode := convPass(c.Key.Pass), convOne
				if c.Key.Form == formDual {
					mode = convDual
				}
				seen := map[ConvLayout]bool{}
				for i, l := range c.Layouts {
					if seen[l] {
						t.Errorf("%v: %v twice", c.Key, l)
					}
					seen[l] = true
					h := g
					h.Layout = l
					p := h.plan(pass, mode, false, false)
					if p.tile.name != l.Tile || p.parts != l.Parts || p.parts > convBlocks {
						t.Errorf("%v: layout %v became %s in %d parts", c.Key, l, p.tile.name, p.parts)
					}
					if rule := g.plan(pass, mode, false, false); i == 0 && (p.tile != rule.tile || p.parts != rule.parts) {
						t.Errorf("%v: the first is %v, the rule's %s in %d parts", c.Key, l, rule.tile.name, rule.parts)
					}
				}
			}
		}
	}
}
