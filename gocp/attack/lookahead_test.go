package attack

import (
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/internal/testkit"
	"github.com/gocp/gocp/gocp/kernel"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/tensor"
)

// floats reads a tensor of a file of vectors.
func floats(t *testing.T, f *safetensors.File, name string) []float32 {
	t.Helper()
	x := f.Get(name)
	if x == nil {
		t.Fatalf("no tensor %q", name)
	}
	v, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func downloaded(t *testing.T, s *device.Stream, p device.Ptr, n int) []float32 {
	t.Helper()
	out := make([]float32, n)
	if err := device.Download(s, out, p); err != nil {
		t.Fatal(err)
	}
	return out
}

// channelsLast turns images [n,c,h,w] into [n,h,w,c].
func channelsLast(x []float32, c, h, w int) []float32 {
	out := make([]float32, len(x))
	for i := range out {
		image, at := i/(c*h*w), i%(c*h*w)
		out[i] = x[image*c*h*w+at%c*h*w+at/c]
	}
	return out
}

// The unrolled steps and the gradient of what comes after them, against PyTorch's autograd through the same steps in float64
// (bench/vectors_lookahead_torch.py), with an arena for each step and with one for all.
func TestLookaheadAgainstPyTorch(t *testing.T) {
	for _, name := range []string{"stride", "stride-bn", "pool-bn", "resnet18-w4"} {
		t.Run(name, func(t *testing.T) {
			want, err := safetensors.Load(filepath.Join("testdata", name+".lookahead.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			in, err := safetensors.Load(filepath.Join("../nn/testdata", name+".in.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			m, err := nn.Load(filepath.Join("../nn/testdata", name+".model.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			said := func(key string) float64 {
				v, err := strconv.ParseFloat(want.Meta[key], 64)
				if err != nil {
					t.Fatal(err)
				}
				return v
			}
			x := channelsLast(floats(t, in, "x"), m.C, m.H, m.W)
			y, err := in.Get("y").Int64s()
			if err != nil {
				t.Fatal(err)
			}
			size, batch, n := m.H*m.W*m.C, int(said("batch")), len(y)-int(said("targets"))
			moment := make([]float32, len(m.Theta))
			for _, p := range m.Spec.Params() {
				if err := p.FromTorch(moment, floats(t, in, "v."+p.Name)); err != nil {
					t.Fatal(err)
				}
			}
			for i := range moment {
				moment[i] *= float32(said("moment"))
			}
			for _, steps := range []int{1, 2, 5} {
				for kind, sgd := range map[string]descent{"plain": {}, "momentum": {momentum: 0.9}, "nesterov": {momentum: 0.9, nesterov: true}} {
					setting := "k" + strconv.Itoa(steps) + "." + kind
					sgd.lr, sgd.decay = said("lr"), said("weight_decay")
					var first []float32
					for _, arenas := range []int{steps, 1} {
						onDevice(t, func(s *device.Stream) error {
							images := uploaded(s, x)
							var wrong []int32
							for _, label := range y[n:] {
								wrong = append(wrong, (int32(label)+1)%int32(m.Classes))
							}
							labels, net := uploaded(s, wrong), nn.NewNet(s, m.Spec, len(wrong), nn.Options{})
							targets := tensor.Tensor{Shape: []int{len(wrong), m.H, m.W, m.C}, P: images.Add(4 * n * size)}
							outer := func(theta device.Ptr, grad tensor.Tensor) (sum float64, err error) {
								net.Forward(nn.Pass{Mode: nn.Eval, Theta: tensor.Tensor{Shape: grad.Shape, P: theta}, Running: uploaded(s, m.Running), X: targets})
								losses, dlogits := net.Loss(labels)
								net.Backward(dlogits, grad, tensor.Tensor{})
								for _, l := range downloaded(t, s, losses.P, len(wrong)) {
									sum += float64(l)
								}
								return sum, s.Err()
							}
							a := newLookahead(s, m.Spec, steps, batch, arenas, nn.Options{})
							a.begin(m.Theta, moment, m.Running)
							var looks []look
							var rows [][]int
							for k := range steps {
								var index, labels []int32
								var row []int
								for i := range batch {
									at := (3*k + i) % n
									index, labels, row = append(index, int32(at)), append(labels, int32(y[at])), append(row, at)
								}
								b := look{x: tensor.New(s, batch, m.H, m.W, m.C), labels: uploaded(s, labels)}
								kernel.GatherF32(s, images, 0, uploaded(s, index), kernel.Augmentation{}, batch, m.H, m.W, m.C, b.x)
								looks, rows = append(looks, b), append(rows, row)
							}
							got, part := make([]float32, n*size), make([]float32, batch*size)
							value, err := a.run(looks, sgd, outer, func(k int, dx tensor.Tensor) {
								if err := device.Download(s, part, dx.P); err != nil {
									t.Fatal(err)
								}
								for i, at := range rows[k] {
									for j := range size {
										got[at*size+j] += part[i*size+j]
									}
								}
							})
							if err != nil {
								return err
							}
							loss := floats(t, want, setting+".loss")[0]
							if e := testkit.Relative(got, channelsLast(floats(t, want, setting+".dx"), m.C, m.H, m.W)); !(e <= 1e-4) || math.Abs(value-float64(loss)) > 1e-4*float64(loss) {
								t.Errorf("%s, %d arenas: the gradient is %.2g from PyTorch's, the loss %g, PyTorch's %g", setting, arenas, e, value, loss)
							}
							if first == nil {
								first = got
							} else if !slices.Equal(first, got) {
								t.Errorf("%s: other bits with one arena", setting)
							}
							return nil
						})
					}
				}
			}
		})
	}
}
