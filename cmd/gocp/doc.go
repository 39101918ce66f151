// Command gocp audits conformal prediction against data poisoning. Each command turns its flags
// into a configuration, makes one library call and prints what came back; every file but app.go,
// args.go and bars.go is one command.
//
// The exit status is 0 where the command did its work, 1 where it failed, 2 where the user asked
// for something that cannot be done (one sentence says what and what to do), and 130 where it was
// interrupted.
package main
