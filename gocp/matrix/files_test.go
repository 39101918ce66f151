package matrix

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		path := writeText(t, filepath.Join(dir, fmt.Sprintf("%d.csv", i)), c.text)
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
