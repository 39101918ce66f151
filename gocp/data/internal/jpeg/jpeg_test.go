package jpeg

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The pixels are held against Pillow's in ../picture, whose testdata have every sampling.
const testdata = "../../testdata/pictures"

func encoded(img image.Image, quality int) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func decoded(b []byte) (Config, []byte, error) {
	c, err := DecodeConfig(b)
	if err != nil {
		return c, nil, err
	}
	pix := make([]byte, c.H*c.W*c.C)
	return c, pix, Decode(b, pix)
}

// The transform is the inverse of the cosine transform to within its rounding.
func TestIDCT(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var worst float64
	for range 200 {
		var block [64]int32
		for range 1 + rng.IntN(20) {
			block[rng.IntN(64)] = int32(rng.IntN(400) - 200)
		}
		var got [64]byte
		idct(&block, got[:], 8)
		for y := range 8 {
			for x := range 8 {
				sum := 0.0
				for v := range 8 {
					for u := range 8 {
						s := 0.25
						if u == 0 {
							s *= math.Sqrt2 / 2
						}
						if v == 0 {
							s *= math.Sqrt2 / 2
						}
						sum += s * float64(block[8*v+u]) * math.Cos(float64(2*x+1)*float64(u)*math.Pi/16) * math.Cos(float64(2*y+1)*float64(v)*math.Pi/16)
					}
				}
				want := min(max(sum+128, 0), 255)
				worst = max(worst, math.Abs(float64(got[8*y+x])-want))
			}
		}
	}
	if worst > 0.7 { // half for the last rounding, some for the one between the passes
		t.Errorf("a sample is %.3f levels off", worst)
	}
}

// Go's decoder of the same files is near wherever no chroma is interpolated.
func TestBesideGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, size := range []image.Point{{1, 1}, {8, 8}, {17, 9}, {40, 33}} {
		m := image.NewGray(image.Rectangle{Max: size})
		for i := range m.Pix {
			m.Pix[i] = uint8(128 + 100*math.Sin(float64(i)/7) + 20*rng.Float64())
		}
		for _, quality := range []int{20, 75, 100} {
			b := encoded(m, quality)
			c, got, err := decoded(b)
			if err != nil {
				t.Fatal(err)
			}
			want, err := jpeg.Decode(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if w := want.At(i%c.W, i/c.W).(color.Gray).Y; max(v, w)-min(v, w) > 1 {
					t.Fatalf("%v, quality %d: value %d is %d, Go's %d", size, quality, i, v, w)
				}
			}
		}
	}
}

func TestBad(t *testing.T) {
	ok := encoded(image.NewGray(image.Rect(0, 0, 16, 16)), 75)
	sof := bytes.Index(ok, []byte{0xff, sof0})
	scan := bytes.Index(ok, []byte{0xff, sos})
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(ok)) }
	set := func(at int, v byte) []byte { return edit(func(b []byte) []byte { b[at] = v; return b }) }
	for _, c := range []struct {
		what string
		b    []byte
		text string
	}{
		{"12 bits", set(sof+4, 12), "12 bits a sample"},
		{"no height", edit(func(b []byte) []byte { b[sof+5], b[sof+6] = 0, 0; return b }), "0×16 pixels"},
		{"two components", edit(func(b []byte) []byte {
			return bytes.Join([][]byte{b[:sof], {0xff, sof0, 0, 14, 8, 0, 16, 0, 16, 2, 1, 0x11, 0, 2, 0x11, 0}, b[sof+13:]}, nil)
		}), "2 components"},
		{"lossless", set(sof+1, 0xc3), "lossless and hierarchical"},
		{"arithmetic", set(sof+1, 0xc9), "arithmetic coding"},
		{"fractions", edit(func(b []byte) []byte {
			return bytes.Join([][]byte{b[:sof], {0xff, sof0, 0, 17, 8, 0, 16, 0, 16, 3, 1, 0x31, 0, 2, 0x21, 0, 3, 0x11, 0}, b[sof+13:]}, nil)
		}), "sampled 2:3"},
		{"no table", set(bytes.Index(ok, []byte{0xff, dqt})+1, 0xe5), "a quantisation table is missing"},
		{"no codes", edit(func(b []byte) []byte { return bytes.ReplaceAll(b, []byte{0xff, dht}, []byte{0xff, 0xe5}) }), "a Huffman table is missing"},
		{"no scan", append(ok[:scan:scan], 0xff, eoi), "cut off"},
		{"no data", ok[:scan+10], "cut off"},
		{"text", []byte("hello"), "not a JPEG file"},
		{"a progressive header on a sequential file", set(sof+1, sof2), "broken scan header"},
		{"another component's scan", set(scan+5, 9), "broken scan header"},
	} {
		if _, _, err := decoded(c.b); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v; want %q", c.what, err, c.text)
		}
	}
	if err := Decode(ok, make([]byte, 7)); err == nil {
		t.Error("a wrong room is taken")
	}
}

func seeds(t testing.TB) [][]byte {
	var all [][]byte
	for _, folder := range []string{"read", "refused"} {
		list, err := filepath.Glob(filepath.Join(testdata, folder, "*jpeg-*"))
		if err != nil || len(list) == 0 {
			t.Fatal("no testdata", err)
		}
		for _, name := range list {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, b)
		}
	}
	return all
}

// FuzzDecode: no panic; memory within a constant times the pixels claimed, which the caller bounds;
// the same picture twice.
func FuzzDecode(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := DecodeConfig(b)
		if err != nil || c.H*c.W > 1<<20 {
			return
		}
		pix, again := make([]byte, c.H*c.W*c.C), make([]byte, c.H*c.W*c.C)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err = Decode(b, pix)
		runtime.ReadMemStats(&after)
		// Up to four planes of a byte and a coefficient of two, blocks and MCUs rounded up.
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(16*(c.H+32)*(c.W+32)+64*len(b)+1<<20) {
			t.Fatalf("%d bytes allocated for %d×%d pixels of %d bytes", got, c.H, c.W, len(b))
		}
		if err == nil {
			if err := Decode(b, again); err != nil || !bytes.Equal(pix, again) {
				t.Fatalf("another picture the second time: %v", err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	name := filepath.Join(testdata, "read", "jpeg-420-16x16.jpg")
	file, err := os.ReadFile(name)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := decoded(file); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Go's", func(b *testing.B) { // planes alone, no colours
		for b.Loop() {
			if _, err := jpeg.Decode(bytes.NewReader(file)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
