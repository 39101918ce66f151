package main

import (
	"encoding/json"
	"testing"

	"github.com/gocp/gocp/gocp/experiment"
)

// What the program writes it reads back, and no input does worse than an error.
func FuzzParseConfig(f *testing.F) {
	whole, err := json.Marshal(experiment.Config{}.WithDefaults())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, s := range []string{`{}`, `{"seed": 3, "goal": {"name": "add", "labels": [3, 5]}}`, `{"identity": "x", "config": {"repeats": 2}}`,
		`{"craft": {"sam_p": "inf"}}`, `{"craft": {"sam_p": "nan"}}`, `{"repeats": -1}`, `{"budget": "1e9"}`, `{"train_size": 9223372036854775807}`,
		`[]`, `null`, `{} {}`, `{"config": {}}`, "", "{"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err != nil {
			return
		}
		c = c.WithDefaults()
		if c.Validate() != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatalf("a valid configuration cannot be written: %v", err)
		}
		if _, err := parseConfig(again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}
