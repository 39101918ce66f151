// Package progress is how long work tells a person where it is. The work calls a Reporter; what
// is drawn (bars on a terminal, plain lines in a log, nothing) is the caller's choice. A Reporter
// and its Tasks may be used from several goroutines at once, and tasks may overlap.
package progress
