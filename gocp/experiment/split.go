package experiment

import (
	"fmt"
	"slices"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/conformal"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

// Data is what an audit runs on.
type Data struct {
	Train, Test *data.Dataset
	Origin      string // where the images come from, in words
	Embedded    bool   // they are the sample shipped with gocp
	Reading     data.Reading
	Skipped     []data.Unreadable // files that were left out
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
	// whole is what every model is asked about: the test part, then, where that has too few
	// candidates, training images that nobody trains or calibrates on.
	whole      part
	spareHash  string
	test       int // images of the test part: the first rows of whole
	candidates int // images that targets are chosen from: the first rows of whole
	// copied are the candidates that are exact copies of an image that a model trains or calibrates
	// on: no targets.
	copied  map[int]bool
	classes int
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
	need := c.parties() * (c.TrainSize + c.CalSize)
	if n := len(tr.Labels); n < need {
		return nil, tooFew(c, n, need)
	}
	s := &splits{classes: len(tr.Classes)}
	parts := []data.Part{{Name: "victim train", N: c.TrainSize}, {Name: "victim calibration", N: c.CalSize}}
	if !c.WhiteBox {
		parts = append(parts, data.Part{Name: "auxiliary train", N: c.TrainSize}, data.Part{Name: "auxiliary calibration", N: c.CalSize})
	}
	spare := min(len(tr.Labels)-need, max(c.Candidates-len(te.Labels), 0))
	if spare > 0 {
		parts = append(parts, data.Part{Name: "spare", N: spare})
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
	test, _, err := data.Split(te, data.Draw{Seed: c.Seed}, data.Part{Name: "test", N: len(te.Labels)})
	if err != nil {
		return nil, err
	}
	s.whole = newPart(test[0])
	s.test = s.whole.Len()
	if spare > 0 {
		p := newPart(drawn[len(drawn)-1])
		s.whole.Pixels = append(slices.Clone(s.whole.Pixels), p.Pixels...)
		s.whole.Labels = append(slices.Clone(s.whole.Labels), p.Labels...)
		s.whole.index = append(slices.Clone(s.whole.index), p.index...)
		s.spareHash = p.hash
	}
	s.candidates = min(c.Candidates, s.whole.Len())
	if wanted := c.Repeats * c.Targets; s.candidates < wanted || wanted >= s.test {
		return nil, usage.Errorf("audit: %d target candidates and %d test images for %d repeats of %d targets; there must be as many candidates, and more test images", s.candidates, s.test, c.Repeats, c.Targets)
	}
	s.copied = s.copies()
	for y, n := range classCounts(s.train.Labels, s.classes) {
		if n == 0 {
			return nil, usage.Errorf("audit: class %d (%s) has no image among the victim's %d training images", y, tr.Classes[y], c.TrainSize)
		}
	}
	return s, nil
}

// parties is how many have images of their own.
func (c Config) parties() int {
	if c.WhiteBox {
		return 1
	}
	return 2
}

// tooFew says how many images an audit needs, and the largest that n allow.
func tooFew(c Config, n, need int) error {
	who, each := "victim and adversary need", ", each"
	if c.WhiteBox {
		who, each = "the victim needs", ""
	}
	text := fmt.Sprintf("audit: the training part has %d images; %s %d (%d to train and %d to calibrate on%s)", n, who, need, c.TrainSize, c.CalSize, each)
	least := 1
	if level, err := conformal.ParseLevel(c.Miscoverage); err == nil {
		least = level.MinCalibration()
	}
	one := n / c.parties()
	size, cal := one-c.CalSize, c.CalSize
	if c.CalSize == c.TrainSize/calShare { // it follows the training images
		size = one * calShare / (calShare + 1)
		for size+1+(size+1)/calShare <= one {
			size++
		}
		if cal = size / calShare; cal < least {
			size, cal = one-least, least
		}
	}
	if size < 1 {
		return usage.Errorf("%s, and %d are too few for any", text, n)
	}
	return usage.Errorf("%s; the most that they are enough for is --train-size %d with --cal-size %d", text, size, cal)
}

// copies finds the candidates whose pixels are in a training or calibration part.
func (s *splits) copies() map[int]bool {
	known := map[[32]byte]bool{}
	for _, p := range []part{s.train, s.cal, s.auxTrain, s.auxCal} {
		for i := range p.Len() {
			known[data.Digest(p.At(i))] = true
		}
	}
	out := map[int]bool{}
	for i := range s.candidates {
		if known[data.Digest(s.whole.At(i))] {
			out[i] = true
		}
	}
	return out
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
	out = append(out, result.Split{Name: "test", Use: "coverage and accuracy; targets are chosen from it and then left out", Size: s.test, SHA256: s.whole.hash})
	if n := s.whole.Len() - s.test; n > 0 {
		out = append(out, result.Split{Name: "spare", Use: "training images that no model sees; targets are chosen from them too", Size: n, SHA256: s.spareHash})
	}
	return out
}

// name says what image a row of whole is.
func (s *splits) name(row int) string {
	if row < s.test {
		return "test image"
	}
	return "training image that no model saw"
}
