// Package usage marks errors that the user can mend: a wrong flag, a broken
// file, an unknown name. Their text is one sentence that names the thing, what
// is wrong with it and what to do. The command line exits with 2 for these and
// with 1 for everything else.
package usage

import (
	"errors"
	"fmt"
)

type mark struct{ err error }

func (m *mark) Error() string { return m.err.Error() }
func (m *mark) Unwrap() error { return m.err }

// Errorf is fmt.Errorf, %w included, for an error that the user can mend.
func Errorf(format string, args ...any) error {
	return &mark{fmt.Errorf(format, args...)}
}

// Wrap marks err as one that the user can mend; nil stays nil.
func Wrap(err error) error {
	if err == nil {
		return nil
	}
	return &mark{err}
}

// Is reports whether err, or an error it wraps, was made by Errorf or Wrap.
func Is(err error) bool {
	var m *mark
	return errors.As(err, &m)
}
