package attack

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/usage"

	"github.com/gocp/gocp/gocp/rng"
)

func randomImages(n, h, w, c, classes int, seed uint64) Images {
	src := rng.New(seed, 0)
	m := Images{H: h, W: w, C: c}
	for i := range n {
		m.Labels = append(m.Labels, int32(i%classes))
		for range h * w * c {
			m.Pixels = append(m.Pixels, uint8(src.Intn(256)))
		}
	}
	return m
}

func TestNoise(t *testing.T) {
	m := randomImages(8, 16, 16, 3, 4, 1)
	index := []int{0, 1, 2, 3, 4, 5, 6, 7}
	for _, make := range []func(Images, []int, float64, uint64) (*Poisons, error){RandUn, RandGa} {
		p, err := make(m, index, 16, 5)
		if err != nil {
			t.Fatal(err)
		}
		var n, square float64
		for i, a := range p.After {
			b := float64(m.Pixels[i])
			d := float64(a) - b
			if math.Abs(d) > 16 {
				t.Fatalf("%s: |δ| = %v/255", p.Method, d)
			}
			if b >= 16 && b <= 239 { // not cut off at black or white
				n, square = n+1, square+d*d
			}
		}
		// The second moment of U[−16,16] is 85.3; clipping the Gaussian at √3 σ takes a quarter of its.
		if s := square / n; s < 50 || s > 95 {
			t.Errorf("%s: second moment %.1f", p.Method, s)
		}
		q, _ := make(m, index, 16, 5)
		if p.Hash() != q.Hash() {
			t.Errorf("%s: the same seed gave other noise", p.Method)
		}
		q, _ = make(m, index, 16, 6)
		if p.Hash() == q.Hash() {
			t.Errorf("%s: another seed gave the same noise", p.Method)
		}
	}
}

func TestQuantise(t *testing.T) {
	for _, c := range []struct {
		base  uint8
		delta float64 // in 255ths
		eps   float64
		want  uint8
	}{
		{100, 3.4, 16, 103}, {100, 3.6, 16, 104}, {100, -20, 16, 84}, {100, 20, 16.9, 116},
		{5, -16, 16, 0}, {250, 16, 16, 255}, {0, -0.4, 1, 0},
	} {
		got := make([]uint8, 1)
		quantise(got, []uint8{c.base}, []float32{float32(c.delta / 255)}, c.eps)
		if got[0] != c.want {
			t.Errorf("%d + %v in a ball of %v: %d, want %d", c.base, c.delta, c.eps, got[0], c.want)
		}
	}
}

func TestBundle(t *testing.T) {
	for _, channels := range []int{1, 3} {
		m := randomImages(3, 5, 7, channels, 2, 9)
		p, err := RandUn(m, []int{4, 2, 9}, 8, 1)
		if err != nil {
			t.Fatal(err)
		}
		p.Report = &Crafting{Restarts: []Restart{{Seed: 3, Phi: []float64{0.1, 0.2}}}, Phi: 0.2}
		b := &Bundle{Poisons: p, DataIndex: []int{40, 20, 90}, Dataset: "abc",
			Targets: []Aimed{{Index: 7, Label: 1, Aim: Aim{Remove: []int{0}, Keep: 1, Inside: 1}}}}
		dir := filepath.Join(t.TempDir(), "b")
		files, err := WriteBundle(dir, b)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != 2*3+2 || files[len(files)-1] != ManifestFile {
			t.Errorf("files %v", files)
		}
		got, err := ReadBundle(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, b) {
			t.Errorf("%d channels: read\n%+v\nwant\n%+v", channels, got, b)
		}

		// A picture that was changed is found out.
		other, err := EncodePNG(m.At(1), 5, 7, channels)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "after/0000.png"), other, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadBundle(dir); err == nil || !strings.Contains(err.Error(), "after/0000.png is not the image") {
			t.Errorf("a changed picture: %v", err)
		}
		if err := os.Remove(filepath.Join(dir, "after/0000.png")); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadBundle(dir); !usage.Is(err) || !strings.Contains(err.Error(), "after/0000.png is gone") {
			t.Errorf("a picture that is gone: %v", err)
		}
		if err := os.Truncate(filepath.Join(dir, DeltaFile), 100); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadBundle(dir); !usage.Is(err) || !strings.Contains(err.Error(), "delta.safetensors is not the file") {
			t.Errorf("a cut δ: %v", err)
		}
	}
}

func TestRate(t *testing.T) {
	c := Config{Steps: 40, Epsilon255: 255}.WithDefaults()
	for _, x := range []struct {
		step int
		want float64
	}{{0, .1}, {14, .1}, {15, .03}, {24, .03}, {25, .009}, {35, .0027}} {
		if got := c.rate(x.step); math.Abs(got-x.want) > 1e-12 {
			t.Errorf("step %d: rate %v, want %v", x.step, got, x.want)
		}
	}
}
