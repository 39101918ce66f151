package device

import (
	"context"
	"testing"
)

func open(t testing.TB) *Device {
	t.Helper()
	d, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestSmoke(t *testing.T) {
	d := open(t)
	t.Logf("%+v %v", d.Info(), d.Kernels())
	err := d.Do(context.Background(), 2, func(s *Stream) error {
		z, p := s.Alloc(4*6), s.Alloc(4*6)
		Upload(s, z, []float32{1, 2, 3, 1, 1, 1})
		s.Launch("softmax_f32", 2, 128, I64(2), I32(3), P(z), P(p))
		out := make([]float32, 6)
		err := Download(s, out, p)
		t.Log(out)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
