package experiment

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/usage"
)

// Copies come first, then images that were changed a little, each with the one that it was made of.
func TestNearest(t *testing.T) {
	dev := testkit.Open(t)
	c, dir := tiny(), filepath.Join(t.TempDir(), "run")
	c.Repeats = 1
	res := audit(t, dev, c, dir)
	d := tinyData(t)
	for _, target := range res.Repeats[0].Targets {
		n := target.Near
		if n == nil || n.Label != int(d.Train.Labels[n.ID]) || !(n.Distance > 0) || n.Picture == "" {
			t.Fatalf("target %d is nearest to %+v", target.ID, n)
		}
		b, err := os.ReadFile(filepath.Join(dir, n.Picture))
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := attack.EncodePNG(d.Train.Image(n.ID), d.Train.H, d.Train.W, d.Train.C); !bytes.Equal(b, want) {
			t.Errorf("%s is another picture than that of image %d", n.Picture, n.ID)
		}
	}
	of := d.Test.Subset("of", []int{0, 1, 2, 3, 4, 5, 6, 7})
	copy(of.Image(6), d.Train.Image(40))
	changed := append([]uint8(nil), d.Train.Image(300)...)
	for i := range changed {
		changed[i] ^= uint8(i % 2)
	}
	copy(of.Image(2), changed)
	model := filepath.Join(dir, modelsDir, benignName(roleSurrogate, 0)+".safetensors")
	near, err := Nearest(context.Background(), dev, model, of, d.Train)
	if err != nil {
		t.Fatal(err)
	}
	if len(near) != 8 || near[0].Image != 6 || near[0].Levels != 0 || near[0].Distance > 1e-6 || string(d.Train.Image(near[0].Nearest)) != string(of.Image(6)) {
		t.Errorf("the copy: %+v", near[0])
	}
	if near[1].Image != 2 || near[1].Nearest != 300 || near[1].Levels != 0.5 || near[1].Distance > 0.1 {
		t.Errorf("the changed image: %+v", near[1])
	}
	for i := 2; i < len(near); i++ {
		if near[i].Distance < near[i-1].Distance || near[i].Levels == 0 {
			t.Errorf("%d: %+v after %+v", i, near[i], near[i-1])
		}
	}
	small, err := data.New("small", 1, 1, 1, []uint8{1}, []int32{0}, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Nearest(context.Background(), dev, model, small, small); !usage.Is(err) || !strings.Contains(err.Error(), "reads images of") {
		t.Errorf("%v", err)
	}
}
