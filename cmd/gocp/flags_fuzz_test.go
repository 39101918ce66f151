package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/gocp/gocp/gocp/data"
)

// What fuzzed command lines are made of: for each flag by its name, else by its kind, values that may
// be right and values that are not.
var (
	pools = map[string][]string{
		"logits": {"cal.csv", "test.csv", "few.csv", "none.csv"}, "probs": {"p.csv", "rounded.csv", "cal.csv"}, "labels": {"cal_y.csv", "test_y.csv", "few_y.csv", "cal.csv"},
		"groups": {"cal_g.csv", "test_g.csv", "cal_y.csv"}, "folds": {"cal_g.csv", "cal_y.csv", "test_g.csv"}, "parts": {"cal_g.csv", "cal3_g.csv"}, "features": {"cal.csv", "test.csv", "few.csv"},
		"test-features": {"test.csv", "cal.csv"}, "test-labels": {"test_y.csv", "cal_y.csv"}, "test-logits": {"test.csv", "cal.csv"}, "test-probs": {"p.csv"}, "votes": {"votes.csv", "votes2.csv", "cal.csv"},
		"test-votes": {"votes2.csv", "votes.csv"}, "truth": {"truth.csv", "truth2.csv", "cal.csv"}, "tune": {"test.csv", "cal.csv", "p.csv"}, "tune-labels": {"test_y.csv", "cal_y.csv"},
		"threshold": {"t.thr", "u.thr", "g.thr", "p.thr", "cal.csv", "moving", "fixed"}, "out": {"out.json", "out.npy", "out.csv", "out.jsonl", "nowhere/out.csv"}, "threshold-out": {"t.json"}, "report": {"page.html"},
		"score": {"hps", "aps", "raps", "saps", "margin", "residual", "worst"}, "u": {"one", "sample", "label", "two"}, "lambda": {"0", "0.1", "auto", "-1", "x", "7"}, "k-reg": {"0", "1", "auto", "-2"}, "kreg": {"0", "1", "-3"},
		"miscoverage": {"0.1", "0.4", "1/3", "0", "1", "0.000001", "x"}, "risk": {"0.1", "0.4", "2"}, "by": {"marginal", "class", "group", "cluster", "moon"}, "below": {"infinite", "marginal", "pool", "x"},
		"head": {"ridge", "softmax", "tail"}, "correction": {"none", "hoeffding", "bernstein", "x"}, "beta": {"0.01", "0.2", "3"}, "rule": {"majority", "binomial", "x"}, "temperature": {"auto", "2", "0.5", "0", "inf"},
		"header": {"yes", "no", "maybe"}, "format": {"svg", "png"}, "data": {"blobs.npz", "p.csv"}, "test-split": {"test", "train", "x"}, "split": {"train", "test", "x"}, "take": {":", ":20", "5:", "9:3"}, "calibration": {":60", "60:", "x"},
		"device": {"cpu", "tpu"}, "devices": {"0", "all", "7"}, "goal": {"overconfidence", "add", "remove", "underconfidence", "unequal", "x"}, "labels of a goal": {"0", "1,2", "9", "x"},
		"bases": {"random", "nearest", "gradnorm", "alignment", "x"}, "align": {"sum", "poison", "batch", "x"}, "loss": {"pairwise", "softquantile", "x"}, "start": {"uniform", "normal", "x"}, "arch": {"convnet", "x"}, "stem": {"stride", "pool", "x"},
		"poison": {"images", "labels", "both", "x"}, "subgroups": {"clusters", "classes", "coarse", "cal_y.csv"}, "precision": {"f32", "bf16", "tf32", "auto", "x"}, "budget": {"0.1", "auto", "0", "2", "1e-9"}, "conditions": {"attack,randun", "clean", "x"}, "metrics": {"127.0.0.1:0", "x"}, "group": {"step", "counts", "x"},
		"defense": {"loss", "maxup", "augment", "sam", "loss,sam", "dp-sgd", "adversarial-poisoning", "epic", "x"}, "defense-vary": {"crop", "crop,cutout", "mixup,cutmix", "x"}, "method": {"spectral", "deep-knn,loss", "activation-clustering", "magic", ","}, "poisons": {"at.csv", "at2.csv", "cal_y.csv"}, "neighbours": {"1", "5", "40", "0"}, "images": {"x.npy", "cal.csv"},
		"config": {"config.json", "none.json"}, "mode": {"eval", "train", "x"}, "form": {"pairwise", "softquantile", "x"}, "of": {"loss", "l2", "x"}, "model": {"pool-bn.model.safetensors", "cal.csv"}, "in": {"pool-bn.in.safetensors", "cal.csv"},
		"resize": {"6", "6x8", "x"}, "crop": {"4", "4x6", "99"}, "classes": {"3", "5", "0", "-1"}, "interval": {"1s", "1ms"}, "clusters": {"1", "2", "0", "99"}, "workers": {"1", "3", "0", "9223372036854775807"}, "memory": {"64MiB", "2GB", "1B", "0", "-1GiB", "x"}, "splits": {"1", "3", "0", "-2"},
	}
	numbers   = []string{"0", "1", "2", "0.5", "0.05", "-1", "nan", "inf", "1e300", "1e-320", "x"}
	integers0 = []string{"0", "1", "2", "3", "20", "-1", "9223372036854775807", "x"}
)

// values are what a flag of a command is tried with.
func values(command string, f cli.Flag) []string {
	name := f.Names()[0]
	if name == "labels" && (command == "audit" || command == "attack") {
		name = "labels of a goal"
	}
	if p := pools[name]; p != nil {
		return p
	}
	switch f.(type) {
	case *cli.Float64Flag:
		return numbers
	case *cli.IntFlag, *cli.Uint64Flag, *cli.IntSliceFlag:
		return integers0
	}
	return []string{"x", "", "0", "cal.csv"}
}

// fuzzed are the commands that are tried, with what they are given so that many runs succeed; long ones are
// interrupted as soon as they have read their flags.
var fuzzed = []struct {
	command string
	args    []string
	long    bool
}{
	{"conformal calibrate", []string{"--logits", "cal.csv", "--labels", "cal_y.csv", "--out", "out.json"}, false},
	{"conformal predict", []string{"--threshold", "t.thr", "--logits", "test.csv", "--out", "out.csv"}, false},
	{"conformal evaluate", []string{"--threshold", "t.thr", "--logits", "test.csv", "--labels", "test_y.csv"}, false},
	{"conformal evaluate", []string{"--splits", "1", "--logits", "cal.csv", "--labels", "cal_y.csv"}, false},
	{"conformal compare", []string{"--splits", "1", "--logits", "few.csv", "--labels", "few_y.csv"}, false},
	{"conformal full", []string{"--features", "few.csv", "--labels", "few_y.csv", "--test-features", "few.csv", "--out", "out.npy"}, false},
	{"conformal cross", []string{"--logits", "cal.csv", "--labels", "cal_y.csv", "--folds", "cal_g.csv", "--test-logits", "test.csv", "--test-logits", "cal.csv", "--out", "out.csv"}, false},
	{"conformal rscp", []string{"--logits", "cal.csv", "--labels", "cal_y.csv", "--test-logits", "test.csv", "--sigma", "1", "--out", "out.csv"}, false},
	{"conformal rps", []string{"--votes", "votes.csv", "--labels", "cal_y.csv", "--parts", "cal_g.csv", "--test-votes", "votes2.csv", "--out", "out.csv"}, false},
	{"conformal risk", []string{"--logits", "cal.csv", "--truth", "truth.csv", "--out", "out.json"}, false},
	{"defend filter", []string{"--features", "cal.csv", "--labels", "cal_y.csv", "--budget", "0.05", "--out", "out.csv"}, false},
	{"defend compare", []string{"--features", "cal.csv", "--labels", "cal_y.csv", "--poisons", "at.csv", "--budget", "0.05"}, false},
	{"report", []string{"nothing"}, false},
	{"data info", []string{"blobs.npz"}, false},
	{"data export", []string{"blobs.npz", "--out", "out.npz"}, false},
	{"version", nil, false},
	{"audit", []string{"--data", "blobs.npz", "--out", "run", "--train-size", "160", "--cal-size", "60"}, true},
	{"train", []string{"--data", "blobs.npz", "--out", "m.safetensors"}, true},
	{"attack", []string{"--data", "blobs.npz", "--surrogate", "pool-bn.model.safetensors", "--target", "1", "--calibration", ":60", "--out", "poisons"}, true},
	{"calibrate", []string{"--data", "blobs.npz", "--model", "pool-bn.model.safetensors", "--out", "out.json"}, true},
	{"compute", []string{"logits", "--model", "pool-bn.model.safetensors", "--in", "pool-bn.in.safetensors", "--out", "out.safetensors"}, true},
}

// alike are flags of a command whose value may make no difference on these inputs, though it is used.
var alike = []string{"nonempty", "exact-sums", "bias"}

// lines runs fuzzed command lines in a folder of its own.
type lines struct {
	commands map[string]*cli.Command
	keep     map[string]bool
	ran      int // command lines
}

func newLines(t testing.TB) *lines {
	l := &lines{commands: map[string]*cli.Command{}, keep: map[string]bool{}}
	leaves(newApp(nil, nil).Commands, "", func(path string, c *cli.Command) { l.commands[path] = c })
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		l.keep[e.Name()] = true
	}
	return l
}

// run runs a command line, and takes away what it wrote; what is a text of all that it left.
func (l *lines) run(t *testing.T, args []string, long bool) (o outcome, what string) {
	t.Helper()
	l.ran++
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if long {
		cancel()
	}
	var stdout, stderr, all bytes.Buffer
	o.code = runUntil(ctx, append([]string{"gocp"}, args...), &stdout, &stderr)
	o.stdout, o.stderr = stdout.String(), stderr.String()
	all.WriteString(o.stdout)
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if l.keep[e.Name()] {
			continue
		}
		if b, err := os.ReadFile(e.Name()); err == nil {
			fmt.Fprintf(&all, "\n%s\n%s", e.Name(), b)
		}
		if err := os.RemoveAll(e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	said := strings.Join(args, " ")
	switch {
	case o.code != exitOK && o.code != exitUsage && !(long && o.code == exitInterrupted):
		t.Fatalf("%s: status %d: %s", said, o.code, o.stderr)
	case o.code == exitUsage && (strings.Count("\n"+o.stderr, "\ngocp: ") != 1 || !strings.HasPrefix(lastLine(o.stderr), "gocp: ") || o.stdout != "" || all.Len() > 0):
		t.Fatalf("%s: refused with %q on stderr and left %.300q", said, o.stderr, all.String())
	case slices.Contains(args, "--json") && o.code == exitOK:
		strict(t, []byte(o.stdout))
	}
	return o, all.String()
}

func lastLine(text string) string {
	text = strings.TrimSuffix(text, "\n")
	return text[strings.LastIndex(text, "\n")+1:]
}

// check makes a command line of the bytes and runs it: never a panic, a status that is documented, one
// sentence and nothing written where it is refused, and no flag that does nothing.
func (l *lines) check(t *testing.T, b []byte) {
	next := func() int {
		if len(b) == 0 {
			return 0
		}
		c := b[0]
		b = b[1:]
		return int(c)
	}
	f := fuzzed[next()%len(fuzzed)]
	c := l.commands[f.command]
	args := append(strings.Fields(f.command), f.args...)
	if name := drop1(args, next()); name != nil {
		args = name
	}
	type set struct{ flag, value string }
	var extra []set
	for range next() % 6 {
		flag := c.Flags[next()%len(c.Flags)]
		name := flag.Names()[0]
		if flag == cli.HelpFlag || slices.ContainsFunc(extra, func(s set) bool { return s.flag == name }) {
			continue
		}
		value := "=" + strconv.FormatBool(next()%4 != 0)
		if d, ok := flag.(cli.DocGenerationFlag); ok && d.TakesValue() {
			v := values(f.command, flag)
			value = "=" + v[next()%len(v)]
		}
		extra = append(extra, set{name, value})
	}
	hasJSON := slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return f.Names()[0] == "json" })
	line := func(skip int, instead string) []string {
		out := slices.Clone(args)
		for i, s := range extra {
			switch {
			case i != skip:
				out = append(out, "--"+s.flag+s.value)
			case instead != "":
				out = append(out, "--"+s.flag+"="+instead)
			}
		}
		if hasJSON && !f.long {
			out = append(out, "--json")
		}
		return out
	}
	o, what := l.run(t, line(-1, ""), f.long)
	if o.code != exitOK || len(extra) == 0 || f.long {
		return
	}
	// One of the flags is left out, then given other values: somewhere that must make a difference.
	at := next() % len(extra)
	s := extra[at]
	if slices.Contains(shows, s.flag) || slices.Contains(alike, s.flag) {
		return
	}
	if _, other := l.run(t, line(at, ""), false); other != what {
		return
	}
	flag := c.Flags[slices.IndexFunc(c.Flags, func(f cli.Flag) bool { return f.Names()[0] == s.flag })]
	tries := []string{"true", "false"}
	if d, ok := flag.(cli.DocGenerationFlag); ok && d.TakesValue() {
		tries = values(f.command, flag)
		if strings.HasSuffix(s.value, ".csv") { // what it holds may not matter, that it is read does
			tries = append(tries, "none.csv")
		}
	}
	for _, v := range tries {
		if _, other := l.run(t, line(at, v), false); v != "" && other != what {
			return
		}
	}
	t.Fatalf("%s: --%s%s does nothing", strings.Join(line(-1, ""), " "), s.flag, s.value)
}

// drop1 leaves out one of the flags in args, nil for none.
func drop1(args []string, which int) []string {
	if which < 200 {
		return nil
	}
	var names []string
	for _, a := range args {
		if name, ok := strings.CutPrefix(a, "--"); ok && name != "data" { // without it a real one is read
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return drop(args, names[which%len(names)])
}

// lineFiles makes the files that fuzzed lines name, and the environment they run in.
func lineFiles(t testing.TB, dir string) {
	flagFiles(t, dir)
	if err := data.ExportSource(filepath.Join(dir, "blobs.npz"),
		&data.Source{Name: "blobs", Splits: []*data.Dataset{blobs(t, "train", 240, 1), blobs(t, "test", 60, 2)}}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCP_DEVICE", "cpu") // what --device cpu finds chosen; another choice would start the program again
}

func FuzzCommandLine(f *testing.F) {
	dir := f.TempDir()
	lineFiles(f, dir)
	home, err := os.Getwd()
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = os.Chdir(home) })
	for k := range fuzzed {
		for i := range 8 {
			f.Add([]byte{byte(k), byte(40 * i), 5, byte(i), byte(i / 3), byte(i + 1), byte(i), byte(2 * i), byte(i / 2), byte(3*i + 1), 2, byte(i + 7), 1, byte(i)})
		}
	}
	var l *lines
	f.Fuzz(func(t *testing.T, b []byte) {
		if l == nil { // here and not before: a fuzzer's processes are started in the folder of the package
			if err := os.Chdir(dir); err != nil {
				t.Fatal(err)
			}
			l = newLines(t)
		}
		l.check(t, b)
	})
}

// Random command lines without the fuzzer's instruments, which is faster: from as many random ones as GOCP_LINES
// says, else few; each that succeeds is run again with flags changed, which count too.
func TestManyCommandLines(t *testing.T) {
	many := 300
	seed := uint64(1)
	if text := os.Getenv("GOCP_LINES"); text != "" {
		var err error
		if many, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		seed = uint64(time.Now().UnixNano())
	}
	dir := t.TempDir()
	lineFiles(t, dir)
	t.Chdir(dir)
	l := newLines(t)
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, 40)
	for i := range many {
		for k := range b {
			b[k] = byte(r.Uint32())
		}
		l.check(t, b)
		if i%10000 == 9999 || i == many-1 {
			t.Logf("%d random command lines, %d run", i+1, l.ran)
		}
	}
}
