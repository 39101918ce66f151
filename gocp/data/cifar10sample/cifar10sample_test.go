package cifar10sample_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/data/cifar10sample"
)

const archiveHash = "2bde6f1a06ef76edd86f47a20d55db7f206e0bf890ddda04f4833ce55518e66c"

// Of the pixels, which are those that Pillow sees.
const (
	trainHash = "d562690cd150e4cc6b4358a170b3781eeeccc9e208eb04e1de88e10f3f195eab"
	testHash  = "8c1f81289b6aa09736d716c6ab4660d4d7b624cf1951e0c334294d932a61d58d"
)

func TestSample(t *testing.T) {
	b, err := os.ReadFile("sample.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != archiveHash {
		t.Errorf("sample.tar.gz has SHA-256 %x", sum)
	}
	if len(b) > 5_500_000 {
		t.Errorf("sample.tar.gz has %d bytes", len(b))
	}
	src, err := data.Open(cifar10sample.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		split, hash string
		each        int
	}{{"train", trainHash, 1200}, {"test", testHash, 200}} {
		d, err := src.Need(c.split)
		if err != nil {
			t.Fatal(err)
		}
		if d.H != 32 || d.W != 32 || d.C != 3 || strings.Join(d.Classes, " ") != "airplane automobile bird cat deer dog frog horse ship truck" {
			t.Errorf("%v, classes %v", d, d.Classes)
		}
		for k, n := range d.Counts() {
			if n != c.each {
				t.Errorf("%s: %d images of %s, want %d", c.split, n, d.Classes[k], c.each)
			}
		}
		if d.SHA256 != c.hash {
			t.Errorf("%v", d)
		}
		// CIFAR-10's known mean is .491 .482 .447; a sample is near it.
		var sum [3]float64
		for i, v := range d.Images {
			sum[i%3] += float64(v)
		}
		for i, want := range []float64{.491, .482, .447} {
			if mean := sum[i] / float64(len(d.Images)/3) / 255; mean < want-.015 || mean > want+.015 {
				t.Errorf("%s: mean of channel %d is %.3f, want about %.3f", c.split, i, mean, want)
			}
		}
	}
	train, test := src.Split("train"), src.Split("test")
	seen := map[string]bool{}
	for i := range train.Len() {
		seen[string(train.Image(i))] = true
	}
	shared := 0
	for i := range test.Len() {
		if seen[string(test.Image(i))] {
			shared++
		}
	}
	if shared > 0 {
		t.Errorf("%d test images are training images too", shared)
	}
}

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		if _, err := cifar10sample.Open(); err != nil {
			b.Fatal(err)
		}
	}
}
