package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"

	"github.com/gocp/gocp/gocp/experiment"
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
		Identity string          `json:"identity"`
		Config   json.RawMessage `json:"config"`
	}
	if err := json.Unmarshal(b, &folder); err == nil && folder.Identity != "" && folder.Config != nil {
		b = folder.Config
	}
	var c experiment.Config
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // a misspelt name must not mean its default
	if err := d.Decode(&c); err != nil {
		return experiment.Config{}, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return experiment.Config{}, errors.New("something follows the configuration")
	}
	return c, nil
}
