// Conformalspeed times calibration and prediction of package conformal on float32 logits in memory,
// for bench/conformal_speed.py: for each line NAME on standard input it runs that score once and
// prints the seconds for both, the threshold, the mean size of the sets and the peak of memory.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/matrix"
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

var scores = map[string]conformal.Variant{
	"hps":  {Name: "hps"},
	"aps":  {Name: "aps"},
	"raps": {Name: "raps", Lambda: 0.01, KReg: 5},
}

func run() error {
	if len(os.Args) != 7 {
		return fmt.Errorf("conformalspeed LOGITS OFFSET LABELS.npy ROWS LABELS WORKERS: %d arguments", len(os.Args)-1)
	}
	offset, err := strconv.ParseInt(os.Args[2], 10, 64)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Args[4])
	if err != nil {
		return err
	}
	k, err := strconv.Atoi(os.Args[5])
	if err != nil {
		return err
	}
	workers, err := strconv.Atoi(os.Args[6])
	if err != nil {
		return err
	}
	labels, err := matrix.Ints(os.Args[3], matrix.Options{})
	if err != nil {
		return err
	}
	if len(labels) < n {
		return fmt.Errorf("%s: %d labels for %d rows", os.Args[3], len(labels), n)
	}
	labels = labels[:n]
	// Memory as NumPy takes it for the peers' arrays: in huge pages, where there are any.
	mapped, err := unix.Mmap(-1, 0, 4*n*k, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	if err := unix.Madvise(mapped, unix.MADV_HUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	z := unsafe.Slice((*float32)(unsafe.Pointer(&mapped[0])), n*k)
	f, err := os.Open(os.Args[1])
	if err != nil {
		return err
	}
	if _, err := f.Seek(offset, 0); err != nil {
		return err
	}
	if _, err := io.ReadFull(f, mapped); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	table := conformal.Logits[float32]{N: n, K: k, Data: z}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		s, err := conformal.NewScorer(scores[in.Text()])
		if err != nil {
			return err
		}
		o := conformal.Stream{Workers: workers}
		start := time.Now()
		th, err := s.CalibrateTable(table, labels, nil, conformal.MustLevel("0.1"), conformal.Conditioning{}, o)
		if err != nil {
			return err
		}
		calibrated := time.Now()
		total := 0
		sets := make([]*conformal.Sets, 0, 1024) // all are kept, as the peers keep theirs
		err = s.PredictTable(table, th, nil, o, func(_ int, b *conformal.Sets) error {
			sets = append(sets, b)
			return nil
		})
		if err != nil {
			return err
		}
		end := time.Now()
		for _, b := range sets {
			for _, size := range b.Sizes() {
				total += size
			}
		}
		runtime.KeepAlive(sets)
		peak, err := peak()
		if err != nil {
			return err
		}
		fmt.Printf("{\"calibrate\":%g,\"predict\":%g,\"tau\":%.17g,\"size\":%g,\"peak\":%d}\n",
			calibrated.Sub(start).Seconds(), end.Sub(calibrated).Seconds(), th.All.Tau, float64(total)/float64(n), peak)
	}
	return in.Err()
}

// peak is the largest resident set so far. (A child's ru_maxrss begins with that of its parent.)
func peak() (int, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kib, err := strconv.Atoi(f[1])
			return kib * 1024, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}
