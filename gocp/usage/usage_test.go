package usage_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

func TestIs(t *testing.T) {
	err := usage.Errorf("model.safetensors: %w", fs.ErrNotExist)
	cases := []struct {
		name string
		err  error
		want bool
	}{
		{"nil", nil, false},
		{"plain", errors.New("x"), false},
		{"marked", err, true},
		{"wrapped", fmt.Errorf("loading: %w", err), true},
		{"joined", errors.Join(errors.New("x"), err), true},
		{"wrap of plain", usage.Wrap(errors.New("x")), true},
		{"wrap of nil", usage.Wrap(nil), false},
	}
	for _, c := range cases {
		if got := usage.Is(c.err); got != c.want {
			t.Errorf("%s: Is = %v, want %v", c.name, got, c.want)
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("the wrapped error is lost")
	}
	if got, want := err.Error(), "model.safetensors: file does not exist"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}
