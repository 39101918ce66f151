package device

import (
	"strings"
	"testing"
)

// Machine code runs on later devices of the same major number; others have the driver translate.
func TestImageFor(t *testing.T) {
	i := ImageInfo{Architectures: []int{80, 86, 90, 100, 120}, PTX: 80}
	for capability, want := range map[int]string{
		80: "sm_80's code", 86: "sm_86's code", 87: "sm_86's code", 89: "sm_86's code", 90: "sm_90's code",
		100: "sm_100's code", 103: "sm_100's code", 110: "translates from PTX", 120: "sm_120's code", 121: "sm_120's code",
	} {
		if got := i.For(capability); !strings.Contains(got, want) {
			t.Errorf("sm_%d runs %q, want %q", capability, got, want)
		}
	}
}
