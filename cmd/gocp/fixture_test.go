package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/rng"
)

// blobs are images whose class is where they are bright, under so much noise that a classifier
// stays unsure.
func blobs(t testing.TB, name string, n int, seed uint64) *data.Dataset {
	t.Helper()
	const side, classes = 12, 4
	src := rng.New(seed, 0)
	var pixels []uint8
	var labels []int32
	for range n {
		y := src.Intn(classes)
		labels = append(labels, int32(y))
		for r := range side {
			for c := range side {
				v := 128 + 45*float64(src.Normal())
				if 2*r/side == y/2 && 2*c/side == y%2 {
					v += 22
				}
				pixels = append(pixels, uint8(math.Max(0, math.Min(255, v))))
			}
		}
	}
	d, err := data.New(name, side, side, 1, pixels, labels, []string{"nw", "ne", "sw", "se"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// workFolder is a folder with a small data set, blobs.npz.
func workFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := data.ExportSource(filepath.Join(dir, "blobs.npz"),
		&data.Source{Name: "blobs", Splits: []*data.Dataset{blobs(t, "train", 500, 1), blobs(t, "test", 160, 2)}})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, dir, name string, content []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
}

// tinyAudit are the flags of an audit that takes two seconds.
var tinyAudit = []string{"audit", "--data", "blobs.npz", "--seed", "3", "--goal", "underconfidence", "--add-count", "1",
	"--repeats", "2", "--victims", "2", "--surrogates", "2", "--references", "2", "--controls", "1", "--train-size", "160",
	"--cal-size", "60", "--candidates", "100", "--budget", "0.1", "--width", "8", "--epochs", "16", "--batch", "16",
	"--lr", "0.05", "--steps", "4"}
