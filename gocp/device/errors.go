package device

import (
	"errors"
	"fmt"

	"gorgonia.org/cu"

	"github.com/gocp/gocp/csrc"
)

// ErrOutOfMemory is wrapped by the error of an allocation that did not fit.
var ErrOutOfMemory = errors.New("out of memory")

// ErrIllegalAddress is wrapped by the error of work that touched memory it must not.
var ErrIllegalAddress = errors.New("illegal address")

// describe adds what was attempted to a driver's error, and the words that the host engine has for
// it. It must run on the thread that saw the error.
func describe(what string, err error) error {
	switch {
	case errors.Is(err, cu.OutOfMemory), errors.Is(err, csrc.OutOfMemory):
		err = ErrOutOfMemory
	case errors.Is(err, cu.IllegalAddress), errors.Is(err, csrc.IllegalAddress):
		err = ErrIllegalAddress
	}
	if text := csrc.LastError(); text != "" {
		return fmt.Errorf("device: %s: %w: %s", what, err, text)
	}
	return fmt.Errorf("device: %s: %w", what, err)
}

// size writes a number of bytes for people.
func size(bytes int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if bytes < 1024 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	v := float64(bytes) / 1024
	for len(units) > 1 && v >= 1024 {
		v /= 1024
		units = units[1:]
	}
	return fmt.Sprintf("%.3g %s", v, units[0])
}
