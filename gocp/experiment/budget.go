package experiment

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/gocp/gocp/gocp/attack"
	"github.com/gocp/gocp/gocp/data"
	"github.com/gocp/gocp/gocp/usage"
)

// labelsExist reports labels of a goal that the data have not.
func labelsExist(g attack.GoalConfig, k int) error {
	for _, y := range g.Labels {
		if y < 0 || y >= k {
			return usage.Errorf("goal %s: label %d is out of range, the data set has %d classes (0 to %d)", g.Name, y, k, k-1)
		}
	}
	return nil
}

// shiftFits reports shifts that move every pixel out of the image.
func shiftFits(by int, d *data.Dataset) error {
	if by >= min(d.H, d.W) {
		return usage.Errorf("shifts of up to %d pixels move images of %dx%d out of sight; lower --shift", by, d.H, d.W)
	}
	return nil
}

// room is how many poisons a class can give and take: they are made from the adversary's images of it
// and replace the victim's.
func (s *splits) room() []int {
	room := classCounts(s.train.Labels, s.classes)
	for y, n := range classCounts(s.auxTrain.Labels, s.classes) {
		room[y] = min(room[y], n)
	}
	return room
}

// sources returns the classes that poisons for a target of class label come from, as well as they can
// be: those with most room. It returns none where such a target can't be.
func (s *splits) sources(goal attack.Goal, label int, room []int) []int {
	from, n := goal.Sources(label, s.classes)
	if n < 1 || len(from) < n {
		return nil
	}
	from = slices.Clone(from)
	slices.SortStableFunc(from, func(a, b int) int { return room[b] - room[a] })
	return from[:n]
}

// affordable reports, as a usage error, an audit that will find no targets or no images for its
// poisons, as far as configuration and data tell that before anything is trained. It returns what else
// is to be said.
func affordable(c Config, goal attack.Goal, s *splits, names []string) (notes []string, err error) {
	p, err := c.poisonCount()
	if err != nil {
		return nil, err
	}
	room := s.room()
	candidates := classCounts(s.whole.Labels[:s.candidates], s.classes)
	free := c.Craft.TurnsLabels() // then poisons come from any class
	if all := sum(room); free && p > all {
		return nil, usage.Errorf("audit: budget %s is %d poisons; victim and adversary have %d images of the same classes at most; lower --budget to %s, or raise --train-size", c.fraction(), p, all, share(all, c.TrainSize))
	}
	var groups, possible, most, fewest int
	var poor []string
	for y, n := range candidates {
		if n == 0 {
			continue
		}
		classes := s.sources(goal, y, room)
		if len(classes) == 0 {
			continue
		}
		possible += n
		if fewest == 0 || len(classes) < fewest {
			fewest = len(classes)
		}
		most = max(most, largest(classes, room))
		if !c.fits(p, classes, room) {
			poor = append(poor, fmt.Sprintf("%d (%s)", y, names[y]))
			continue
		}
		groups += n / c.Targets
	}
	switch {
	case possible == 0:
		return nil, usage.Errorf("audit: goal %s%s has no targets: in %d classes there is nothing for it to add or to remove, or no other class to make poisons from", c.Goal.Name, ofSize(c.Goal.Size), s.classes)
	case !free && p < fewest:
		return nil, usage.Errorf("audit: budget %s of %d training images is %s, and poisons come from %d classes at least, one or more from each; raise --budget", c.fraction(), c.TrainSize, count(p, "poison"), fewest)
	case !free && p > most:
		return nil, usage.Errorf("audit: budget %s is %d poisons; victim and adversary have images of the classes that these come from for %d at most; lower --budget to %s, or raise --train-size", c.fraction(), p, most, share(most, c.TrainSize))
	case c.divides(): // targets are of one subgroup, not of one class
	case groups < c.Repeats:
		return nil, usage.Errorf("audit: the %d target candidates are enough for %d of %d repeats of %s of one class%s; lower --repeats or give more --candidates", s.candidates, groups, c.Repeats, count(c.Targets, "target"), without(poor, p))
	}
	if len(poor) > 0 {
		notes = append(notes, fmt.Sprintf("no target is of class %s: victim and adversary have too few images of the classes that its %d poisons would come from", strings.Join(poor, ", "), p))
	}
	return notes, nil
}

// fits reports whether p poisons are to be had: of the classes that they come from, or where labels are turned of any.
func (c Config) fits(p int, classes, room []int) bool {
	if c.Craft.TurnsLabels() {
		return p <= sum(room)
	}
	return attack.Fits(p, classes, room)
}

func sum(n []int) (all int) {
	for _, v := range n {
		all += v
	}
	return all
}

// largest is the number of poisons that classes have room for when it is split evenly.
func largest(classes, room []int) int {
	least := room[classes[0]]
	for _, y := range classes {
		least = min(least, room[y])
	}
	p := least * len(classes)
	for attack.Fits(p+1, classes, room) {
		p++
	}
	return p
}

// share is the largest decimal of four places whose share of n is at most p, without zeros at its end.
func share(p, n int) string {
	ten := int64(10000)
	f := new(big.Rat).SetFrac64(int64(p)*ten/int64(n), ten).FloatString(4)
	return strings.TrimRight(strings.TrimRight(f, "0"), ".")
}

func without(poor []string, p int) string {
	if len(poor) == 0 {
		return ""
	}
	return fmt.Sprintf(", without class %s, of which there are too few images for %d poisons", strings.Join(poor, ", "), p)
}

func ofSize(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" for sets of %s", count(n, "label"))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
