package main

import (
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
)

func TestGPUs(t *testing.T) {
	got := gpus(dgxa100.New())
	if len(got) != 8 || got[0].Name == "" || got[0].Memory == 0 || got[0].Driver == "" {
		t.Errorf("a DGX A100 shows as %+v", got)
	}
	// A second call would be a nil function of the mock, and panic.
	absent := &mock.Interface{InitFunc: func() nvml.Return { return nvml.ERROR_LIBRARY_NOT_FOUND }}
	if got := gpus(absent); got != nil {
		t.Errorf("without a driver there are %+v", got)
	}
}
