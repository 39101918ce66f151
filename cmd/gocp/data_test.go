package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/data"
)

// blobFolder writes blobs as image files in train/ and val/, each with an edge of 2 pixels around,
// which --crop 12 takes off, and a file that is no image.
func blobFolder(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []*data.Dataset{blobs(t, "train", 500, 1), blobs(t, "val", 160, 2)} {
		for i := range d.Len() {
			m := image.NewGray(image.Rect(0, 0, d.W+4, d.H+4))
			for y := range d.H {
				copy(m.Pix[(y+2)*m.Stride+2:], d.Image(i)[y*d.W:(y+1)*d.W])
			}
			var b bytes.Buffer
			if err := png.Encode(&b, m); err != nil {
				t.Fatal(err)
			}
			write(t, dir, fmt.Sprintf("set/%s/%s/%03d.png", d.Name, d.Classes[d.Labels[i]], i), b.Bytes())
		}
	}
	write(t, dir, "set/train/nw/odd.gif", []byte("GIF89a"))
}

func TestImageFolders(t *testing.T) {
	dir := workFolder(t)
	blobFolder(t, dir)
	read := []string{"--skip-unreadable", "--crop", "12"}
	// The same images as in the arrays, in the order of their paths.
	var info struct {
		Splits []struct {
			Name         string
			Images, H, W int
			SHA256       string
			Counts       []int
		}
		Skipped []data.Unreadable
	}
	o := succeeds(t, dir, append([]string{"data", "info", "--json", "set"}, read...)...)
	if err := json.Unmarshal([]byte(o.stdout), &info); err != nil || len(info.Splits) != 2 || info.Splits[0].Images != 500 || info.Splits[0].H != 12 ||
		info.Splits[1].Name != "val" || len(info.Skipped) != 1 || !strings.HasSuffix(info.Skipped[0].File, "odd.gif") {
		t.Errorf("%s, %v", o.stdout, err)
	}
	if o := succeeds(t, dir, append([]string{"data", "info", "set"}, read...)...); !strings.Contains(o.stdout, "odd.gif: no image by its name") {
		t.Errorf("what was left out is not named:\n%s", o.stdout)
	}
	refuses(t, dir, "odd.gif: no image by its name", "data", "info", "set")
	refuses(t, dir, "no image by its name", "audit", "--data", "set", "--out", "a", "--quiet")
	refuses(t, dir, `"12x" is no size such as 64 or 48x64`, "data", "info", "set", "--crop", "12x")
	refuses(t, dir, "hold no crop of 40×40", "data", "info", "set", "--crop", "40", "--skip-unreadable")
	refuses(t, dir, `its class "ne" is none of CIFAR-100`, "data", "info", "set", "--coarse", "--skip-unreadable")
	refuses(t, dir, `no split is called "dev"; there is train and val`, "audit", "--data", "set", "--out", "a", "--test-split", "dev", "--skip-unreadable", "--quiet")
	refuses(t, dir, "--near needs --model", "data", "check", "blobs.npz", "--near", "3")
	refuses(t, dir, "--data is for run folders", "data", "check", "blobs.npz", "--data", "x")
	refuses(t, dir, "--near is 0", "data", "check", "blobs.npz", "--near", "0")

	// An audit tests on val, says what it left out, and reads its data in the same way when it goes on.
	args := append(slices.Clone(tinyAudit), append([]string{"--out", "run"}, read...)...)
	args[2] = "set"
	if o := succeeds(t, dir, args...); !strings.Contains(o.stderr, "data: 1 files cannot be read and were left out") {
		t.Errorf("%s", o.stderr)
	}
	succeeds(t, dir, "audit", "--resume", "--out", "run", "--quiet")
	refuses(t, dir, "run", "audit", "--resume", "--out", "run", "--quiet", "--crop", "11", "--skip-unreadable")

	refuses(t, dir, "which says itself how its data are read", "data", "check", "run", "--crop", "12")
	var check struct {
		Splits []data.SplitFindings
		Near   []struct {
			Distance, Levels float64
			Picture          string
			Of, To           data.Place
		}
	}
	o = succeeds(t, dir, "data", "check", "run", "--pictures", "pairs", "--json")
	if err := json.Unmarshal([]byte(o.stdout), &check); err != nil || len(check.Splits) != 2 || len(check.Near) != 2 {
		t.Fatalf("%s, %v", o.stdout, err)
	}
	for i, n := range check.Near {
		b, err := os.ReadFile(filepath.Join(dir, n.Picture))
		if err != nil {
			t.Fatal(err)
		}
		m, err := png.Decode(bytes.NewReader(b))
		if err != nil || m.Bounds() != image.Rect(0, 0, 24, 12) || n.Levels == 0 || i > 0 && n.Distance < check.Near[i-1].Distance || n.To.Split != "victim train" {
			t.Errorf("pair %d: %+v, %v", i, n, err)
		}
	}
	model := filepath.Join("run", "models", "surrogate-0.safetensors")
	o = succeeds(t, dir, append([]string{"data", "check", "set", "--model", model, "--near", "3", "--test-split", "validation"}, read...)...)
	if strings.Count(o.stdout, "pixels") != 3 || !strings.Contains(o.stdout, "no connection") {
		t.Errorf("%s", o.stdout)
	}
	// The parts read in the same way.
	o = succeeds(t, dir, append([]string{"train", "--data", "set", "--take", ":100", "--epochs", "1", "--width", "4", "--out", "m.safetensors", "--json", "--quiet"}, read...)...)
	if !strings.Contains(o.stdout, `"images": 100`) {
		t.Errorf("%s", o.stdout)
	}
}

func TestDataCheck(t *testing.T) {
	dir := workFolder(t)
	d := blobs(t, "train", 40, 5)
	e := blobs(t, "test", 20, 6)
	copy(e.Image(3), d.Image(7))
	e.Labels[3] = d.Labels[7]
	copy(d.Image(9), d.Image(8))
	d.Labels[9] = (d.Labels[8] + 1) % 4
	if err := data.ExportSource(filepath.Join(dir, "copies.npz"), &data.Source{Splits: []*data.Dataset{d, e}}); err != nil {
		t.Fatal(err)
	}
	o := succeeds(t, dir, "data", "check", "copies.npz")
	for _, want := range []string{"train: 40 images", "4 images are exact copies of each other, in 2 groups, of which 1 have different labels",
		"1 images of test have an exact copy in train", "EQUAL, labels differ: train 8 (", "equal: train 7 ("} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %q in:\n%s", want, o.stdout)
		}
	}
	if o := succeeds(t, dir, "data", "check", "blobs.npz"); !strings.Contains(o.stdout, "no copies, no class without images") {
		t.Errorf("%s", o.stdout)
	}
}
