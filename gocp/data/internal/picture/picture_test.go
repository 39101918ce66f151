package picture

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// testdata was written by `bench/images_peers.sh --write gocp/data/testdata/pictures` with Pillow
// 12.0.0 (libjpeg-turbo 3.1.2, libwebp 1.6.0), simplejpeg 1.9.0, imagecodecs 2026.3.6: files of each
// kind in read, what Pillow sees in them in want, files that are not read in refused.
const testdata = "../../testdata/pictures"

func files(t testing.TB, folder string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(testdata, folder, "*"))
	if err != nil || len(list) < 5 {
		t.Fatalf("%d files in %s: %v", len(list), folder, err)
	}
	return list
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode reads a file with as many channels as it has.
func decode(b []byte) (Header, []uint8, error) {
	h, err := ReadHeader(b)
	if err != nil {
		return h, nil, err
	}
	pix := make([]uint8, h.H*h.W*h.C)
	return h, pix, h.Decode(b, h.C, pix)
}

// Every kind of file gives the pixels that Pillow sees. (For JPEG a level here and there was allowed;
// there is none.)
func TestPillow(t *testing.T) {
	for _, name := range files(t, "read") {
		base := strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
		h, got, err := decode(readFile(t, name))
		if err != nil {
			t.Errorf("%s: %v", base, err)
			continue
		}
		if grey := strings.HasPrefix(base, "grey"); grey != (h.C == 1) {
			t.Errorf("%s has %d channels", base, h.C)
		}
		w, err := png.Decode(bytes.NewReader(readFile(t, filepath.Join(testdata, "want", base+".png"))))
		if err != nil {
			t.Fatal(err)
		}
		if w.Bounds() != image.Rect(0, 0, h.W, h.H) {
			t.Errorf("%s: %d×%d, want %v", base, h.H, h.W, w.Bounds())
			continue
		}
		wrong := 0
		for i, v := range got {
			p := i / h.C
			c := color.NRGBAModel.Convert(w.At(p%h.W, p/h.W)).(color.NRGBA)
			if v != []uint8{c.R, c.G, c.B}[i%h.C] {
				wrong++
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d of %d values differ from Pillow's", base, wrong, len(got))
		}
		// Grey into three channels.
		if h.C == 1 {
			three := make([]uint8, 3*len(got))
			if err := h.Decode(readFile(t, name), 3, three); err != nil {
				t.Fatal(err)
			}
			for i, v := range three {
				if v != got[i/3] {
					t.Fatalf("%s: value %d is %d in three channels, %d in one", base, i, v, got[i/3])
				}
			}
		}
	}
}

func TestRefused(t *testing.T) {
	var want map[string]string
	if err := json.Unmarshal(readFile(t, filepath.Join(testdata, "refused", "sentences.json")), &want); err != nil {
		t.Fatal(err)
	}
	for name, text := range want {
		if text == "no image by its name" {
			continue // not this package's
		}
		_, _, err := decode(readFile(t, filepath.Join(testdata, "refused", name)))
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v; want %q", name, err, text)
		}
	}
	var rgba64, white bytes.Buffer
	png.Encode(&rgba64, image.NewNRGBA64(image.Rect(0, 0, 2, 2)))
	tiff.Encode(&white, image.NewNRGBA(image.Rect(0, 0, 2, 2)), nil)
	for _, c := range []struct {
		content, text string
	}{
		{"", "the file is empty"}, {"GIF89a", "it is a GIF image"}, {"hello", "begins as no image does"},
		{rgba64.String(), "16 bits per channel"}, {white.String(), "transparent"},
		{"P5 2 2 255\n\x01\x02\x03", "cut off"}, {"P5 2 2 0\n1234", "the largest value is 0"}, {"P5 2 2 65535\n12345678", "16 bits"},
		{"P2 2 1 9\n3 10", "larger than the largest"}, {"P2 2 1 9\n3", "cut off"}, {"P6 2", "cut off"}, {"P6 x 2 255\n", "a number is missing"},
		{"P5 0 3 255\n", "0 pixels"}, {"P5 60000 60000 255\n1", "too many for a file of 20 bytes"}, {"\xff\xd8", "cut off"}, {"BM", "cut off"},
		{"II*\x00", "cut off"}, {"RIFF\x04\x00\x00\x00WEBP", "WebP"}, {"P4 1 1\n\x00", "PBM image"},
	} {
		if _, _, err := decode([]byte(c.content)); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%.20q: %v; want %q", c.content, err, c.text)
		}
	}
}

// A file that was cut anywhere is an error or, where only what follows the picture was cut, whole:
// never a picture that is partly grey.
func TestCut(t *testing.T) {
	for _, name := range files(t, "read") {
		b := readFile(t, name)
		_, want, err := decode(b)
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		for n := range b {
			_, got, err := decode(b[:n:n])
			if err != nil {
				refused++
			} else if !bytes.Equal(got, want) && !strings.Contains(name, "text") { // a number cut short is a number
				t.Errorf("%s cut to %d of %d bytes is another picture", filepath.Base(name), n, len(b))
				break
			}
		}
		if refused < len(b)/3 { // a second picture may be cut anywhere
			t.Errorf("%s: %d of %d cuts are refused", filepath.Base(name), refused, len(b))
		}
	}
}

// claim is a BMP of a few dozen bytes that claims 60000×60000 pixels.
func claim() []byte {
	var b bytes.Buffer
	bmp.Encode(&b, image.NewGray(image.Rect(0, 0, 1, 1)))
	c := b.Bytes()
	copy(c[18:], "\x60\xea\x00\x00\x60\xea\x00\x00")
	return c
}

func TestClaims(t *testing.T) {
	jpegs := new(bytes.Buffer)
	jpeg.Encode(jpegs, image.NewGray(image.Rect(0, 0, 8, 8)), nil)
	big := jpegs.Bytes()
	at := bytes.Index(big, []byte{0xff, 0xc0})
	copy(big[at+5:], "\xea\x60\xea\x60")
	for _, b := range [][]byte{claim(), big} {
		if _, err := ReadHeader(b); err == nil || !strings.Contains(err.Error(), "too many for a file") {
			t.Errorf("%v", err)
		}
	}
}

func TestReadable(t *testing.T) {
	for name, want := range map[string]bool{"a.jpg": true, "b/c.JPEG": true, "x.TIF": true, "x.webp": true, "x.gif": false, "jpg": false} {
		if Readable(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// FuzzPicture: no panic, and memory within a constant times what was given.
func FuzzPicture(f *testing.F) {
	for _, folder := range []string{"read", "refused"} {
		for _, name := range files(f, folder) {
			if folder == "refused" || strings.Contains(name, "9x17") {
				f.Add(readFile(f, name))
			}
		}
	}
	f.Add(claim())
	f.Fuzz(func(t *testing.T, b []byte) {
		var h Header
		bounded(t, len(b), 64, func() { h, _ = ReadHeader(b) })
		if h.format == nil {
			return
		}
		if h.H*h.W > MaxPixels*len(b) {
			t.Fatalf("%d×%d pixels of %d bytes", h.H, h.W, len(b))
		}
		// Up to MaxPixels pixels a byte, each of up to four planes with 3 bytes, whatever Go's
		// decoders make of it, and MCUs that the edge cuts.
		bounded(t, len(b)+64*(h.H+h.W+64), 64*MaxPixels, func() {
			_ = h.Decode(b, 3, make([]uint8, h.H*h.W*3))
		})
	})
}

func bounded(t *testing.T, n, times int, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > uint64(times*n+4<<20) {
		t.Fatalf("%d bytes allocated for an input of %d", got, n)
	}
}
