package resample

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"testing"
)

func load(t *testing.T, name string) (pix []uint8, h, w int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../testdata/pictures/resized", name))
	if err != nil {
		t.Fatal(err)
	}
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	r := m.Bounds()
	for y := range r.Dy() {
		for x := range r.Dx() {
			c := color.NRGBAModel.Convert(m.At(x, y)).(color.NRGBA)
			pix = append(pix, c.R, c.G, c.B)
		}
	}
	return pix, r.Dy(), r.Dx()
}

// The bytes of Pillow 12.0.0's resize, for each way that a side grows, shrinks or stays
// (bench/images_peers.sh --write).
func TestPillow(t *testing.T) {
	source, h, w := load(t, "source.png")
	for _, size := range []image.Point{{7, 9}, {23, 10}, {40, 31}, {46, 62}, {1, 1}, {100, 3}} {
		want, oh, ow := load(t, fmt.Sprintf("%dx%d.png", size.X, size.Y))
		if oh != size.X || ow != size.Y {
			t.Fatalf("%v is %d×%d", size, oh, ow)
		}
		if got := Bilinear(source, h, w, 3, oh, ow); !bytes.Equal(got, want) {
			t.Errorf("%d×%d to %d×%d differs from Pillow's", h, w, oh, ow)
		}
	}
	if got := Bilinear(source, h, w, 3, h, w); !bytes.Equal(got, source) {
		t.Error("the same size changes pixels")
	}
}

// Halves go to the even side, as Python's round has it.
func TestCentre(t *testing.T) {
	for _, c := range [][3]int{{5, 5, 0}, {6, 5, 0}, {8, 5, 2}, {10, 5, 2}, {12, 5, 4}, {9, 5, 2}} {
		if got := Centre(c[0], c[1]); got != c[2] {
			t.Errorf("Centre(%d, %d) = %d, want %d", c[0], c[1], got, c[2])
		}
	}
}
