package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/npy"
)

// filterFiles are features of three classes on a line each, with two samples of class 0 that lie among class 1.
func filterFiles(t *testing.T, dir string) {
	t.Helper()
	var f, y, z strings.Builder
	for i := range 60 {
		c := i % 3
		at := c
		if i == 3 || i == 30 {
			at = 1
		}
		fmt.Fprintf(&f, "%d.%02d,%.2f\n", 10*at, i, float64(i*7%11)/10)
		fmt.Fprintln(&y, c)
		fmt.Fprintf(&z, "%.1f,%.1f,%.1f\n", map[bool]float64{true: 4.5}[at == 0], map[bool]float64{true: 4.5}[at == 1], map[bool]float64{true: 4.5}[at == 2])
	}
	write(t, dir, "f.csv", []byte(f.String()))
	write(t, dir, "y.csv", []byte(y.String()))
	write(t, dir, "z.csv", []byte(z.String()))
	write(t, dir, "at.csv", []byte("3\n30\n"))
	write(t, dir, "none.csv", []byte("3\n60\n"))
	write(t, dir, "twice.csv", []byte("3\n3\n"))
	write(t, dir, "short.csv", []byte("2\n1\n1\n"))
	write(t, dir, "one.csv", []byte(strings.Repeat("1\n", 60)))
	write(t, dir, "nan.csv", []byte(strings.Replace(f.String(), "0.00,", "nan,", 1)))
	pixels, err := os.Create(filepath.Join(dir, "x.npy"))
	if err != nil {
		t.Fatal(err)
	}
	defer pixels.Close()
	if err := npy.Write(pixels, npy.Uint8(make([]uint8, 60*4*4*3), 60, 4, 4, 3)); err != nil {
		t.Fatal(err)
	}
}

// A person who has nothing but features and labels gets the samples that look poisoned, as a file, a page
// with their pictures, and JSON.
func TestDefendFilter(t *testing.T) {
	dir := t.TempDir()
	filterFiles(t, dir)
	o := gocp(t, dir, "defend", "filter", "--features", "f.csv", "--labels", "y.csv", "--logits", "z.csv", "--budget", "1/30", "--out", "flagged.csv", "--report", "page.html", "--images", "x.npy", "--quiet", "--method", "deep-knn,loss")
	if o.code != exitOK {
		t.Fatal(o.stderr)
	}
	if want := "60 samples of 2 features, 3 classes; 2 poisons reckoned with\ndeep-knn               drops 2: "; !strings.HasPrefix(o.stdout, want) {
		t.Error(o.stdout)
	}
	b, err := os.ReadFile(filepath.Join(dir, "flagged.csv"))
	if err != nil {
		t.Fatal(err)
	}
	want := "sample,label,method,rank,score,reason\n" +
		"3,0,deep-knn,1,1,\"of 4 neighbours 4 have label 1, 0 its own\"\n" +
		"30,0,deep-knn,2,1,\"of 4 neighbours 4 have label 1, 0 its own\"\n" +
		"3,0,loss,1,4.522," // log(2 + e^4.5), shown as it is
	if !strings.HasPrefix(strings.ReplaceAll(string(b), "4.52197", "4.522,"), strings.TrimSuffix(want, ",")) {
		t.Errorf("%s", b)
	}
	page, err := os.ReadFile(filepath.Join(dir, "page.html"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"filter report", "of 4 neighbours 4 have label 1", `alt="sample 0 #3"`, "data:image/png;base64,"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

func TestDefendCompare(t *testing.T) {
	dir := t.TempDir()
	filterFiles(t, dir)
	o := gocp(t, dir, "defend", "compare", "--features", "f.csv", "--labels", "y.csv", "--poisons", "at.csv", "--budget", "1/30", "--report", "page.html", "--quiet")
	if o.code != exitOK {
		t.Fatal(o.stderr)
	}
	for _, want := range []string{
		"deep-knn               drops 2:", "2 of 2 poisons, 0 clean samples: precision 1.000, recall 1.000, area under ROC 1.000",
		"spectral               drops 9:", "2 of 2 poisons, 7 clean samples: precision 0.222, recall 1.000",
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %q in\n%s", want, o.stdout)
		}
	}
	o = gocp(t, dir, "defend", "compare", "--features", "f.csv", "--labels", "y.csv", "--poisons", "at.csv", "--budget", "1/30", "--json", "--quiet")
	strict(t, []byte(o.stdout))
}

func TestDefendRefuses(t *testing.T) {
	dir := t.TempDir()
	filterFiles(t, dir)
	for _, c := range []struct{ args, want string }{
		{"--features f.csv", "needs --labels"},
		{"--labels y.csv", "needs --features"},
		{"--features f.csv --labels short.csv", "f.csv has 60 rows, short.csv has 3 labels"},
		{"--features f.csv --labels one.csv", "all 60 samples have the label 1"},
		{"--features nan.csv --labels y.csv", "nan.csv: row 0, column 0 is NaN"},
		{"--features f.csv --labels y.csv --method spectral --budget 0.4", "36 samples of every class go, and class 0 has 20"},
		{"--features f.csv --labels y.csv --budget 2", `--budget is "2"`},
		{"--features f.csv --labels y.csv --method magic", `there is no filter "magic"; there are [deep-knn spectral`},
		{"--features f.csv --labels y.csv --method loss", "loss reads losses, which come from logits or a model"},
		{"--features f.csv --labels y.csv --logits gone.csv", "gone.csv: cannot be read"},
		{"--features f.csv --labels y.csv --cluster-share 0", "--cluster-share"},
		{"--features f.csv --labels y.csv --logits f.csv", "f.csv has logits of 2 classes"},
		{"--features f.csv --labels y.csv --images x.npy", "--images"},
		{"--features f.csv --labels y.csv --images y.csv --report p.html", "y.csv"},
		{"--features f.csv --labels y.csv --model m.safetensors", "--model"},
		{"--features f.csv --labels y.csv --data blobs.npz", "--data"},
		{"--features f.csv --labels y.csv --method spectral --neighbours 3", "--neighbours"},
	} {
		refuses(t, dir, c.want, append([]string{"defend", "filter", "--out", "flagged.csv", "--quiet"}, strings.Fields(c.args)...)...)
	}
	for file, want := range map[string]string{"none.csv": "row 1 is 60, which is no position of a sample", "twice.csv": "row 1 names sample 3 a second time", "f.csv": "columns"} {
		refuses(t, dir, want, "defend", "compare", "--features", "f.csv", "--labels", "y.csv", "--poisons", file, "--quiet")
	}
}
