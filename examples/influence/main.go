// Influence asks how well first- and second-order formulas predict what poisons do to a model, where both can be
// known: a softmax regression with weight decay is strictly convex, so that "trained to convergence" means one point,
// and what retraining without or with other images does is a difference of two such points.
//
//	. ./.envrc && make lib && go run ./examples/influence
//
// On the sample of CIFAR-10, its images averaged to 8×8, it trains on n of them to the minimum of the mean loss plus λ‖θ‖²/2, replaces a part
// of the images of one class by others (moved by uniform noise in a ball of 16/255, or dropped), trains again to the new
// minimum, and prints beside it
//
//	first order   −τ ΔG         a step of gradient descent on what was replaced, with the τ that suits it best
//	second order  −(C + λI)⁻¹ΔG  one Newton step: C the curvature at the old minimum, ΔG the mean gradient's change there
//
// by the relative error of the parameters' change and of the change of all test scores 1 − p_y.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"image/color"
	"io"
	"log"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	draw2d "gonum.org/v1/plot/vg/draw"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/curvature"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/data/cifar10sample"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/tensor"
)

// side is that of the images, averaged over windows.
const side = 8

// softmax is a network of one linear layer: softmax regression on pixels.
var softmax = nn.Architecture{Name: "softmax-regression", Width: 1, Stems: []string{"only"}, Norm: nn.NormNever,
	Nodes: func(s nn.Spec) []nn.Node { return []nn.Node{{Name: "fc", Map: nn.Map{Out: s.Classes, Bias: true}}} }}

func init() { nn.Register(softmax) }

func main() {
	log.SetFlags(0)
	n := flag.Int("n", 2000, "training images")
	decay := flag.Float64("decay", 0.1, "weight decay λ")
	figure := flag.String("plot", "", "a file such as influence.svg: what was predicted against what came, of at most 2 % under noise")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dev, err := device.Open()
	if err != nil {
		log.Fatal(err)
	}
	err = errors.Join(run(ctx, dev, os.Stdout, *n, *decay, []float64{0.001, 0.005, 0.02, 0.1}, *figure), dev.Close())
	if err != nil {
		log.Fatal(err)
	}
}

// images are pixels in [0,1], [n,side,side,C], with labels.
type images struct {
	x []float32
	y []int32
}

func pick(d *data.Dataset, from, to int) images {
	var m images
	for i := from; i < to; i++ {
		x := make([]float32, side*side*d.C)
		for j, v := range d.Image(i) {
			c, u, t := j%d.C, j/d.C%d.W, j/d.C/d.W
			x[(t*side/d.H*side+u*side/d.W)*d.C+c] += float32(v) / 255 * float32(side*side) / float32(d.H*d.W)
		}
		m.x = append(m.x, x...)
		m.y = append(m.y, d.Labels[i])
	}
	return m
}

// A row is one line of the table: errors of the predicted change of the parameters and of the scores.
type row struct {
	what          string
	replaced      int
	moved, scores float64    // norms of the real changes
	theta, score  [2]float64 // relative errors of first and second order
	plots         [2]plotter.XYs
}

func run(ctx context.Context, dev *device.Device, w io.Writer, n int, decay float64, shares []float64, figure string) error {
	src, err := data.Open(cifar10sample.Name)
	if err != nil {
		return err
	}
	all := src.Split("train")
	if 2*n+1000 > all.Len() {
		return fmt.Errorf("2 × %d training images and 1000 to score; the sample has %d", n, all.Len())
	}
	trains, test := pick(all, 0, n), pick(all, 2*n, 2*n+1000)
	rows, err := experiment(ctx, dev, all, trains, test, decay, shares)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "softmax regression on %d images, weight decay %g; relative error of the predicted change\n\n", n, decay)
	fmt.Fprintf(w, "%-8s %8s  %10s %12s %12s  %10s %12s %12s\n", "", "images", "‖Δθ‖", "first order", "second order", "‖Δscores‖", "first order", "second order")
	for _, r := range rows {
		fmt.Fprintf(w, "%-8s %8d  %10.3g %12.3f %12.4f  %10.3g %12.3f %12.4f\n", r.what, r.replaced, r.moved, r.theta[0], r.theta[1], r.scores, r.score[0], r.score[1])
	}
	if figure == "" {
		return nil
	}
	shown := rows[0]
	for _, r := range rows {
		if r.what == shown.what && r.replaced*50 <= n {
			shown = r
		}
	}
	return draw(figure, shown)
}

// draw puts the parameters' and the scores' predicted changes over the real ones, beside each other.
func draw(file string, r row) error {
	canvas, err := draw2d.NewFormattedCanvas(20*vg.Centimeter, 10*vg.Centimeter, strings.TrimPrefix(filepath.Ext(file), "."))
	if err != nil {
		return err
	}
	for i, what := range []string{"parameters", "scores of test images"} {
		p := plot.New()
		p.Title.Text = fmt.Sprintf("%s, %d images replaced by noisy ones", what, r.replaced)
		p.X.Label.Text, p.Y.Label.Text = "change after training again", "predicted by second order"
		dots, err := plotter.NewScatter(r.plots[i])
		if err != nil {
			return err
		}
		dots.Radius = vg.Points(1)
		same := plotter.NewFunction(func(x float64) float64 { return x })
		same.Color = color.Gray{160}
		p.Add(same, dots)
		half := canvas.(vg.CanvasSizer)
		w, h := half.Size()
		p.Draw(draw2d.Crop(draw2d.New(half), vg.Length(i)*w/2, vg.Length(i-1)*w/2, 0*h, 0*h))
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return err
	}
	return atomicfile.WriteBytes(file, b.Bytes())
}

func experiment(ctx context.Context, dev *device.Device, d *data.Dataset, trains, test images, decay float64, shares []float64) (rows []row, err error) {
	spec := nn.Spec{Arch: softmax.Name, Classes: len(d.Classes), C: d.C, H: side, W: side, Mean: []float64{.5, .5, .5}, Std: []float64{.25, .25, .25}}.WithDefaults()
	err = dev.Do(ctx, 0, func(s *device.Stream) error {
		m := &model{s: s, spec: spec, decay: decay}
		theta, err := m.train(trains, make([]float32, spec.NumParams()))
		if err != nil {
			return err
		}
		scores, err := m.scores(test, theta)
		if err != nil {
			return err
		}
		before, err := m.gradient(trains, theta, 0)
		if err != nil {
			return err
		}
		for _, share := range shares {
			for _, what := range []string{"noise", "dropped"} {
				changed, k := change(trains, share, what)
				again, err := m.train(changed, theta)
				if err != nil {
					return err
				}
				real := minus(again, theta)
				g, err := m.gradient(changed, theta, 0)
				if err != nil {
					return err
				}
				g = minus(g, before)
				newton, err := m.solve(trains, theta, g)
				if err != nil {
					return err
				}
				newton = times(-1, newton)
				first := times(dot(real, g)/dot(g, g), g)
				r := row{what: what, replaced: k, moved: math.Sqrt(dot(real, real))}
				moved, err := m.scores(test, again)
				if err != nil {
					return err
				}
				moved = minus(moved, scores)
				r.scores = math.Sqrt(dot(moved, moved))
				for i, predicted := range [][]float32{first, newton} {
					e := minus(predicted, real)
					r.theta[i] = math.Sqrt(dot(e, e)) / r.moved
					then, err := m.scores(test, times(1, minus(theta, times(-1, predicted))))
					if err != nil {
						return err
					}
					then = minus(then, scores)
					r.plots = [2]plotter.XYs{pairs(real, predicted), pairs(moved, then)} // in the end those of second order
					e = minus(then, moved)
					r.score[i] = math.Sqrt(dot(e, e)) / r.scores
				}
				rows = append(rows, r)
			}
		}
		return s.Err()
	})
	return rows, err
}

// change replaces the first images of class 0, as many as that share of all, by themselves under uniform noise, or drops them.
func change(m images, share float64, what string) (out images, k int) {
	size, most := len(m.x)/len(m.y), int(share*float64(len(m.y)))
	noise := make([]float32, size)
	for i, y := range m.y {
		x := m.x[i*size : (i+1)*size]
		if y == 0 && k < most {
			k++
			if what == "dropped" {
				continue
			}
			rng.FillUniform(1, uint64(i), 16./255, noise)
			x = append([]float32(nil), x...)
			for j := range x {
				x[j] = min(max(x[j]+noise[j], 0), 1)
			}
		}
		out.x, out.y = append(out.x, x...), append(out.y, y)
	}
	return out, k
}

// A model is the regression on a stream.
type model struct {
	s     *device.Stream
	spec  nn.Spec
	decay float64
}

const batch = 250

// batches puts images on the device.
func (m *model) batches(d images) (out []curvature.Batch) {
	size := m.spec.H * m.spec.W * m.spec.C
	for at := 0; at < len(d.y); at += batch {
		n := min(batch, len(d.y)-at)
		x, y := tensor.New(m.s, n, m.spec.H, m.spec.W, m.spec.C), m.s.Alloc(4*n)
		device.Upload(m.s, x.P, d.x[at*size:(at+n)*size])
		device.Upload(m.s, y, d.y[at:at+n])
		out = append(out, curvature.Batch{X: x, Labels: y})
	}
	return out
}

// each runs a pass of every batch through the network at theta.
func (m *model) each(d images, theta []float32, f func(net *nn.Net, b curvature.Batch, logits tensor.Tensor) error) error {
	defer m.s.Scope()()
	at := tensor.New(m.s, len(theta))
	device.Upload(m.s, at.P, theta)
	net := nn.NewNet(m.s, m.spec, batch, nn.Options{})
	for _, b := range m.batches(d) {
		logits := net.Forward(nn.Pass{Theta: at, X: b.X})
		if err := f(net, b, logits); err != nil {
			return err
		}
	}
	return m.s.Err()
}

// gradient is that of the mean loss plus decay‖θ‖²/2.
func (m *model) gradient(d images, theta []float32, decay float64) ([]float32, error) {
	sum, part := make([]float64, len(theta)), make([]float32, len(theta))
	err := m.each(d, theta, func(net *nn.Net, b curvature.Batch, _ tensor.Tensor) error {
		_, dlogits := net.Loss(b.Labels)
		g := tensor.New(m.s, len(theta))
		net.Backward(dlogits, g, tensor.Tensor{})
		err := device.Download(m.s, part, g.P)
		for i, v := range part {
			sum[i] += float64(v) / float64(len(d.y))
		}
		return err
	})
	out := make([]float32, len(theta))
	for i := range out {
		out[i] = float32(sum[i] + decay*float64(theta[i]))
	}
	return out, err
}

// scores are 1 − p_y.
func (m *model) scores(d images, theta []float32) (out []float32, err error) {
	err = m.each(d, theta, func(net *nn.Net, b curvature.Batch, _ tensor.Tensor) error {
		loss, _ := net.Loss(b.Labels)
		l := make([]float32, loss.Len())
		err := device.Download(m.s, l, loss.P)
		for _, v := range l {
			out = append(out, float32(-math.Expm1(-float64(v))))
		}
		return err
	})
	return out, err
}

// solve is (C + decay I)⁻¹v at theta. The model is linear, so that its Gauss–Newton matrix is its Hessian.
func (m *model) solve(d images, theta, v []float32) ([]float32, error) {
	defer m.s.Scope()()
	at, b, x := m.s.Alloc(4*len(theta)), m.s.Alloc(4*len(theta)), m.s.Alloc(4*len(theta))
	device.Upload(m.s, at, theta)
	device.Upload(m.s, b, v)
	c := curvature.New(m.s, curvature.Config{Spec: m.spec}, at, 0, m.batches(d))
	sol, err := curvature.NewSolver(m.s, c).Solve(b, x, curvature.Options{Damping: m.decay, Iterations: 2000, Tolerance: 1e-5})
	if err == nil && sol.Residual > 1e-3 {
		err = fmt.Errorf("a solve ended with a residual of %g: %s", sol.Residual, sol.Stopped)
	}
	out := make([]float32, len(theta))
	if err == nil {
		err = device.Download(m.s, out, x)
	}
	return out, err
}

// train goes to the minimum by Newton's method, each step as long as it lowers the gradient's norm.
func (m *model) train(d images, theta []float32) ([]float32, error) {
	g, err := m.gradient(d, theta, m.decay)
	if err != nil {
		return nil, err
	}
	size := math.Sqrt(dot(g, g))
	for first := size; ; {
		if size <= 1e-8*first {
			return theta, nil
		}
		step, err := m.solve(d, theta, g)
		if err != nil {
			return nil, err
		}
		next, length := theta, 1.0
		for ; length > 1e-3; length /= 2 {
			next = minus(theta, times(length, step))
			if g, err = m.gradient(d, next, m.decay); err != nil {
				return nil, err
			}
			if math.Sqrt(dot(g, g)) < size {
				break
			}
		}
		now := math.Sqrt(dot(g, g))
		if now > 0.9*size { // as near as float32 comes
			if size > 1e-6 {
				return nil, fmt.Errorf("training ended with a gradient of norm %g, it began with %g", size, first)
			}
			return theta, nil
		}
		theta, size = next, now
	}
}

// pairs are points of a plot.
func pairs(x, y []float32) plotter.XYs {
	out := make(plotter.XYs, len(x))
	for i := range x {
		out[i] = plotter.XY{X: float64(x[i]), Y: float64(y[i])}
	}
	return out
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func minus(a, b []float32) []float32 {
	out := make([]float32, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}

func times(c float64, a []float32) []float32 {
	out := make([]float32, len(a))
	for i := range a {
		out[i] = float32(c * float64(a[i]))
	}
	return out
}
