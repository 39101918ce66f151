package device

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"gorgonia.org/cu"

	"github.com/gocp/gocp/csrc"
)

// ErrOutOfMemory is wrapped by the error of an allocation that did not fit.
var ErrOutOfMemory = errors.New("out of memory")

// ErrIllegalAddress is wrapped by the error of work that touched memory it must not.
var ErrIllegalAddress = errors.New("illegal address")

// describe adds what was attempted to a driver's error, and the words that the back end has for it.
// It must run on the thread that saw the error.
func describe(what string, err error) error { return describeOn("", what, err) }

// describeOn is describe with the device's name, if it is known.
func describeOn(device, what string, err error) error {
	text, err := words(err)
	return fmt.Errorf("%s%s: %w%s", on(device), what, err, text)
}

func on(device string) string {
	if device == "" {
		return "device: "
	}
	return "device " + device + ": "
}

// words returns what the back end says of a driver's code, and the error that stands for it.
func words(err error) (string, error) {
	text := csrc.LastError()
	if c, ok := codeOf(err); ok && text == "" {
		text = csrc.ErrorText(c)
	}
	switch {
	case errors.Is(err, cu.OutOfMemory), errors.Is(err, csrc.OutOfMemory):
		err = ErrOutOfMemory
	case errors.Is(err, cu.IllegalAddress), errors.Is(err, csrc.IllegalAddress):
		err = ErrIllegalAddress
	}
	if text != "" {
		text = ": " + text
	}
	return text, err
}

// codeOf returns the driver's code of an error of cu or csrc; both are numbers.
func codeOf(err error) (csrc.Code, bool) {
	v := reflect.ValueOf(err)
	if !v.IsValid() || !v.CanInt() {
		return 0, false
	}
	return csrc.Code(v.Int()), true
}

// isFault reports whether an error is of a kernel that ran, and that ended the context: it shows in
// whatever call comes next.
func isFault(err error) bool {
	c, ok := codeOf(err)
	return ok && (c == 700 || c == 702 || c == 710 || c >= 714 && c <= 719)
}

// A launch is one kernel launch: what an error says of it.
type launch struct {
	name                string // "" if there was none
	grid, block, shared int
	args                int
	kinds               [maxArgs]byte
	slots               [maxArgs]uint64
	listed              int // launches of the recorded list that this is the last of
}

// String names the kernel and its shape: the grid, and the numbers among its arguments.
func (l *launch) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %d blocks of %d threads", l.name, l.grid, l.block)
	if l.shared > 0 {
		fmt.Fprintf(&b, " with %d bytes of shared memory", l.shared)
	}
	sep := " ("
	for i := range l.args {
		a := Arg{l.slots[i], l.kinds[i]}
		if a.kind == 'p' {
			continue
		}
		fmt.Fprintf(&b, "%s%s", sep, a)
		sep = ", "
	}
	if sep == ", " {
		b.WriteByte(')')
	}
	return b.String()
}

// fault describes a kernel's fault. The driver does not say which kernel it was, only that one has
// failed by now; known says that it was the stream's last.
func (s *Stream) fault(err error, known bool) error {
	text, err := words(err)
	l := &s.last
	switch {
	case known:
		return fmt.Errorf("%skernel %s: %w%s", on(s.device.info.Name), l, err, text)
	case l.name == "":
		return fmt.Errorf("%sa kernel of another stream: %w%s", on(s.device.info.Name), err, text)
	case l.listed > 0:
		return fmt.Errorf("%sa kernel, of %d in a recorded list the last of which is %s: %w%s (GOCP_CHECK=1 finds which)", on(s.device.info.Name), l.listed, l, err, text)
	}
	return fmt.Errorf("%sa kernel, of which the last was %s: %w%s (GOCP_CHECK=1 finds which)", on(s.device.info.Name), l, err, text)
}

// Size writes a number of bytes for people, in three digits.
func Size(bytes int64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB"}
	if bytes < 1024 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	v := float64(bytes) / 1024
	for len(units) > 1 && v >= 1024 {
		v /= 1024
		units = units[1:]
	}
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	return strconv.FormatFloat(v, 'f', -1, 64) + " " + units[0]
}
