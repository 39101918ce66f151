package report

import (
	"bytes"
	"encoding/xml"
	"flag"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/result"
)

var render = flag.String("render", "", "folder to write the reports of made results to, to look at")

// pictures are base64, in which any word may turn up.
var pictures = regexp.MustCompile(`"data:image/png;base64,[^"]*"`)

func write(t *testing.T, r *result.Result, fsys fs.FS) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, r, fsys); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// cases are results of every shape the page must survive.
func cases() map[string]func() (*result.Result, fs.FS) {
	with := func(goal string, n, k int, effect float64, do func(*result.Result)) func() (*result.Result, fs.FS) {
		return func() (*result.Result, fs.FS) {
			r, f := made(goal, n, k, effect)
			if do != nil {
				do(r)
			}
			return r, f
		}
	}
	return map[string]func() (*result.Result, fs.FS){
		"clear": with("overconfidence", 12, 10, 1.3, nil),
		"none":  with("overconfidence", 12, 10, 0.1, nil),
		"under": with("underconfidence", 12, 10, -1.4, nil),
		"wrong": with("underconfidence", 12, 10, 1.4, nil),
		"empty": with("overconfidence", 12, 10, 2.6, nil),
		"one":   with("overconfidence", 1, 10, 1, nil),
		"large": with("overconfidence", 40, 100, 1, nil),
		"two":   with("remove", 5, 2, 1, nil),
		"group": with("unequal", 8, 10, 1.5, nil),
		"nothing": func() (*result.Result, fs.FS) {
			r, _ := made("overconfidence", 3, 10, 1)
			r.Repeats = nil
			return r, nil
		},
		"attack alone": with("overconfidence", 3, 10, 1, func(r *result.Result) {
			for i := range r.Repeats {
				r.Repeats[i].Victims = r.Repeats[i].Victims[:2]
			}
		}),
		"infinite": with("add", 4, 10, 1, func(r *result.Result) {
			for i := range r.Repeats {
				for v := range r.Repeats[i].Victims {
					vic := &r.Repeats[i].Victims[v]
					vic.Threshold = conformal.Threshold{Tau: math.Inf(1), Rank: 9, N: 8}
					for k := range vic.Outcomes[0].Margins {
						vic.Outcomes[0].Margins[k] = result.Number(math.Inf(-1))
					}
				}
			}
		}),
		"hostile names": with("overconfidence", 3, 10, 1, func(r *result.Result) {
			r.Dataset.Classes[1] = `<script>alert("1")</script>`
			r.Dataset.Name = `"><img src=x onerror=alert(1)>`
			r.Config.Goal = "100 %s <b>"
			r.Repeats[0].Targets[0].Why = `</style>`
		}),
		"nothing filled": func() (*result.Result, fs.FS) {
			return &result.Result{Schema: result.Schema, Config: result.Config{Miscoverage: "0.1"}, Dataset: result.Dataset{Classes: []string{""}},
				Repeats: []result.Repeat{{Targets: []result.Target{{}}, Victims: []result.Victim{{Condition: result.Attack, Outcomes: []result.Outcome{{}}}}}}}, nil
		},
	}
}

func TestEveryShape(t *testing.T) {
	for name, make := range cases() {
		r, fsys := make()
		page := write(t, r, fsys)
		if again := write(t, r, fsys); again != page {
			t.Errorf("%s: two reports of one result differ", name)
		}
		wellFormed(t, name, page)
		words := pictures.ReplaceAllString(page, "")
		for _, bad := range []string{"NaN", "Inf", "<nil>", "%!", "http:", "https:", "<script", "onerror=alert(1)>", "ZgotmplZ"} {
			if at := strings.Index(words, bad); at >= 0 {
				t.Errorf("%s: page contains %q: …%s…", name, bad, words[max(0, at-80):min(len(words), at+80)])
			}
		}
		if src := regexp.MustCompile(`(src|href)="([^"]{0,9})`).FindAllStringSubmatch(page, -1); len(src) > 0 {
			for _, m := range src {
				if m[2] != "data:imag" {
					t.Errorf("%s: page refers to %q", name, m[2])
				}
			}
		}
		var text bytes.Buffer
		if err := Text(&text, r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, bad := range []string{"NaN", "Inf", "%!"} {
			if strings.Contains(text.String(), bad) {
				t.Errorf("%s: text contains %q:\n%s", name, bad, text.String())
			}
		}
		if *render != "" {
			file := filepath.Join(*render, strings.ReplaceAll(name, " ", "-"))
			if err := os.WriteFile(file+".html", []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file+".txt", text.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// wellFormed holds the page to XML's rules, which are stricter than a browser's.
func wellFormed(t *testing.T, name, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Entity = xml.HTMLEntity
	for {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
}

func TestVerdicts(t *testing.T) {
	for name, want := range map[string]string{"clear": "clear", "none": "none", "under": "clear", "wrong": "reverse", "one": "unknown", "nothing": "unknown", "attack alone": "unknown"} {
		r, _ := cases()[name]()
		s := result.Summarise(r.Repeats, len(r.Dataset.Classes))
		v := newVerdict(r, &s)
		if v.Class != want {
			t.Errorf("%s: verdict %s (%s), want %s", name, v.Class, v.Headline, want)
		}
	}
	// Thresholds that are infinite are said.
	few, _ := cases()["infinite"]()
	sum := result.Summarise(few.Repeats, len(few.Dataset.Classes))
	if p := newVerdict(few, &sum).Points[0]; p.Title != "Calibration" || !strings.Contains(p.Text, "16 of 32 victims") && !strings.Contains(p.Text, "32 of 32 victims") {
		t.Errorf("infinite thresholds: %+v", p)
	}
	// The verdict follows the repeats even where the file's own summary claims otherwise.
	r, fsys := cases()["none"]()
	for i := range r.Summary.Paired {
		r.Summary.Paired[i].Z = 50
	}
	if !strings.Contains(write(t, r, fsys), "No effect found") {
		t.Error("the page believes the summary in the file")
	}
}

func TestTimingsAloneMayDiffer(t *testing.T) {
	r, fsys := cases()["clear"]()
	cut := regexp.MustCompile(`(?s)<div class="card scroll" id="(timing|telemetry)">.*?</div>`)
	a := cut.ReplaceAllString(write(t, r, fsys), "")
	for i := range r.Timings {
		r.Timings[i].Seconds *= 1.37
	}
	r.Telemetry = machine()
	if b := cut.ReplaceAllString(write(t, r, fsys), ""); a != b {
		t.Error("wall times show outside their own part of the page")
	}
}

func TestPicturesAreChecked(t *testing.T) {
	good := func() (*result.Result, fstest.MapFS) { return made("overconfidence", 2, 10, 1) }
	for want, do := range map[string]func(*result.Result, fstest.MapFS){
		"pictures/target0.png": func(_ *result.Result, f fstest.MapFS) { delete(f, "pictures/target0.png") },
		"pictures/target1.png": func(_ *result.Result, f fstest.MapFS) {
			f["pictures/target1.png"] = &fstest.MapFile{Data: []byte("not a picture")}
		},
		"pictures/0-1-after.png": func(_ *result.Result, f fstest.MapFS) {
			f["pictures/0-1-after.png"] = &fstest.MapFile{Data: f["pictures/0-1-after.png"].Data[:60]}
		},
	} {
		r, f := good()
		do(r, f)
		var b bytes.Buffer
		if err := Write(&b, r, f); err == nil || !strings.Contains(err.Error(), want) || b.Len() > 0 {
			t.Errorf("error %v does not name %s, or %d bytes were written", err, want, b.Len())
		}
	}
	r, f := good()
	if page := write(t, r, f); strings.Count(page, "<img") != 2*(1+2*4*3) {
		t.Errorf("%d pictures", strings.Count(page, "<img"))
	}
	if page := write(t, r, nil); strings.Contains(page, "<img") {
		t.Error("pictures without a folder")
	}
}

func TestFormats(t *testing.T) {
	for _, c := range [][2]string{
		{num(-0.001, 2), "0.00"}, {num(-1.5, 1), "−1.5"}, {num(result.Number(math.NaN()), 2), "–"}, {num(result.Number(math.Inf(-1)), 2), "−∞"},
		{signed(0.5, 2), "+0.50"}, {signed(0.001, 2), "0.00"}, {signed(-1, 0), "−1"},
		{percent(0.5), "50\u00a0%"}, {percent(0.004), "0.4\u00a0%"}, {percent(0.996), "99.6\u00a0%"}, {percent(1), "100\u00a0%"}, {percent(0), "0\u00a0%"},
		{fractionPercent("0.04"), "4\u00a0%"}, {fractionPercent("0.005"), "0.5\u00a0%"}, {fractionPercent("x"), "x"},
		{plural(1, "victim"), "1 victim"}, {plural(3, "class"), "3 classes"}, {thousands(4500), "4500"}, {thousands(50000), "50\u202f000"}, {thousands(1234567), "1\u202f234\u202f567"},
		{duration(3.21), "3.2 s"}, {duration(75), "1 min 15 s"}, {duration(3700), "1 h 01 min"}, {duration(math.NaN()), "–"},
		{pValue(0.00001), "p < 0.0001"}, {pValue(0.004), "p = 0.0040"}, {pValue(0.2), "p = 0.20"},
	} {
		if c[0] != c[1] {
			t.Errorf("%q, want %q", c[0], c[1])
		}
	}
}

func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want int
	}{{[]float64{0.0243, -0.0007}, 4}, {[]float64{-3.5}, 2}, {[]float64{1234}, 0}, {nil, 2}, {[]float64{math.NaN(), math.Inf(1), 0.5}, 3}, {[]float64{1e-300}, 9}} {
		if got := places(c.x...); got != c.want {
			t.Errorf("places(%v) = %d, want %d", c.x, got, c.want)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range [][2]float64{{0, 1}, {-0.03, 0.004}, {0.88, 0.92}, {0, 100}, {-5, 1e6}, {1e-7, 2e-7}} {
		at, _ := ticks(c[0], c[1], 6)
		if len(at) < 3 || len(at) > 13 {
			t.Errorf("%v: ticks %v", c, at)
		}
		for _, v := range at {
			if d := c[1] - c[0]; v < c[0]-d*1e-6 || v > c[1]+d*1e-6 {
				t.Errorf("%v: tick %v lies outside", c, v)
			}
		}
	}
}

func TestText(t *testing.T) {
	r, _ := cases()["clear"]()
	var b bytes.Buffer
	if err := Text(&b, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"attack ", "randun", "randga", "clean", "benign", "Clear effect", "← decides", "paired over repeats"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing from\n%s", want, b.String())
		}
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "  ") && utf8.RuneCountInString(line) > 101 {
			t.Errorf("a line of the table is %d wide: %s", utf8.RuneCountInString(line), line)
		}
	}
}

func TestInvalidResult(t *testing.T) {
	r, fsys := cases()["clear"]()
	r.Repeats[0].Targets[0].Label = 99
	if err := Write(io.Discard, r, fsys); err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("%v", err)
	}
	if err := Text(io.Discard, r); err == nil {
		t.Error("an invalid result was printed")
	}
}
