package main

import (
	"bytes"
	"encoding"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/bench"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/conformalio"
	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/result"
)

// printed has one of each thing that a command writes as JSON, to a file or with --json.
func printed() []any {
	return []any{
		new(result.Result), new(result.Telemetry), new([]result.Timing), new(experiment.Config),
		new(experiment.Trained), new(experiment.Calibration), new(experiment.Evaluation), new(attack.Manifest), new(attack.Crafting), new([]attack.Aimed),
		new(conformalio.Calibration), new(conformalio.Predicted), new(conformalio.Evaluation), new([]conformalio.SplitsResult),
		new(conformalio.FullResult), new(conformalio.MethodResult),
		new([]bench.Row), new([]kernelRow), new(rooflineReport), new(Top), new(Diagnosis), new(Version), new([]splitInfo),
	}
}

// extremes are the floats that JSON, or a parser of it, may fail at.
var extremes = []float64{math.Inf(1), math.Inf(-1), math.NaN(), 0, math.Copysign(0, -1), 5e-324, 1e-310, 1e300, math.MaxFloat64, 1e21, 1e-7, 0.1, 1 << 53, -1}

// fill puts values into everything that is reached from v: floats from extremes, texts with all that
// needs escaping, and now and then nothing.
func fill(v reflect.Value, r *rand.Rand, depth int) {
	if l, ok := v.Addr().Interface().(*conformal.Level); ok {
		*l = conformal.MustLevel("0.1")
		return
	}
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1e9, 7)))
		return
	case conformal.Threshold: // refuses what is not a number
		v.Set(reflect.ValueOf(conformal.Threshold{Tau: extremes[r.IntN(2)], Rank: 3, N: 2}))
		return
	}
	switch v.Kind() {
	case reflect.Float32, reflect.Float64:
		v.SetFloat(extremes[r.IntN(len(extremes))])
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Int16, reflect.Int8:
		v.SetInt(int64(r.IntN(100) - 50))
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.String:
		v.SetString([]string{"", "inf", "a\"\\\x00\u2028<&>", "ü\xff", "nan"}[r.IntN(5)])
	case reflect.Pointer:
		if depth < 8 && r.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), r, depth+1)
		}
	case reflect.Slice:
		if n := r.IntN(3); depth < 8 && n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(v.Index(i), r, depth+1)
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), r, depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(k, r, depth+1)
			fill(e, r, depth+1)
			v.SetMapIndex(k, e)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), r, depth+1)
			}
		}
	}
}

// Whatever the numbers, all that a command writes is JSON by the strictest reading (RFC 7493): a parser
// that knows nothing of gocp reads it.
func TestAllJSONIsStrict(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	spelled := map[string]bool{}
	for _, v := range printed() {
		for range 300 {
			reflect.ValueOf(v).Elem().SetZero()
			fill(reflect.ValueOf(v).Elem(), r, 0)
			for _, write := range []func(io.Writer, any) error{printJSON, printJSONLine} {
				var b bytes.Buffer
				if err := write(&b, v); err != nil {
					t.Fatalf("%T: %v", v, err)
				}
				strict(t, b.Bytes())
				var any any
				if err := json.Unmarshal(b.Bytes(), &any); err != nil {
					t.Fatalf("%T: %v", v, err)
				}
				for _, word := range []string{"inf", "-inf", "nan"} {
					spelled[word] = spelled[word] || strings.Contains(b.String(), `"`+word+`"`)
				}
			}
		}
	}
	if len(spelled) != 3 {
		t.Errorf("only %v were written", spelled)
	}
}

// strict fails unless b is one JSON value with no name twice, valid UTF-8 and nothing behind it.
func strict(t *testing.T, b []byte) {
	t.Helper()
	d := jsontext.NewDecoder(bytes.NewReader(b))
	if _, err := d.ReadValue(); err != nil {
		t.Fatalf("%v in %.300s", err, b)
	}
	if _, err := d.ReadToken(); err != io.EOF {
		t.Fatalf("something follows the JSON %.300s", b)
	}
}

// A float under a name of its own is written by the encoder only if it says how.
func TestNamedFloatsAreWritten(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(p reflect.Type) {
		if seen[p] {
			return
		}
		seen[p] = true
		if _, ok := reflect.New(p).Interface().(json.Marshaler); ok {
			return
		}
		if _, ok := reflect.New(p).Interface().(encoding.TextMarshaler); ok {
			return
		}
		switch p.Kind() {
		case reflect.Float32, reflect.Float64:
			if p.PkgPath() != "" {
				t.Errorf("%s is a float that JSON cannot hold when it is infinite", p)
			}
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			walk(p.Elem())
		case reflect.Struct:
			for i := range p.NumField() {
				walk(p.Field(i).Type)
			}
		}
	}
	for _, v := range printed() {
		walk(reflect.TypeOf(v))
	}
}

// Too few samples give infinite thresholds: they are printed, and mean the same everywhere.
func TestInfinityIsPrinted(t *testing.T) {
	dir := t.TempDir()
	conformalData(t, dir, "few", 12)
	for i, args := range [][]string{
		{"evaluate", "--splits", "3", "--miscoverage", "0.01"},
		{"compare", "--splits", "3", "--miscoverage", "0.01"},
		{"calibrate", "--miscoverage", "0.01", "--out", "thr.json"},
		{"calibrate", "--miscoverage", "0.05", "--by", "class", "--out", "class.json"},
	} {
		args = append([]string{"conformal"}, append(args, "--logits", "few.csv", "--labels", "few_y.csv", "--json", "--quiet")...)
		o := gocp(t, dir, args...)
		if o.code != exitOK || !strings.Contains(o.stdout, `"inf"`) {
			t.Errorf("%d: status %d, %s%s", i, o.code, o.stdout, o.stderr)
			continue
		}
		strict(t, []byte(o.stdout))
	}
	for _, name := range []string{"thr.json", "class.json"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		strict(t, b)
		if _, err := conformalio.ParseCalibration(b); err != nil || !strings.Contains(string(b), `"tau": "inf"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
