package experiment

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/rng"
	"github.com/gocp/gocp/gocp/usage"
)

// Data is what an audit runs on.
type Data struct {
	Name        string // of the data set
	Train, Test *data.Dataset
	Origin      string // where the images come from, in words
	Embedded    bool   // they are the sample shipped with gocp
}

// A part is a subset of one of the two parts of the data.
type part struct {
	attack.Images
	index []int // in the data set's part
}

// splits are the disjoint parts of an audit.
type splits struct {
	train, cal       part // the victim's
	auxTrain, auxCal part // the adversary's; the victim's own with WhiteBox
	candidates       part // test images that targets are chosen from
	test             part // the other test images: coverage and accuracy
	whole            part // the test part: candidates, then test
	classes          int
}

// take copies the images of d with the given indices.
func take(d *data.Dataset, index []int) part {
	all := attack.Images{H: d.H, W: d.W, C: d.C, Pixels: d.Images, Labels: d.Labels}
	return part{Images: all.Select(index), index: index}
}

// hash is the SHA-256 of the part's indices and images.
func (p part) hash() string {
	h := sha256.New()
	for i, j := range p.index {
		var b [12]byte
		binary.LittleEndian.PutUint64(b[:8], uint64(j))
		binary.LittleEndian.PutUint32(b[8:], uint32(p.Labels[i]))
		h.Write(b[:])
	}
	h.Write(p.Pixels)
	return hex.EncodeToString(h.Sum(nil))
}

// newSplits cuts the data by a seeded shuffle: archives are often sorted by class.
func newSplits(c Config, d Data) (*splits, error) {
	if d.Train == nil || d.Test == nil {
		return nil, usage.Errorf("audit: the data set needs a training and a test part")
	}
	tr, te := d.Train, d.Test
	if tr.H != te.H || tr.W != te.W || tr.C != te.C || len(tr.Classes) != len(te.Classes) {
		return nil, usage.Errorf("audit: training images are %dx%dx%d of %d classes, test images %dx%dx%d of %d; both parts must be alike",
			tr.H, tr.W, tr.C, len(tr.Classes), te.H, te.W, te.C, len(te.Classes))
	}
	each := c.TrainSize + c.CalSize
	need := 2 * each
	if c.WhiteBox {
		need = each
	}
	if n := len(tr.Labels); n < need {
		return nil, usage.Errorf("audit: the training part has %d images; victim and adversary need %d (%d to train and %d to calibrate on, each)", n, need, c.TrainSize, c.CalSize)
	}
	candidates := c.Candidates
	if candidates == 0 {
		candidates = len(te.Labels) / 4
	}
	if n := len(te.Labels); candidates < c.Repeats*c.Targets || candidates >= n {
		return nil, usage.Errorf("audit: %d of %d test images as target candidates; at least %d are needed, and some must be left to test on", candidates, n, c.Repeats*c.Targets)
	}
	s := &splits{classes: len(tr.Classes)}
	order := rng.New(c.Seed, rng.Stream("split train")).Perm(len(tr.Labels))
	cut := func(n int) part {
		p := take(tr, order[:n:n])
		order = order[n:]
		return p
	}
	s.train, s.cal = cut(c.TrainSize), cut(c.CalSize)
	s.auxTrain, s.auxCal = s.train, s.cal
	if !c.WhiteBox {
		s.auxTrain, s.auxCal = cut(c.TrainSize), cut(c.CalSize)
	}
	order = rng.New(c.Seed, rng.Stream("split test")).Perm(len(te.Labels))
	s.whole = take(te, order)
	s.candidates, s.test = take(te, order[:candidates]), take(te, order[candidates:])
	for _, p := range []part{s.train, s.cal, s.auxTrain, s.auxCal, s.whole} {
		for i, y := range p.Labels {
			if y < 0 || int(y) >= s.classes {
				return nil, usage.Errorf("audit: image %d has label %d; the data set has %d classes (0 to %d)", p.index[i], y, s.classes, s.classes-1)
			}
		}
	}
	if counts := classCounts(s.train.Labels, s.classes); true {
		for y, n := range counts {
			if n == 0 {
				return nil, usage.Errorf("audit: class %d (%s) has no image among the victim's %d training images", y, tr.Classes[y], c.TrainSize)
			}
		}
	}
	return s, nil
}

func classCounts(labels []int32, k int) []int {
	n := make([]int, k)
	for _, y := range labels {
		n[y]++
	}
	return n
}

// record lists the parts for the result.
func (s *splits) record(whiteBox bool) []result.Split {
	out := []result.Split{
		{Name: "victim train", Use: "victims and benign models train on it; poisons replace some of it", Size: s.train.Len(), SHA256: s.train.hash()},
		{Name: "victim calibration", Use: "victims and benign models calibrate on it; always clean", Size: s.cal.Len(), SHA256: s.cal.hash()},
	}
	if !whiteBox {
		out = append(out,
			result.Split{Name: "auxiliary train", Use: "the adversary's: surrogates train on it, poisons are made from it", Size: s.auxTrain.Len(), SHA256: s.auxTrain.hash()},
			result.Split{Name: "auxiliary calibration", Use: "the adversary's: surrogates calibrate on it", Size: s.auxCal.Len(), SHA256: s.auxCal.hash()})
	}
	return append(out,
		result.Split{Name: "candidates", Use: "targets are chosen from it", Size: s.candidates.Len(), SHA256: s.candidates.hash()},
		result.Split{Name: "test", Use: "coverage and accuracy", Size: s.test.Len(), SHA256: s.test.hash()})
}
