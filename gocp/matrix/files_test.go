package matrix

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/internal/testfiles"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// TestFiles reads what numpy, torch, safetensors, pandas, pyarrow, polars, duckdb and R wrote into
// testdata/files (bench/files.sh --testdata), and holds it against what they were given.
func TestFiles(t *testing.T) {
	const dir = "testdata/files"
	b, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		File, Part, Kind, Header, Refused string
		Values                            bool // the numbers are refused, not the file
		Rows                              [][]float64
	}
	if err := strictjson.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases) < 150 {
		t.Errorf("%d files", len(cases))
	}
	for _, c := range cases {
		name := filepath.Join(dir, c.File)
		if c.Part != "" {
			name += ":" + c.Part
		}
		err := func() error {
			o := Options{Header: c.Header, Rows: 0}
			if c.Kind == "labels" {
				o.Rows = 12
				got, err := Ints(name, o)
				if err != nil {
					return err
				}
				if c.Values {
					return nil
				}
				if len(got) != len(c.Rows) {
					return fmt.Errorf("%d labels, want %d", len(got), len(c.Rows))
				}
				for i, v := range got {
					if float64(v) != c.Rows[i][0] {
						return fmt.Errorf("label %d is %d, want %v", i, v, c.Rows[i][0])
					}
				}
				return nil
			}
			m, err := Open(name, o)
			if err != nil {
				return err
			}
			defer m.Close()
			got, err := m.All()
			if err != nil {
				return err
			}
			if c.Values {
				return nil
			}
			if m.N != len(c.Rows) || m.K != len(c.Rows[0]) {
				return fmt.Errorf("%s, want %d × %d", m.Shape(), len(c.Rows), len(c.Rows[0]))
			}
			for i, row := range c.Rows {
				sum := 0.0
				for _, v := range got[i*m.K : (i+1)*m.K] {
					sum += v
				}
				for j, want := range row {
					if v := got[i*m.K+j]; v != want && !(c.Kind == "probs" && math.Abs(v/sum-want) < 1e-15) {
						return fmt.Errorf("row %d, column %d is %v, want %v", i, j, v, want)
					}
				}
				one := make([]float64, m.K)
				if err := m.Read(one, i); err != nil || one[0] != got[i*m.K] || one[m.K-1] != got[(i+1)*m.K-1] {
					return fmt.Errorf("row %d alone is %v, %v; among all %v", i, one, err, got[i*m.K:(i+1)*m.K])
				}
			}
			if m.Narrow() {
				x := make([]float32, m.N*m.K)
				if err := m.Read32(x, 0); err != nil {
					return err
				}
				for i, v := range x {
					if float64(v) != got[i] {
						return fmt.Errorf("element %d is %v in float32, %v in float64", i, v, got[i])
					}
				}
			}
			return nil
		}()
		switch {
		case c.Refused == "" && err != nil:
			t.Errorf("%s: %v", c.File, err)
		case c.Refused != "" && err != nil && (!usage.Is(err) || !strings.Contains(err.Error(), c.Refused) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v; want %q", c.File, err, c.Refused)
		case c.Refused != "" && err == nil && !c.Values:
			t.Errorf("%s: went through; want %q", c.File, c.Refused)
		}
	}
}

// TestNames: where a name ends and the part of it begins.
func TestNames(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "resnet.v2:val.npy")
	for _, path := range []string{odd, filepath.Join(dir, "z.npz"), filepath.Join(dir, "z.csv.gz")} {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct{ name, path, part string }{
		{odd, odd, ""},
		{odd + ":a", odd, "a"},
		{at("z.npz:a/b"), at("z.npz"), "a/b"},
		{at("z.npz:a:b"), at("z.npz"), "a:b"},
		{at("z.csv.gz:a,b"), at("z.csv.gz"), "a,b"},
		{at("absent.npz:a/b.c:d"), at("absent.npz"), "a/b.c:d"},
		{at("absent"), at("absent"), ""},
		{dir + ":logit_*", dir, "logit_*"},
	} {
		if path, part := Split(c.name); path != c.path || part != c.part {
			t.Errorf("%s: %q and %q", c.name, path, part)
		}
	}
	if got := Base(at("z.npz:a/b")); got != "z.npz:a/b" {
		t.Errorf("base %q", got)
	}
}

// TestFirstLine: what a first line of numbers is, by what follows it, how many rows there must be, and
// what is said of it.
func TestFirstLine(t *testing.T) {
	dir := t.TempDir()
	for i, c := range []struct {
		text    string
		o       Options
		n       int    // rows
		refused string // or a part of the sentence
	}{
		{"0,1,2\n0.5,1.5,2.5\n", Options{}, 1, ""},
		{",0,1\n0,0.5,1.5\n1,2.5,3.5\n", Options{}, 2, ""},
		{",0,1\n7,0.5,1.5\n3,2.5,3.5\n", Options{}, 2, ""},
		{"0.5,,1\n0,0.5,1.5\n", Options{}, 0, "missing"},
		{"0\n3\n1\n", Options{}, 0, "--header"},
		{"0\n3\n1\n", Options{Rows: 3}, 3, ""},
		{"0\n3\n1\n", Options{Rows: 2}, 2, ""},
		{"0\n3\n1\n", Options{Rows: 5}, 0, "--header"},
		{"0\n3\n1\n", Options{Header: HeaderNo}, 3, ""},
		{"0\n3\n1\n", Options{Header: HeaderYes}, 2, ""},
		{"3\n1\n2\n", Options{Header: HeaderYes, Rows: 3}, 3, ""}, // --header is for the logits beside
		{"0,1\n1,0\n0,1\n", Options{Rows: 3}, 3, ""},
		{"0,1\n1,0\n0,1\n", Options{}, 0, "--header"},
		{"3,7\n0.5,1.5\n", Options{}, 0, "--header"},
		{"3,7\n0.5,1\n", Options{}, 0, "two kinds"},
		{"x,0,1\na,0.5,1.5\n", Options{}, 1, ""},
		{"a,0.5,1.5\nb,0.25,1.5\n", Options{}, 2, ""},
		{"a,3,7\nb,4,8\n", Options{}, 0, "--header"},
		{"a,b\n", Options{}, 0, "no rows"},
		{"0.5,1.5\n", Options{}, 1, ""},
		{"1;2\n3;4\n", Options{}, 2, ""},
		{"0,5;1,5\n0,25;1,75\n", Options{}, 2, ""},
		{"a b\n1 0.5 1.5\n2 0.25 1.25\n", Options{}, 2, ""}, // R's
		{"1,2\n3,4,5\n", Options{}, 0, "line 2 has 3"},
		{"a,b\n0.5,\"1.5\n", Options{}, 0, "quote"},
		{"0.5,1.5\r0.5,1.5\r", Options{}, 0, "carriage returns"},
		{"0.5,1.5\n0.5,1_5\n", Options{}, 0, "no number"},
	} {
		path := testfiles.Text(t, filepath.Join(dir, fmt.Sprintf("%d.csv", i)), c.text)
		m, err := Open(path, c.o)
		if err == nil {
			_, err = m.All()
			if c.refused == "" && (err != nil || m.N != c.n) {
				t.Errorf("%q with %+v: %d rows, %v; want %d", c.text, c.o, m.N, err, c.n)
			}
			m.Close()
		}
		if (err != nil) != (c.refused != "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%q with %+v: %v; want %q", c.text, c.o, err, c.refused)
		}
	}
}

// TestChoose: which columns of a table are taken.
func TestChoose(t *testing.T) {
	c := func(name string, k kind) column { return column{name: name, kind: k} }
	logits := []column{c("l0", fractions), c("l1", fractions), c("l2", nothing)}
	with := func(more ...column) []column { return append(append([]column{}, logits...), more...) }
	for _, x := range []struct {
		cols    []column
		part    string
		one     bool
		want    string // the names that are taken, or
		refused string
	}{
		{logits, "", false, "l0 l1 l2", ""},
		{with(c("file", text), c("when", dates), column{name: "i", kind: whole, index: true}), "", false, "l0 l1 l2", ""},
		{with(c("label", whole)), "", false, "", "whole numbers in label"},
		{with(c("target", fractions)), "", false, "", "column target may be"},
		{with(c("l1", fractions)), "", false, "", "two columns are called"},
		{with(column{name: "z", kind: fractions, list: true}), "", false, "", "column z holds lists"},
		{with(c("label", whole)), "l?", false, "l0 l1 l2", ""},
		{with(c("label", whole)), "l*", false, "", "two kinds"},
		{with(c("label", whole)), "*", false, "l0 l1 l2 label", ""},
		{with(c("label", whole)), "l2,l0", false, "l2 l0", ""},
		{with(c("label", whole)), "l0,label", false, "l0 label", ""},
		{with(c("label", whole)), "label", true, "label", ""},
		{with(c("label", whole)), "", true, "", "say which"},
		{with(c("label", text)), "label", true, "", "holds text"},
		{with(c("when", dates)), "when", true, "", "holds dates or times"},
		{logits, "l0,l0", false, "", "asked for twice"},
		{logits, "q", false, "", "no column \"q\""},
		{logits, "q*", false, "", "no column \"q*\""},
		{[]column{c("a,b", fractions), c("c", fractions)}, "a,b", false, "a,b", ""},
		{[]column{c("a,b", fractions), c("c", fractions)}, `c,"a,b"`, false, "c a,b", ""},
		{[]column{c("p.a", fractions), c("p.b", fractions), c("q", whole)}, "p", false, "p.a p.b", ""},
		{[]column{c("l1", fractions), c("l10", fractions), c("l2", fractions)}, "", false, "", "do not count upwards"},
		{[]column{c("l1", fractions), c("l10", fractions), c("l2", fractions)}, "*", false, "", "do not count upwards"},
		{[]column{c("l1", fractions), c("l10", fractions), c("l2", fractions)}, "l1,l2,l10", false, "l1 l2 l10", ""},
		{[]column{c("a", text)}, "", false, "", "no column of numbers"},
		{with(c("note", text)), "", false, "l0 l1 l2", ""},
		{with(column{name: "note", kind: text, example: "[0.5", number: true}), "", false, "", `such as "[0.5"`},
		{with(column{name: "note", kind: text, example: "[0.5", number: true}), "l*", false, "l0 l1 l2", ""},
		{with(c("l3", text)), "", false, "", "column l3 holds text and l2 zeros"},
		{with(c("p0", fractions), c("p1", fractions)), "", false, "", "count twice"},
		{with(c("other", fractions)), "", false, "", "other beside them"},
		{with(c("other", fractions)), "*", false, "l0 l1 l2 other", ""},
		{with(c("l4", fractions)), "", false, "", "3 is missing before l4"},
		{with(c("l4", fractions)), "l*", false, "", "3 is missing before l4"},
		{[]column{c("n01", fractions), c("n07", fractions), c("n09", fractions)}, "", false, "", "is missing"},
		{[]column{c("n15", fractions), c("n27", fractions), c("n39", fractions)}, "", false, "n15 n27 n39", ""},
		{[]column{c("a_x", fractions), c("b_x", fractions), c("a_y", fractions), c("b_y", fractions)}, "", false, "", "at the same words"},
		{[]column{c("a_x", fractions), c("b_x", fractions), c("a_y", fractions), c("b_y", fractions)}, "*_x", false, "a_x b_x", ""},
		{[]column{c("oak_tree", fractions), c("palm_tree", fractions), c("aquarium_fish", fractions)}, "", false, "oak_tree palm_tree aquarium_fish", ""},
		{[]column{c("False", fractions), c("True", fractions)}, "", false, "False True", ""},
		{[]column{c("p.a", fractions), c("p.b", fractions), c("p.n", whole)}, "p", false, "", "two kinds"},
	} {
		used, _, err := choose(x.cols, x.part, Options{One: x.one})
		var got []string
		for _, i := range used {
			got = append(got, x.cols[i].name)
		}
		switch {
		case x.refused == "" && (err != nil || strings.Join(got, " ") != x.want):
			t.Errorf("%q of %v: %v, %v; want %s", x.part, x.cols, got, err, x.want)
		case x.refused != "" && (err == nil || !usage.Is(err) || !strings.Contains(err.Error(), x.refused)):
			t.Errorf("%q of %v: %v, %v; want %q", x.part, x.cols, got, err, x.refused)
		}
	}
}

// TestDisguised: fields that are numbers with something around them.
func TestDisguised(t *testing.T) {
	for field, want := range map[string]bool{
		"[0.5": true, "1.5]": true, "(-0.5": true, "12%": true, "1.5 %": true, "tensor(3)": true, "tensor(0.5, device='cuda:0')": true,
		"np.float64(0.25)": true, "'1.5'": true, "−0.5": true, `"1,234.5"`: true, "$3": true,
		"cat": false, "img1.png": false, "a,0.png": false, "2024-01-01": false, "12:30": false, "[1,]": false, "c3": false, "(b)": false,
		"1.2.3": false, "": false, "%": false, "class(a)": false, "1,23.5": false, "7": false, "e": false, "(e)": false,
	} {
		if got := (dialect{sep: ';'}).disguised([]byte(field)); got != want {
			t.Errorf("%q: %v", field, got)
		}
	}
}
