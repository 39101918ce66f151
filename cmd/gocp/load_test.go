package main

import (
	"testing"

	"github.com/gocp/gocp/gocp/data"
)

// TestOriginHasNoFolders: what a run says of its data shows nothing of the machine that it ran on.
func TestOriginHasNoFolders(t *testing.T) {
	for _, c := range []struct{ origin, name, want string }{
		{"embedded", "cifar10-sample", "embedded"},
		{"/home/me/sets/fashion-mnist", "fashion-mnist", ""},
		{"/home/me/sets/fashion-mnist-2", "fashion-mnist", "fashion-mnist-2"},
		{"/home/me/blobs.npz", "/home/me/blobs.npz", ""},
		{"sets/blobs.npz", "sets/blobs.npz", ""},
	} {
		if got := origin(&data.Source{Origin: c.origin}, c.name); got != c.want {
			t.Errorf("%s of %s: %q, want %q", c.origin, c.name, got, c.want)
		}
	}
}
