package train

import (
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/tensor"
	"github.com/gocp/gocp/gocp/usage"
)

// predictBatch is the batch of Predict and Features. It changes no bit of the result in
// evaluation mode only if the products add in the same order for any batch; so it is fixed.
const predictBatch = 128

// Outputs of a model on images, row by row.
type Outputs struct {
	Logits   []float32 // [n,K]
	Features []float32 // [n, NumFeatures], the penultimate activations
}

// Predict runs m in evaluation mode on images [n,H,W,C].
func Predict(s *device.Stream, m *nn.Model, images []uint8, precision kernel.Precision) (Outputs, error) {
	size := m.H * m.W * m.C
	if len(images)%size != 0 {
		return Outputs{}, usage.Errorf("predict: %d bytes are no whole number of images of %d bytes (%dx%dx%d)", len(images), size, m.H, m.W, m.C)
	}
	n, hidden := len(images)/size, m.NumFeatures()
	out := Outputs{Logits: make([]float32, n*m.Classes), Features: make([]float32, n*hidden)}
	if n == 0 {
		return out, nil
	}
	defer s.Range("predict").End()
	defer s.Scope()()
	net := nn.NewNet(s, m.Spec, predictBatch, nn.Options{Precision: precision, Forward: true})
	theta := tensor.New(s, len(m.Theta))
	device.Upload(s, theta.P, m.Theta)
	var running device.Ptr
	if len(m.Running) > 0 {
		running = s.Alloc(4 * len(m.Running))
		device.Upload(s, running, m.Running)
	}
	pixels, x := s.Alloc(predictBatch*size), tensor.New(s, predictBatch, m.H, m.W, m.C)
	logits, features := s.Alloc(4*n*m.Classes), s.Alloc(4*n*hidden)
	for at := 0; at < n; at += predictBatch {
		if err := s.Context().Err(); err != nil {
			return Outputs{}, err
		}
		b := min(predictBatch, n-at)
		device.Upload(s, pixels, images[at*size:(at+b)*size])
		xb := x.Slice(0, b, m.H, m.W, m.C)
		kernel.Gather(s, pixels, 0, kernel.Augmentation{}, b, m.H, m.W, m.C, xb)
		z := net.Forward(nn.Pass{Mode: nn.Eval, Theta: theta, Running: running, X: xb})
		s.Copy(logits.Add(4*at*m.Classes), z.P, 4*b*m.Classes)
		s.Copy(features.Add(4*at*hidden), net.Features().P, 4*b*hidden)
	}
	if err := device.Download(s, out.Logits, logits); err != nil {
		return Outputs{}, err
	}
	return out, device.Download(s, out.Features, features)
}
