package main

import (
	"slices"

	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/experiment"
)

// loadData opens a data set for an audit.
func loadData(name string) (experiment.Data, error) {
	src, err := data.Open(name)
	if err != nil {
		return experiment.Data{}, err
	}
	d := experiment.Data{Origin: src.Origin, Embedded: isEmbedded(name)}
	for _, part := range []struct {
		split string
		set   **data.Dataset
	}{{"train", &d.Train}, {"test", &d.Test}} {
		s, err := src.Need(part.split)
		if err != nil {
			return experiment.Data{}, err
		}
		named := *s
		named.Name = name // what a resumed run opens again
		*part.set = &named
	}
	return d, nil
}

func isEmbedded(name string) bool {
	return slices.ContainsFunc(data.List(), func(k data.Known) bool { return k.Name == name && k.Where == "embedded" })
}
