package experiment

import (
	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/usage"
)

// A Pick names images: of a split, in a random order that Seed fixes, those from First on. Picks
// with one seed and ranges apart have no image in common.
type Pick struct {
	Data    string       `json:"data"` // name or path of the data set
	Reading data.Reading `json:"reading,omitzero"`
	Split   string       `json:"split"` // train, test, …
	First   int          `json:"first"`
	Count   int          `json:"count"` // 0: all that follow
	Seed    uint64       `json:"seed"`
}

// picked is what a Pick found.
type picked struct {
	data.Drawn
	set *data.Dataset // the whole split
}

func (p picked) images() attack.Images {
	return attack.Images{H: p.H, W: p.W, C: p.C, Pixels: p.Images, Labels: p.Labels}
}

func (p Pick) open() (picked, error) {
	src, err := p.Reading.Open(p.Data)
	if err != nil {
		return picked{}, err
	}
	set, err := src.Need(p.Split)
	if err != nil {
		return picked{}, err
	}
	n := p.Count
	if n == 0 {
		n = set.Len() - p.First
	}
	if p.First < 0 || n < 1 || n > set.Len()-p.First {
		return picked{}, usage.Errorf("%s: images %d to %d of %s were asked for; it has %d, counted from 0", p.Data, p.First, p.First+n-1, p.Split, set.Len())
	}
	parts := []data.Part{{Name: p.Split, N: n}}
	if p.First > 0 {
		parts = append([]data.Part{{Name: "before", N: p.First}}, parts...)
	}
	drawn, _, err := data.Split(set, data.Draw{Seed: p.Seed}, parts...)
	if err != nil {
		return picked{}, err
	}
	return picked{drawn[len(drawn)-1], set}, nil
}

// overlap tells whether two picks of one split may share images.
func overlap(a, b Pick) bool {
	if a.Seed != b.Seed {
		return true
	}
	before := func(x, y Pick) bool { return x.Count > 0 && x.First+x.Count <= y.First }
	return !before(a, b) && !before(b, a)
}
