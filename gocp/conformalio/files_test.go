package conformalio

import (
	"os"
	"testing"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/npy"
)

func writeNpy(t testing.TB, path string, a *npy.Array) string {
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

func writeText(t testing.TB, path, text string) string {
	t.Helper()
	if err := atomicfile.WriteBytes(path, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return path
}
