package owner

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Owner is a process.
type Owner struct {
	Host  string    `json:"host"`
	Boot  string    `json:"boot,omitempty"`  // of the machine, since its last start; "": unknown
	Space string    `json:"space,omitempty"` // in which its process id counts
	PID   int       `json:"pid"`
	Start uint64    `json:"start"` // of the process, in clock ticks since Boot
	Since time.Time `json:"since"`
	Token string    `json:"token"` // drawn for this lock
	Life
}

// Life is a task of a batch system that may be started again. Of two lives of one task the later counts.
type Life struct {
	Task   string `json:"task,omitempty"` // "": none
	Number int    `json:"life,omitempty"`
}

// self is this process.
func self() Owner {
	o := Owner{PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second)}
	o.Host, _ = os.Hostname()
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		o.Boot = string(bytes.TrimSpace(b))
	}
	o.Space, _ = os.Readlink("/proc/self/ns/pid")
	o.Start, _ = started(o.PID)
	return o
}

// started is when a process began.
func started(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in brackets, may hold anything; the start is field 22.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("owner: /proc/%d/stat has %d fields", pid, len(fields))
	}
	if state := string(fields[0]); state == "Z" || state == "X" {
		return 0, errEnded
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// dead tells whether o is no more for certain, as seen by me.
func (o Owner) dead(me Owner) bool {
	if o.Boot == "" || o.Boot != me.Boot || o.Space == "" || o.Space != me.Space || o.Host != me.Host {
		return false
	}
	if errors.Is(syscall.Kill(o.PID, 0), syscall.ESRCH) {
		return true
	}
	start, err := started(o.PID)
	return errors.Is(err, errEnded) || err == nil && o.Start != 0 && start != o.Start
}

// errEnded is started's error for a process that is dead and whose parent has not asked for it.
var errEnded = errors.New("owner: the process has ended")

// earlier tells whether o is an earlier life of me.
func (o Owner) earlier(me Owner) bool {
	return o.Task != "" && o.Task == me.Task && o.Number < me.Number
}

// String names o in a sentence.
func (o Owner) String() string {
	s := fmt.Sprintf("process %d on %s", o.PID, o.Host)
	if o.Task != "" {
		s += ", task " + o.Task
	}
	return s + ", since " + o.Since.Format("2006-01-02 15:04:05") + " UTC"
}
