package report

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/plot/vg"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/conformalio"
	"github.com/gocp/gocp/gocp/result"
)

// source turns a fuzzer's bytes into numbers that drawings find hard: extremes, equal values, values a
// rounding error apart, and any float64 at all.
type source struct {
	b    []byte
	last float64
}

func (s *source) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	c := s.b[0]
	s.b = s.b[1:]
	return c
}

func (s *source) below(n int) int { return int(s.byte()) % n }

func (s *source) float() float64 {
	switch c := int(s.byte()); {
	case c < 2*len(extremes):
		s.last = extremes[c/2]
		if c%2 == 1 {
			s.last = -s.last
		}
	case c < 80: // the same again
	case c < 110:
		s.last = math.Nextafter(s.last, inf)
	case c < 130:
		s.last *= 1 + 1e-9
	case c < 190:
		s.last = float64(c-130) / 60
	default:
		var raw [8]byte
		copy(raw[:], s.b)
		s.b = s.b[min(8, len(s.b)):]
		s.last = math.Float64frombits(binary.LittleEndian.Uint64(raw[:]))
	}
	return s.last
}

func (s *source) number() result.Number { return result.Number(s.float()) }

// weight says how many of 256 first bytes name a kind of [drawn]: pages take far longer than what is on them.
var weight = []int{60, 60, 50, 60, 10, 10, 2, 4}

// kind is the kind of drawing that a byte names.
func kind(c byte) int {
	k, n := 0, int(c)
	for ; n >= weight[k]; k++ {
		n -= weight[k]
	}
	return k
}

// drawn are the kinds of drawings, each from a source.
var drawn = []func(t *testing.T, s *source) string{
	func(t *testing.T, s *source) string {
		e := ends{s.below(2) == 1, s.below(2) == 1}
		checkSpan(t, e, s.float(), s.float())
		return ""
	},
	func(t *testing.T, s *source) string { // rows
		how := s.byte()
		p := rows{label: "rows", axis: "axis", w: full, h: 24, radius: 4, ends: ends{how&1 > 0, how&2 > 0}}
		if how&4 > 0 {
			p.w = half
		}
		if how&8 > 0 {
			at := s.float()
			p.at, p.atText = &at, "promised"
		}
		if how&16 > 0 {
			p.band = &[2]float64{s.float(), s.float()}
		}
		marks := 1 + int(how>>5)%3
		for range 1 + s.below(4) {
			r := row{name: "name"}
			for i := range marks {
				r.marks = append(r.marks, interval{shown[i], s.float(), s.float(), s.float()})
			}
			for range s.below(4) {
				r.faint = append(r.faint, s.float())
			}
			if marks > 1 && how&128 > 0 {
				r.join = "attack"
			}
			r.text, r.small = num(s.number(), 2), "± "+num(s.number(), 3)
			p.rows = append(p.rows, r)
		}
		return string(p.drawing().html())
	},
	func(_ *testing.T, s *source) string { // histograms
		var list []panel
		for range 1 + s.below(3) {
			p := panel{cond: result.RandUn, name: "name", mean: s.number()}
			p.sizes = make([]int, s.below(256)*s.below(256))
			for range s.below(8) {
				if n := len(p.sizes); n > 0 {
					p.sizes[(s.below(256)<<8|s.below(256))%n] = int(int8(s.byte())) << s.below(40)
				}
			}
			list = append(list, p)
		}
		return string(histograms(drawing{label: "sizes", w: half, h: 78*vg.Length(len(list)) + 44}, 1+s.below(40), list...).html())
	},
	func(_ *testing.T, s *source) string { // curves
		r := &result.Result{}
		for range s.below(4) {
			curve := make([]result.Number, s.below(30))
			for i := range curve {
				curve[i] = s.number()
			}
			r.Repeats = append(r.Repeats, result.Repeat{Poisons: result.Poisons{Restarts: []result.Restart{{Phi: curve}}}})
		}
		if d := (&view{R: r}).alignmentPlot(); d.paint != nil {
			return string(d.html())
		}
		return ""
	},
	func(t *testing.T, s *source) string { // the page of several splits
		spread := func() conformalio.Spread { return conformalio.Spread{Mean: s.float(), SD: s.float()} }
		var list []conformalio.SplitsResult
		for range 1 + s.below(3) {
			list = append(list, conformalio.SplitsResult{Score: conformal.Variant{Name: "raps", Lambda: 0.1}, Miscoverage: conformal.MustLevel("0.1"),
				Splits: s.below(100), Calibration: s.below(256), Test: s.below(256), Coverage: spread(), Expected: s.float(), ExpectedSD: s.float(), Outside: s.float(),
				MeanSize: spread(), Empty: spread(), Singleton: spread(), Violation: spread(), Tau: spread()})
		}
		var b bytes.Buffer
		if err := WriteComparison(&b, list, About{}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	},
	func(t *testing.T, s *source) string { // the page of an evaluation
		share := func() conformal.Proportion {
			return conformal.Proportion{K: s.below(256), N: s.below(256), Rate: s.float(), Low: s.float(), High: s.float()}
		}
		e := evaluation(s.below(256), 1+s.below(4))
		e.Coverage, e.MeanSize, e.Accuracy = share(), s.float(), s.float()
		e.Expected = &conformalio.Expected{Mean: s.float(), Low: s.float(), High: s.float()}
		e.ByGroup = []conformal.Stratum{{Low: 1, High: 1, Coverage: share(), MeanSize: s.float()}, {Low: -1, High: 1 << 50, Coverage: share()}}
		var b bytes.Buffer
		if err := WriteEvaluation(&b, e, About{}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	},
	func(t *testing.T, s *source) string { // the page of an audit
		r := extremeAudit([]string{"overconfidence", "underconfidence", "add", "unequal"}[s.below(4)], 1+s.below(3), 2+s.below(3), s.float)
		if err := r.Validate(); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := Write(&b, r, nil); err != nil {
			t.Fatal(err)
		}
		if err := Text(&b, r); err != nil {
			t.Fatal(err)
		}
		return b.String()
	},
	func(t *testing.T, s *source) string { // the page of filters
		var b bytes.Buffer
		if err := WriteFiltered(&b, filterPage(1+s.below(3), "name", s.float), noPicture, About{}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	},
}

// extremeAudit is a small valid result whose every number that need not be whole comes from next.
func extremeAudit(goal string, repeats, classes int, next func() float64) *result.Result {
	number := func() result.Number { return result.Number(next()) }
	r := &result.Result{Schema: result.Schema, Config: result.Config{Goal: goal, Miscoverage: "0.1", Victims: 1, Budget: result.Budget{Fraction: "0.04", Count: 3, Epsilon255: number()},
		Score: conformal.Variant{Name: "hps"}}, Dataset: result.Dataset{Classes: make([]string, classes)}}
	for i := range repeats {
		rep := result.Repeat{ID: i, Targets: []result.Target{{ID: i, Benign: []int{i % classes, 1}, Attacked: []result.Attacked{{Label: 1, Role: result.RoleAdd}}}},
			Poisons: result.Poisons{Count: 3, Labels: []int{0}, MaxAbs: number(), MeanAbs: number(), StepAttack: number(), StepRandUn: number(), Phi: number(),
				Restarts: []result.Restart{{Phi: []result.Number{number(), number(), number()}}}}}
		for _, c := range result.Conditions {
			v := result.Victim{Condition: c, Threshold: conformal.Threshold{Tau: next(), Rank: 9, N: 10},
				Test:     result.Test{N: 20, Covered: 18, Coverage: number(), Accuracy: number(), MeanSize: number(), Classes: make([]result.PerClass, classes)},
				Outcomes: []result.Outcome{{Prob: number(), Margins: []result.Number{number()}, Set: []int{0}[:i%2]}}}
			for k := range v.Test.Classes {
				v.Test.Classes[k] = result.PerClass{N: k, Covered: k / 2}
			}
			rep.Victims = append(rep.Victims, v)
		}
		r.Repeats = append(r.Repeats, rep)
	}
	r.Timings = []result.Timing{{Phase: "a", Seconds: next()}, {Phase: "b", Seconds: next()}}
	gauge := &result.Gauge{Mean: next(), Max: next()}
	r.Telemetry = &result.Telemetry{Joules: next(), JoulesPerPoison: next(), Devices: []result.Watched{{Kind: "gpu", Joules: next(), Power: gauge, Utilization: gauge, Memory: gauge}}}
	return r
}

// What a drawing may take, whatever it draws: far more than any takes, far less than a machine has.
const (
	mostTime   = 20 * time.Second // a busy machine is slow
	mostMemory = 64 << 20
	mostText   = 1 << 20
)

// allocated is how much this process has allocated since it began.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// checkDrawing draws the kind that the first byte names, within bounds of time and memory.
func checkDrawing(t *testing.T, b []byte) {
	s := &source{b: b}
	start, before := time.Now(), allocated()
	text := drawn[kind(s.byte())](t, s)
	if d, n := time.Since(start), allocated()-before; d > mostTime || n > mostMemory || len(text) > mostText {
		t.Fatalf("it took %s, %d bytes of memory and wrote %d", d, n, len(text))
	}
	for _, bad := range []string{"NaN", "Inf", "%!", "ZgotmplZ"} {
		if at := strings.Index(text, bad); at >= 0 {
			t.Fatalf("%q: …%s…", bad, text[max(0, at-200):min(len(text), at+80)])
		}
	}
	for rest := text; ; { // nothing lies far from its drawing
		_, after, found := strings.Cut(rest, "<svg viewBox=")
		if !found {
			return
		}
		svg, more, _ := strings.Cut(after, "</svg>")
		if at := longNumber(svg); at >= 0 {
			t.Fatalf("a drawing leaves its frame: …%s…", svg[max(0, at-200):min(len(svg), at+80)])
		}
		rest = more
	}
}

// longNumber is where a number of five digits before its point stands inside a tag, −1 if nowhere.
func longNumber(svg string) int {
	digits, inside, fraction := 0, true, false
	for i := range len(svg) {
		switch c := svg[i]; {
		case c == '<':
			inside, digits = true, 0
		case c == '>':
			inside = false
		case c == '.':
			fraction, digits = true, 0
		case c == '#': // a colour
			fraction = true
		case c < '0' || c > '9':
			fraction = fraction && (c >= 'A' && c <= 'F')
			digits = 0
		case inside && !fraction:
			if digits++; digits == 5 {
				return i
			}
		}
	}
	return -1
}

func FuzzDrawing(f *testing.F) {
	for _, kind := range []byte{0, 60, 120, 170, 230, 240, 250, 252} {
		for _, c := range []byte{0, 2, 4, 30, 38, 40, 42, 60, 85, 120, 160, 255} {
			f.Add(append([]byte{kind}, bytes.Repeat([]byte{c, 7 * c, c}, 30)...))
		}
	}
	f.Fuzz(checkDrawing)
}

// Random drawings without the fuzzer's instruments, which is faster: as many as GOCP_DRAWINGS says, else few.
func TestManyDrawings(t *testing.T) {
	many, seed := 500, uint64(1)
	if text := os.Getenv("GOCP_DRAWINGS"); text != "" {
		var err error
		if many, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, 400)
	for i := range many {
		for k := range b {
			b[k] = byte(r.Uint32())
		}
		checkDrawing(t, b[:1+r.IntN(len(b))])
		if i%100000 == 99999 {
			t.Logf("%d drawings", i+1)
		}
	}
}
