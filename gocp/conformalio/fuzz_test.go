package conformalio

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

// FuzzCSV: any bytes are a matrix of numbers or a sentence about the input.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"", "1,2\n3,4\n", "a;b\n1;2", "\xef\xbb\xbf\"x\"\t\"y\"\n\n1\t2\n", "1,,2\n", "\n\n", ",", "inf,nan\r\n", "1\n2"} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, "a.csv")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := OpenMatrix(path)
		if err == nil {
			defer m.Close()
			var x []float64
			if x, err = m.All(); err == nil && len(x) != m.N*m.K {
				t.Fatalf("%d numbers in %d × %d", len(x), m.N, m.K)
			}
			if m.N > 1 && err == nil {
				last := make([]float64, m.K)
				if err := m.Read(last, m.N-1); err != nil {
					t.Fatal(err)
				}
				for j, v := range last {
					if w := x[(m.N-1)*m.K+j]; v != w && (v == v || w == w) {
						t.Fatalf("the last row is %v alone, %v among all", last, x[(m.N-1)*m.K:])
					}
				}
			}
		}
		if err != nil && !usage.Is(err) {
			t.Fatal(err)
		}
	})
}

// FuzzThresholdFile: what is accepted can be written and read again.
func FuzzThresholdFile(f *testing.F) {
	f.Add([]byte(`{"format":"gocp-conformal-threshold","version":1,"score":{"name":"hps"},"miscoverage":"0.1","form":"logits","thresholds":{"conditioning":{"by":"marginal","below":"infinite"},"labels":2,"all":{"tau":1,"rank":1,"n":2},"absent":{"tau":"inf"}}}`))
	f.Add([]byte(`{"format":"gocp-conformal-threshold","version":1,"thresholds":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCalibration(b)
		if err != nil {
			if !usage.Is(err) {
				t.Fatal(err)
			}
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCalibration(again); err != nil {
			t.Fatal(err)
		}
	})
}
