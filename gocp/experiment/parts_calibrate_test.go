package experiment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gocp/gocp/gocp/usage"
)

// TestCalibrationOfAnotherDraw: a calibration file whose u was drawn in another way is refused.
func TestCalibrationOfAnotherDraw(t *testing.T) {
	for text, want := range map[string]string{
		`{"schema":1,"score":{"name":"aps","u":"sample"},"u_drawn_by":"row","threshold":{"tau":0.9,"rank":9,"n":9}}`: "",
		`{"schema":1,"score":{"name":"aps","u":"one"},"threshold":{"tau":0.9,"rank":9,"n":9}}`:                       "",
		`{"schema":1,"score":{"name":"aps","u":"sample"},"threshold":{"tau":0.9,"rank":9,"n":9}}`:                    "calibrate again",
	} {
		path := filepath.Join(t.TempDir(), "c.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := ReadCalibration(path)
		if want == "" && err != nil || want != "" && (!usage.Is(err) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
