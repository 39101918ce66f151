// Package testfiles writes the small files that tests of several packages read. It needs no device.
package testfiles

import (
	"os"
	"testing"

	"github.com/gocp/gocp/gocp/npy"
)

// Npy writes an array to path, which it returns.
func Npy(t testing.TB, path string, a *npy.Array) string {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := npy.Write(f, a); err != nil {
		t.Fatal(err)
	}
	return path
}

// Text writes a text to path, which it returns.
func Text(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}
