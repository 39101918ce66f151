package strictjson_test

import (
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/gocp/gocp/gocp/strictjson"
)

type inner struct {
	F float64  `json:"f,omitempty"`
	G *float32 `json:"g"`
}

type named float64

type all struct {
	inner
	X     float64            `json:"x"`
	Y     float32            `json:"y"`
	Z     named              `json:"z"`
	List  []float64          `json:"list"`
	None  []float64          `json:"none"`
	Pair  [2]float32         `json:"pair"`
	Map   map[string]float64 `json:"map"`
	Any   any                `json:"any"`
	Text  string             `json:"text"`
	Bytes []byte             `json:"bytes"`
	Took  time.Duration      `json:"took"`
	When  time.Time          `json:"when"`
	Skip  float64            `json:"-"`
}

func TestSpelling(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for want, v := range map[string]any{
		`"inf"`: inf, `"-inf"`: -inf, `"nan"`: nan, `0.1`: 0.1, `-0`: math.Copysign(0, -1), `1e+300`: 1e300, `5e-324`: 5e-324, `0.3`: float32(0.3),
		`["inf","nan",1]`: []float32{float32(inf), float32(nan), 1}, `{"a":"-inf","b":2}`: map[string]any{"b": 2, "a": -inf},
		`"inf "`: "inf ", `"<&>"`: "<&>", `null`: []float64(nil), `[{"f":"inf","g":null}]`: []any{inner{F: inf}},
		`"a\ufffd"`: "a\xff",
	} {
		got, err := strictjson.Marshal(v)
		if err != nil {
			t.Fatalf("%v: %v", v, err)
		}
		var a, b any
		if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
}

// Where encoding/json writes anything, the same bytes are written.
func TestSameAsTheStandard(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		f := func() float64 { return math.Float64frombits(r.Uint64()) }
		g := math.Float32frombits(r.Uint32())
		v := all{inner{f() * float64(r.IntN(2)), &g}, f(), math.Float32frombits(r.Uint32()), named(f()), []float64{f(), 1, 0.5}, nil, [2]float32{g, 1}, map[string]float64{"b": f(), "a": 1e21},
			[]any{1e-7, "x", nil, map[string]any{"q": f()}}, "ü\u2028\x01\"", []byte{1, 2}, 5, time.Unix(1e9, 5), 1}
		want, err := json.Marshal(v)
		if err != nil {
			continue // a float that is no number
		}
		got, err := strictjson.Marshal(v)
		if err != nil || string(got) != string(want) {
			t.Fatalf("%v\n%s\n%s", err, got, want)
		}
		want, _ = json.MarshalIndent(v, "", " ")
		if got, err = strictjson.Indent(v, " "); err != nil || string(got) != string(want)+"\n" {
			t.Fatalf("%v\n%s\n%s", err, got, want)
		}
		var back all
		if err := strictjson.Unmarshal(got, &back); err != nil || math.Float64bits(back.X) != math.Float64bits(v.X) || *back.G != g {
			t.Fatalf("%v: %+v, want %+v", err, back, v)
		}
	}
}

func TestReadsWhatItWrites(t *testing.T) {
	g := float32(math.Inf(-1))
	v := all{X: math.Inf(1), Y: float32(math.Inf(1)), inner: inner{F: math.NaN(), G: &g}, List: []float64{math.Inf(-1), 1, math.MaxFloat64}, Map: map[string]float64{"x": math.Inf(1)}}
	b, err := strictjson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back all
	if err := strictjson.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	again, err := strictjson.Marshal(back)
	if err != nil || string(again) != string(b) || !math.IsNaN(back.F) {
		t.Errorf("%v: %s, want %s", err, again, b)
	}
	var x struct{ X float64 }
	for _, bad := range []string{`{"X":"Infinity"}`, `{"X":"+inf"}`, `{"X":1e999}`, `{"X":NaN}`, `{"X":[]}`, `{"X":true}`, `{"X":1} 2`} {
		if err := strictjson.Unmarshal([]byte(bad), &x); err == nil {
			t.Errorf("%s is read as %v", bad, x)
		}
	}
	x.X = 3
	if err := strictjson.Unmarshal([]byte(`{"X":null}`), &x); err != nil || x.X != 3 {
		t.Errorf("null: %v, %v", x.X, err)
	}
}

func TestLeaves(t *testing.T) {
	got, order, err := strictjson.Leaves([]byte(`{"b": 1, "a": {"y": [1, {"z": 2}], "x": "é\n"}, "c": {}}`))
	want := map[string]string{"b": "1", "a.y": `[1,{"z":2}]`, "a.x": `"é\n"`}
	if err != nil || !maps.Equal(got, want) || !slices.Equal(order, []string{"b", "a.y", "a.x"}) {
		t.Errorf("%q, %q, %v", got, order, err)
	}
	for _, bad := range []string{"", "1", "[1]", `{"a": `, `{"a": 1`} {
		if _, _, err := strictjson.Leaves([]byte(bad)); err == nil {
			t.Errorf("%q passes", bad)
		}
	}
}
