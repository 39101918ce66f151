package tensor_test

import (
	"slices"
	"testing"

	"github.com/gocp/gocp/gocp/tensor"
)

func TestViews(t *testing.T) {
	x := tensor.Tensor{Shape: []int{2, 3, 4}, P: 1024, T: 4096}
	if x.Len() != 24 || x.Absent() {
		t.Errorf("length %d, absent %v", x.Len(), x.Absent())
	}
	if p := x.Primal(); p.P != 1024 || p.T != 0 {
		t.Errorf("primal %+v", p)
	}
	if p := x.Tangent(); p.P != 4096 || p.T != 0 {
		t.Errorf("tangent %+v", p)
	}
	if p := x.TangentOnly(); p.P != 0 || p.T != 4096 {
		t.Errorf("tangent only %+v", p)
	}
	s := x.Slice(12, 3, 4)
	if s.P != 1024+48 || s.T != 4096+48 || !slices.Equal(s.Shape, []int{3, 4}) {
		t.Errorf("slice %+v", s)
	}
	if s := (tensor.Tensor{Shape: []int{5}}).Slice(2, 3); !s.Absent() || s.Len() != 3 {
		t.Errorf("slice of an absent tensor %+v", s)
	}
}
