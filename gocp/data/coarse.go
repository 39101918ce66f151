package data

import (
	"sort"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// superclasses are CIFAR-100's 20 coarse classes with their five fine ones each, as its page and
// its coarse_label_names.txt have them (Krizhevsky 2009).
var superclasses = map[string]string{
	"aquatic_mammals":                "beaver dolphin otter seal whale",
	"fish":                           "aquarium_fish flatfish ray shark trout",
	"flowers":                        "orchid poppy rose sunflower tulip",
	"food_containers":                "bottle bowl can cup plate",
	"fruit_and_vegetables":           "apple mushroom orange pear sweet_pepper",
	"household_electrical_devices":   "clock keyboard lamp telephone television",
	"household_furniture":            "bed chair couch table wardrobe",
	"insects":                        "bee beetle butterfly caterpillar cockroach",
	"large_carnivores":               "bear leopard lion tiger wolf",
	"large_man-made_outdoor_things":  "bridge castle house road skyscraper",
	"large_natural_outdoor_scenes":   "cloud forest mountain plain sea",
	"large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
	"medium_mammals":                 "fox porcupine possum raccoon skunk",
	"non-insect_invertebrates":       "crab lobster snail spider worm",
	"people":                         "baby boy girl man woman",
	"reptiles":                       "crocodile dinosaur lizard snake turtle",
	"small_mammals":                  "hamster mouse rabbit shrew squirrel",
	"trees":                          "maple_tree oak_tree palm_tree pine_tree willow_tree",
	"vehicles_1":                     "bicycle bus motorcycle pickup_truck train",
	"vehicles_2":                     "lawn_mower rocket streetcar tank tractor",
}

// Superclasses are CIFAR-100's coarse classes, in the order of their names, which is CIFAR-100's, and of each of the classes
// the one that it belongs to.
func Superclasses(classes []string) (names []string, of []int, err error) {
	by := map[string]string{}
	for c, fine := range superclasses {
		names = append(names, c)
		for _, f := range strings.Fields(fine) {
			by[f] = c
		}
	}
	sort.Strings(names)
	for _, c := range classes {
		s, ok := by[strings.ReplaceAll(c, " ", "_")]
		if !ok {
			return nil, nil, usage.Errorf("class %q is none of CIFAR-100, which alone has coarse labels", c)
		}
		of = append(of, sort.SearchStrings(names, s))
	}
	return names, of, nil
}

// coarsen gives sets whose classes are called as CIFAR-100's their superclasses as labels, in the
// order of their names, which is CIFAR-100's.
func coarsen(origin string, splits []*Dataset) ([]*Dataset, error) {
	all := make([]*Dataset, len(splits))
	for i, d := range splits {
		coarse, label, err := Superclasses(d.Classes)
		if err != nil {
			return nil, usage.Errorf("%s: its %w", origin, err)
		}
		out := *d
		out.Classes, out.Labels = coarse, make([]int32, d.Len())
		for j, y := range d.Labels {
			out.Labels[j] = int32(label[y])
		}
		out.SHA256 = out.Hash()
		all[i] = &out
	}
	return all, nil
}
