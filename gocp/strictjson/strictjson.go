// Package strictjson writes and reads gocp's JSON: every file, every --json. It is JSON as RFC 8259 has it,
// which any parser reads, and where a float is no JSON number there stands one of three strings:
//
//	+∞ "inf"    −∞ "-inf"    not a number "nan"
//
// Finite floats are written in the shortest form that reads back to the same bits. In all else it is
// encoding/json, without the escaping of <, > and & that is for pages; encoding/json itself fails where a
// float is infinite.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	v1 "github.com/go-json-experiment/json/v1"
)

var options = json.JoinOptions(v1.DefaultOptionsV1(), jsontext.EscapeForHTML(false), json.Deterministic(true),
	json.WithMarshalers(json.JoinMarshalers(
		json.MarshalToFunc(func(e *jsontext.Encoder, f float64) error { return write(e, f, 64) }),
		json.MarshalToFunc(func(e *jsontext.Encoder, f float32) error { return write(e, float64(f), 32) }))),
	json.WithUnmarshalers(json.JoinUnmarshalers(json.UnmarshalFromFunc(read[float64]), json.UnmarshalFromFunc(read[float32]))))

func write(e *jsontext.Encoder, f float64, bits int) error {
	switch {
	case math.IsNaN(f):
		return e.WriteToken(jsontext.String("nan"))
	case math.IsInf(f, 1):
		return e.WriteToken(jsontext.String("inf"))
	case math.IsInf(f, -1):
		return e.WriteToken(jsontext.String("-inf"))
	case bits == 32:
		return e.WriteToken(jsontext.Float32(float32(f)))
	}
	return e.WriteToken(jsontext.Float(f))
}

// read reads the strings that write writes, and leaves all else to the library.
func read[F float32 | float64](d *jsontext.Decoder, f *F) error {
	if d.PeekKind() != '"' {
		return errors.ErrUnsupported
	}
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch text := t.String(); text {
	case "nan":
		*f = F(math.NaN())
	case "inf":
		*f = F(math.Inf(1))
	case "-inf":
		*f = F(math.Inf(-1))
	default:
		return fmt.Errorf("%s%.40q is not a number: want a JSON number, \"inf\", \"-inf\" or \"nan\"", where(d.StackPointer()), text)
	}
	return nil
}

// where names a place in a file, "" for the whole of it.
func where(p jsontext.Pointer) string {
	if p == "" {
		return ""
	}
	return strings.ReplaceAll(strings.TrimPrefix(string(p), "/"), "/", ".") + ": "
}

// Raw is a part that is left as it stands.
type Raw = jsontext.Value

// Marshal returns v on one line.
func Marshal(v any) ([]byte, error) { return json.Marshal(v, options) }

// Indent returns v on lines of their own, with a line break at the end.
func Indent(v any, indent string) ([]byte, error) {
	b, err := json.Marshal(v, options, jsontext.WithIndent(indent))
	return append(b, '\n'), err
}

// Unmarshal reads into what v points to.
func Unmarshal(b []byte, v any) error { return json.Unmarshal(b, v, options) }

// UnmarshalKnown is Unmarshal that refuses names which v does not have: a misspelt one must not mean its
// default.
func UnmarshalKnown(b []byte, v any) error {
	return json.Unmarshal(b, v, options, json.RejectUnknownMembers(true))
}

// Leaves lists what an object holds by dotted names, each leaf as its JSON without blanks, and the names
// in their order. Lists are leaves.
func Leaves(b []byte) (leaves map[string]string, order []string, err error) {
	leaves = map[string]string{}
	var walk func(prefix string, b []byte) error
	walk = func(prefix string, b []byte) error {
		d := jsontext.NewDecoder(bytes.NewReader(b))
		if k := d.PeekKind(); k != '{' {
			return fmt.Errorf("%v where an object is due", k)
		}
		if _, err := d.ReadToken(); err != nil {
			return err
		}
		for d.PeekKind() != '}' {
			key, err := d.ReadToken()
			if err != nil {
				return err
			}
			name := prefix + key.String()
			v, err := d.ReadValue()
			if err != nil {
				return err
			}
			v = v.Clone() // the decoder's until it reads on
			if v.Kind() == '{' {
				if err := walk(name+".", v); err != nil {
					return err
				}
				continue
			}
			if err := v.Compact(); err != nil {
				return err
			}
			leaves[name] = v.String()
			order = append(order, name)
		}
		return nil
	}
	err = walk("", b)
	return leaves, order, err
}
