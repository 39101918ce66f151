package conformalio

import (
	"encoding/json"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

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
