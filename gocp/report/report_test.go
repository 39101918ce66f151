package report

import (
	"bytes"
	"encoding/xml"
	"flag"
	"fmt"
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

	"golang.org/x/image/font/sfnt"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

var render = flag.String("render", "", "folder to write the reports of made results to, to look at")

// pictures are base64, in which any word may turn up.
var pictures = regexp.MustCompile(`"data:image/png;base64,[^"]*"`)

// keep writes what -render asks for.
func keep(t *testing.T, name string, content []byte) {
	t.Helper()
	if *render == "" {
		return
	}
	name = strings.ReplaceAll(name, " ", "-")
	if filepath.Ext(name) == "" {
		name += ".html"
	}
	if err := os.WriteFile(filepath.Join(*render, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

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
		"clear":   with("overconfidence", 12, 10, 1.3, nil),
		"none":    with("overconfidence", 12, 10, 0.1, nil),
		"under":   with("underconfidence", 12, 10, -1.4, nil),
		"wrong":   with("underconfidence", 12, 10, 1.4, nil),
		"empty":   with("overconfidence", 12, 10, 2.6, nil),
		"one":     with("overconfidence", 1, 10, 1, nil),
		"large":   with("overconfidence", 40, 100, 1, nil),
		"two":     with("remove", 5, 2, 1, nil),
		"group":   with("unequal", 8, 10, 1.5, nil),
		"divided": with("unequal", 8, 10, 1.5, divided),
		"labels":  with("overconfidence", 8, 10, 1.3, func(r *result.Result) { turned(r, "labels") }),
		"both":    with("add", 8, 10, 1.3, func(r *result.Result) { turned(r, "both") }),
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
		keep(t, name, []byte(page))
	}
}

func TestReportOfSubgroups(t *testing.T) {
	r, f := made("unequal", 6, 10, 1.3)
	divided(r)
	page := pictures.ReplaceAllString(write(t, r, f), "")
	var text bytes.Buffer
	if err := Text(&text, r); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Clear effect", "lower the coverage of a subgroup", "Coverage of the attacked subgroups", "Coverage outside of it", "that the adversary did not see"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	low, high := conformal.ClopperPearson(21, 60, 0.95) // the first repeat: 20 and 21 of 60, at the mean
	if want := fmt.Sprintf("0.342 (%.3f–%.3f)", low, high); !strings.Contains(text.String(), "coverage of the attacked subgroups") || !strings.Contains(text.String(), want) {
		t.Errorf("the text does not say %q:\n%s", want, text.String())
	}
	if !strings.Contains(text.String(), "coverage of the subgroup's other members") || !strings.Contains(text.String(), "← decides") {
		t.Error(text.String())
	}
}

// A report of turned labels claims of none that it is unchanged, and of no pixel that it was moved, unless it was.
func TestReportOfTurnedLabels(t *testing.T) {
	for poison, c := range map[string]struct{ has, hasNot []string }{
		"labels": {[]string{"images unchanged and with other labels", "may turn the labels of 4", "Attack − random labels", "carry random labels instead", "with another label, below", " → ", "into", "in 2 rounds"},
			[]string{"labels unchanged", "none with a wrong label", "uniform noise", "Uniform noise", "with the same label", "255 of the originals", "largest change", "signed Adam"}},
		"both": {[]string{"16/255 of the originals and with other labels", "each with a wrong label", "Random labels", "largest change"},
			[]string{"labels unchanged", "none with a wrong label", "uniform noise", "with the same label"}},
	} {
		r, f := made("overconfidence", 6, 10, 1.3)
		turned(r, poison)
		page := pictures.ReplaceAllString(write(t, r, f), "")
		var text bytes.Buffer
		if err := Text(&text, r); err != nil {
			t.Fatal(err)
		}
		for _, want := range c.has {
			if !strings.Contains(page, want) {
				t.Errorf("%s: the page does not say %q", poison, want)
			}
		}
		for _, bad := range c.hasNot {
			if strings.Contains(page, bad) || strings.Contains(text.String(), bad) {
				t.Errorf("%s: page or text say %q", poison, bad)
			}
		}
		if !strings.Contains(text.String(), "labels turned") || !strings.Contains(text.String(), "attack − randlabel") {
			t.Errorf("%s:\n%s", poison, text.String())
		}
	}
}

// Every colour of a figure in a page is a property of the page's theme, and every figure has a name.
func TestFiguresFollowTheTheme(t *testing.T) {
	figure := regexp.MustCompile(`(?s)<svg viewBox.*?</svg>`)
	for name, make := range cases() {
		r, fsys := make()
		for _, f := range figure.FindAllString(write(t, r, fsys), -1) {
			if !strings.Contains(f, `role="img" aria-label="`) || regexp.MustCompile(`"[^"]*(#[0-9A-Fa-f]{6}|font-family)`).MatchString(f) {
				t.Errorf("%s: a figure has colours or fonts of its own, or no name: %.300s", name, f)
			}
			for _, p := range regexp.MustCompile(`var\((--\w+)\)`).FindAllStringSubmatch(f, -1) {
				if n := strings.Count(string(style), p[1]+":"); n < 2 {
					t.Errorf("%s: %s is in %d themes of the page's style", name, p[1], n)
				}
			}
		}
	}
	for a, c := range theme {
		for b, o := range theme {
			far := max(math.Abs(float64(c.R)-float64(o.R)), math.Abs(float64(c.G)-float64(o.G)), math.Abs(float64(c.B)-float64(o.B)))
			if a != b && far < 6 {
				t.Errorf("%s and %s are too much alike to be told apart in a drawing", a, b)
			}
		}
		for _, alpha := range []float64{0.05, 0.28, 0.3, 0.55, 1} {
			d := drawing{w: 9, h: 9, paint: func(to draw.Canvas) { to.FillPolygon(faded(a, alpha), []vg.Point{{}, {X: 1}, {Y: 1}}) }}
			if !strings.Contains(string(d.html()), `style="fill:var(--`+a+`)`) {
				t.Errorf("%s at %g: %s", a, alpha, d.html())
			}
		}
	}
	d := drawing{w: 9, h: 9, label: `"<`, paint: func(c draw.Canvas) {
		c.FillText(lettering("ink", 12, draw.XRight), vg.Point{X: 7}, `<i> style="fill:#CF2F5C" 5 < 6`)
	}}
	if s := string(d.html()); !strings.Contains(s, `x="7"`) || !strings.Contains(s, "text-anchor:end") || !strings.Contains(s, `fill:#CF2F5C`) || strings.Contains(s, "<i>") {
		t.Errorf("a text is not as it should be: %s", s)
	}
}

func TestFigureFiles(t *testing.T) {
	r, _ := cases()["clear"]()
	start := map[string]string{"pdf": "%PDF-", "png": "\x89PNG", "svg": "<svg xmlns="}
	for _, format := range Formats() {
		list, err := Figures(r, format)
		if err != nil || len(list) != 10 {
			t.Fatalf("%s: %d figures, %v", format, len(list), err)
		}
		again, err := Figures(r, format)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range list {
			if !bytes.HasPrefix(f.Content, []byte(start[format])) || filepath.Ext(f.Name) != "."+format {
				t.Errorf("%s starts with %q", f.Name, f.Content[:9])
			}
			if !bytes.Equal(f.Content, again[i].Content) {
				t.Errorf("%s: the same result gave other bytes", f.Name)
			}
			if format == "pdf" && bytes.Count(f.Content, []byte("(D:20000101000000")) == 0 {
				t.Errorf("%s bears a date", f.Name)
			}
			keep(t, f.Name, f.Content)
		}
	}
	for name, make := range cases() { // what a page survives, files do
		r, _ := make()
		for _, format := range []string{"pdf", "svg"} {
			if _, err := Figures(r, format); err != nil {
				t.Errorf("%s as %s: %v", name, format, err)
			}
		}
	}
	if _, err := Figures(r, "gif"); !usage.Is(err) || !strings.Contains(err.Error(), "pdf, png, svg") {
		t.Errorf("%v", err)
	}
}

// Every letter of a figure has a shape: none is a box in a file.
func TestLetters(t *testing.T) {
	face := hand.Fonts.Lookup(lettering("ink", 12, 0).Font, 12)
	for _, c := range "−–…’±×τΦΔℓ₃←→∞ϵ\u00a0 %#" {
		var b sfnt.Buffer
		if g, err := face.Face.GlyphIndex(&b, c); err != nil || g == 0 {
			t.Errorf("%q has no shape: %v", c, err)
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
	if page := write(t, r, f); strings.Count(page, "<img") != 2*(1+2*4*3)+2*2 {
		t.Errorf("%d pictures", strings.Count(page, "<img"))
	}
	if page := write(t, r, nil); strings.Contains(page, "<img") {
		t.Error("pictures without a folder")
	}
}

// TestNearImages: the nearest pairs are shown, so many and no more, the nearest first, with what is remarkable.
func TestNearImages(t *testing.T) {
	r, f := made("overconfidence", 30, 10, 1)
	for i := range r.Repeats {
		r.Repeats[i].Targets[0].Near.Distance = result.Number(float64((i*7)%30) / 30)
	}
	r.Repeats[0].Targets[0].Near.Levels = 0 // at distance 0
	page := write(t, r, f)
	_, section, ok := strings.Cut(page, "Targets beside the training images")
	if !ok || strings.Count(section, "<img") != 2*maxNear {
		t.Fatalf("%d pictures of near images", strings.Count(section, "<img"))
	}
	last := -1
	for k := range maxNear {
		at := strings.Index(section, num(result.Number(float64(k)/30), 2)+" apart")
		if at <= last {
			t.Errorf("pair %d is not in its place", k)
		}
		last = at
	}
	if !strings.Contains(section, "an exact copy") || !strings.Contains(section, "labels differ") {
		t.Error("copies or other labels are not named")
	}
	for i := range r.Repeats {
		r.Repeats[i].Targets[0].Near = nil // as earlier versions wrote
	}
	if strings.Contains(write(t, r, f), "Targets beside") {
		t.Error("a section without pairs")
	}
	delete(f, "pictures/near0.png")
	r, _ = made("overconfidence", 2, 10, 1)
	var b bytes.Buffer
	if err := Write(&b, r, f); err == nil || !strings.Contains(err.Error(), "near0.png") {
		t.Errorf("a picture that is gone: %v", err)
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

// A training is said in words, with what it has beyond SGD at one rate.
func TestTrainText(t *testing.T) {
	plain := result.Train{Epochs: 20, Batch: 128, LR: 0.01, Schedule: "constant", Momentum: 0.9, WeightDecay: 5e-4}
	steps, cosine := plain, plain
	steps.Schedule, steps.Milestones, steps.Gamma, steps.Nesterov, steps.Shift, steps.Pad, steps.Flip = "steps", []int{7, 12, 17}, 0.1, true, 4, "zero", true
	cosine.Schedule, cosine.Warmup, cosine.Shift, cosine.Pad = "cosine", 1, 2, "reflect"
	for want, train := range map[string]result.Train{
		"SGD, 20 epochs, batch 128, learning rate 0.01, momentum 0.9, weight decay 0.0005":                                                                plain,
		"SGD, 20 epochs, batch 128, learning rate 0.01 × 0.1 after epochs 7, 12, 17, momentum 0.9 (Nesterov), weight decay 0.0005, shift ±4, flip":        steps,
		"SGD, 20 epochs, batch 128, learning rate 0.01 to 0 by a cosine, warm-up of 1 epoch, momentum 0.9, weight decay 0.0005, shift ±2 with reflection": cosine,
	} {
		if got := trainText(train); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
