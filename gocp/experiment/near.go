package experiment

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/device"
	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/train"
	"github.com/gocp/gocp/gocp/usage"
)

// Near is an image and the training image that a model takes for most alike.
type Near struct {
	Image   int `json:"image"`   // position among those that were asked about
	Nearest int `json:"nearest"` // position among the training images
	// Distance is ‖a − b‖ of the model's penultimate features over the root mean square of that of all
	// pairs: 0 for the same image, about 1 for two of no connection.
	Distance float64 `json:"distance"`
	// Levels is the mean difference of their pixels, in levels of 255; 0 is an exact copy.
	Levels float64 `json:"levels"`
	Same   bool    `json:"same_label"`
}

// Nearest finds for each image of one set the nearest of another by the features of a model, and
// returns them by rising distance, exact copies first.
func Nearest(ctx context.Context, dev *device.Device, file string, of, among *data.Dataset) ([]Near, error) {
	m, err := nn.Load(file)
	if err != nil {
		return nil, err
	}
	for _, d := range []*data.Dataset{of, among} {
		if err := fits(m, file, d); err != nil {
			return nil, err
		}
	}
	out, err := alike(ctx, dev, m, images(of), images(among))
	if errors.Is(err, errSameFeatures) {
		return nil, usage.Errorf("%s gives all images the same features, or none; take a trained model", file)
	}
	return out, err
}

func images(d *data.Dataset) attack.Images {
	return attack.Images{H: d.H, W: d.W, C: d.C, Pixels: d.Images, Labels: d.Labels}
}

var errSameFeatures = errors.New("all images have the same features, or none")

// alike is Nearest for a model and images in memory.
func alike(ctx context.Context, dev *device.Device, m *nn.Model, of, among attack.Images) ([]Near, error) {
	var a, b []float32
	err := dev.Do(ctx, 1, func(s *device.Stream) error {
		x, err := train.Predict(s, m, of.Pixels, precision("f32"))
		if err != nil {
			return err
		}
		y, err := train.Predict(s, m, among.Pixels, precision("f32"))
		a, b = x.Features, y.Features
		return err
	})
	if err != nil {
		return nil, err
	}
	n, dim := of.Len(), len(a)/of.Len()
	out := make([]Near, n)
	sums := make([]float64, n)
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				out[i], sums[i] = nearest(a[i*dim:(i+1)*dim], b, dim)
				out[i].Image = i
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	total := 0.0
	for _, s := range sums {
		total += s
	}
	scale := math.Sqrt(total / float64(n) / float64(among.Len()))
	if scale == 0 || math.IsNaN(scale) || math.IsInf(scale, 0) {
		return nil, errSameFeatures
	}
	for i := range out {
		r := &out[i]
		r.Distance /= scale
		r.Same = of.Labels[i] == among.Labels[r.Nearest]
		diff := 0
		q := among.At(r.Nearest)
		for j, v := range of.At(i) {
			diff += int(max(v, q[j]) - min(v, q[j]))
		}
		r.Levels = float64(diff) / float64(len(q))
	}
	slices.SortStableFunc(out, func(x, y Near) int {
		switch {
		case (x.Levels == 0) != (y.Levels == 0):
			if x.Levels == 0 {
				return -1
			}
			return 1
		case x.Distance < y.Distance:
			return -1
		case x.Distance > y.Distance:
			return 1
		}
		return 0
	})
	return out, nil
}

// nearest is the row of b, each of dim numbers, next to a, the first of equals, with the sum of all
// squared distances.
func nearest(a, b []float32, dim int) (Near, float64) {
	best, least, sum := 0, math.Inf(1), 0.0
	for j := range len(b) / dim {
		d := 0.0
		row := b[j*dim:][:dim]
		for k, v := range a {
			e := float64(v - row[k])
			d += e * e
		}
		sum += d
		if d < least {
			best, least = j, d
		}
	}
	return Near{Nearest: best, Distance: math.Sqrt(least)}, sum
}

// SurrogateFile is the first surrogate of the run in dir.
func SurrogateFile(dir string) string {
	return filepath.Join(dir, filepath.FromSlash(modelFile(benignName(roleSurrogate, 0))))
}

// nearPictures is how many of a run's nearest pairs are drawn.
const nearPictures = 12

// near finds for every target the victim's training image that the first surrogate puts next to it, by
// row of splits.whole, and draws the nearest ones.
func (r *run) near(ctx context.Context) (map[int]*result.Near, error) {
	m, err := nn.Load(r.folder.path(modelFile(benignName(roleSurrogate, 0))))
	if err != nil {
		return nil, err
	}
	var rows []int
	for _, g := range r.groups {
		for _, t := range g.targets {
			rows = append(rows, t.row)
		}
	}
	pairs, err := alike(ctx, r.dev, m, r.split.whole.Select(rows), r.split.train.Images)
	if errors.Is(err, errSameFeatures) { // a model that learnt nothing
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[int]*result.Near{}
	train := r.split.train
	var names []string
	for i, p := range pairs {
		n := &result.Near{ID: train.index[p.Nearest], Label: int(train.Labels[p.Nearest]), Distance: result.Number(p.Distance), Levels: result.Number(p.Levels)}
		out[rows[p.Image]] = n
		if i >= nearPictures || train.C != 1 && train.C != 3 {
			continue
		}
		n.Picture = nearName(i)
		if r.folder.holds(n.Picture, n.Picture) {
			continue
		}
		b, err := attack.EncodePNG(train.At(p.Nearest), train.H, train.W, train.C)
		if err != nil {
			return nil, err
		}
		if err := atomicfile.WriteBytes(r.folder.path(n.Picture), b); err != nil {
			return nil, err
		}
		names = append(names, n.Picture)
	}
	return out, r.folder.journal.Wrote(names...)
}

func nearName(i int) string { return fmt.Sprintf("%s/near-%02d.png", targetsDir, i) }
