package main

import (
	"os"

	"github.com/gocp/gocp/gocp/experiment"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// readConfig reads an audit's configuration: a JSON object with the fields of experiment.Config,
// or the config.json of a run folder, which holds one.
func readConfig(path string) (experiment.Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return experiment.Config{}, usage.Errorf("--config: %w", err)
	}
	c, err := parseConfig(b)
	if err != nil {
		return c, usage.Errorf("--config: %s: %w", path, err)
	}
	return c, nil
}

func parseConfig(b []byte) (experiment.Config, error) {
	var folder struct {
		Schema int            `json:"schema"`
		Config strictjson.Raw `json:"config"`
	}
	if err := strictjson.Unmarshal(b, &folder); err == nil && folder.Schema > 0 && folder.Config != nil {
		b = folder.Config
	}
	var c experiment.Config
	if err := strictjson.UnmarshalKnown(b, &c); err != nil { // a misspelt name must not mean its default
		return experiment.Config{}, err
	}
	return c, nil
}
