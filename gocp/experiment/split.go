package experiment

import (
	"slices"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

// Data is what an audit runs on.
type Data struct {
	Train, Test *data.Dataset
	Origin      string // where the images come from, in words
	Embedded    bool   // they are the sample shipped with gocp
}

// A part is a subset of one of the two parts of the data.
type part struct {
	attack.Images
	index []int  // in the data set's part
	hash  string // SHA-256 of its images and labels
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

func newPart(d data.Drawn) part {
	return part{Images: attack.Images{H: d.H, W: d.W, C: d.C, Pixels: d.Images, Labels: d.Labels}, index: d.Index, hash: d.SHA256}
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
	parts := []data.Part{{Name: "victim train", N: c.TrainSize}, {Name: "victim calibration", N: c.CalSize}}
	if !c.WhiteBox {
		parts = append(parts, data.Part{Name: "auxiliary train", N: c.TrainSize}, data.Part{Name: "auxiliary calibration", N: c.CalSize})
	}
	drawn, _, err := data.Split(tr, data.Draw{Seed: c.Seed}, parts...)
	if err != nil {
		return nil, err
	}
	s.train, s.cal = newPart(drawn[0]), newPart(drawn[1])
	s.auxTrain, s.auxCal = s.train, s.cal
	if !c.WhiteBox {
		s.auxTrain, s.auxCal = newPart(drawn[2]), newPart(drawn[3])
	}
	drawn, _, err = data.Split(te, data.Draw{Seed: c.Seed}, data.Part{Name: "candidates", N: candidates}, data.Part{Name: "test", N: len(te.Labels) - candidates})
	if err != nil {
		return nil, err
	}
	s.candidates, s.test = newPart(drawn[0]), newPart(drawn[1])
	s.whole = s.candidates
	s.whole.Pixels = append(slices.Clone(s.candidates.Pixels), s.test.Pixels...)
	s.whole.Labels = append(slices.Clone(s.candidates.Labels), s.test.Labels...)
	s.whole.index = append(slices.Clone(s.candidates.index), s.test.index...)
	for y, n := range classCounts(s.train.Labels, s.classes) {
		if n == 0 {
			return nil, usage.Errorf("audit: class %d (%s) has no image among the victim's %d training images", y, tr.Classes[y], c.TrainSize)
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
		{Name: "victim train", Use: "victims and benign models train on it; poisons replace some of it", Size: s.train.Len(), SHA256: s.train.hash},
		{Name: "victim calibration", Use: "victims and benign models calibrate on it; always clean", Size: s.cal.Len(), SHA256: s.cal.hash},
	}
	if !whiteBox {
		out = append(out,
			result.Split{Name: "auxiliary train", Use: "the adversary's: surrogates train on it, poisons are made from it", Size: s.auxTrain.Len(), SHA256: s.auxTrain.hash},
			result.Split{Name: "auxiliary calibration", Use: "the adversary's: surrogates calibrate on it", Size: s.auxCal.Len(), SHA256: s.auxCal.hash})
	}
	return append(out,
		result.Split{Name: "candidates", Use: "targets are chosen from it", Size: s.candidates.Len(), SHA256: s.candidates.hash},
		result.Split{Name: "test", Use: "coverage and accuracy", Size: s.test.Len(), SHA256: s.test.hash})
}
