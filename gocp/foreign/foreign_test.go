package foreign

import (
	"strings"
	"testing"
)

func TestWhat(t *testing.T) {
	for begins, want := range map[string]string{
		"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n": "git lfs pull",
		"\x93NUMPY\x01\x00":                   ".npy",
		"PK\x03\x04....arr_0.npy":             ".npz",
		"PK\x03\x04....archive/data.pkl":      "PyTorch",
		"PK\x03\x04....[Content_Types].xml":   "Excel",
		"PK\x03\x04....a.txt":                 "zip",
		"\x80\x04\x95\x8a":                    "pickle",
		"\x00\x00\x00\x1cftypavif":            "AVIF",
		"RIFF\x00\x00\x00\x00WEBP":            "WebP",
		"\xef\xbb\xbf\n <!DOCTYPE html><html": "web page",
		"<?xml version=\"1.0\"?>":             "XML",
		"\x89HDF\r\n\x1a\n":                   "HDF5",
	} {
		if got := What([]byte(begins)); !strings.Contains(got, want) {
			t.Errorf("%q is %q; want %q", begins, got, want)
		}
	}
	for _, plain := range []string{"", "P", "0.5,1.5\n", "Class,Dog\n", "a,b\n", "\x80", "\x80\x01a"} {
		if got := What([]byte(plain)); got != "" {
			t.Errorf("%q is %q", plain, got)
		}
	}
}
