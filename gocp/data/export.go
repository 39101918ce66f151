package data

import (
	"fmt"
	"slices"

	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/usage"
)

// Poisons replaces images of a training set, and labels where it has some.
type Poisons struct {
	Index  []int   // positions in the training set, each once
	Images []uint8 // [len(Index),H,W,C]
	Labels []int32 // [len(Index)], or nil: labels stay
}

// Apply returns a copy of d with the poisons in place.
func (p Poisons) Apply(d *Dataset) (*Dataset, error) {
	if err := p.check(d); err != nil {
		return nil, err
	}
	out := *d
	out.Images = slices.Clone(d.Images)
	for j, i := range p.Index {
		copy(out.Image(i), p.Images[j*d.Size():])
	}
	if p.Labels != nil {
		out.Labels = slices.Clone(d.Labels)
		for j, i := range p.Index {
			out.Labels[i] = p.Labels[j]
		}
	}
	out.SHA256 = out.Hash()
	return &out, nil
}

func (p Poisons) check(d *Dataset) error {
	if len(p.Images) != len(p.Index)*d.Size() {
		return fmt.Errorf("data: %d bytes of pixels for %d poisons of %d bytes each", len(p.Images), len(p.Index), d.Size())
	}
	if p.Labels != nil && len(p.Labels) != len(p.Index) {
		return fmt.Errorf("data: %d labels for %d poisons", len(p.Labels), len(p.Index))
	}
	for _, y := range p.Labels {
		if y < 0 || int(y) >= len(d.Classes) {
			return fmt.Errorf("data: a poison has the label %d; there are %d classes", y, len(d.Classes))
		}
	}
	seen := map[int]bool{}
	for _, i := range p.Index {
		if i < 0 || i >= d.Len() || seen[i] {
			return fmt.Errorf("data: poison position %d occurs twice or is not in a training set of %d", i, d.Len())
		}
		seen[i] = true
	}
	return nil
}

// Arm is one way of poisoning, such as the attack or a control: a set of poisons
// for each group of targets.
type Arm struct {
	Name string
	Sets []Poisons
}

// Victim is all that another framework needs to train and judge victims.
type Victim struct {
	Train, Calibration, Test *Dataset
	Targets                  *Dataset
	Group                    []int // of each target: the number of the poison set meant for it
	Arms                     []Arm
}

// Arrays returns v as arrays, all images 8-bit NHWC and all integers 64-bit:
//
//	train_images [N,H,W,C], train_labels [N]        the clean training set
//	calibration_images, calibration_labels          alike
//	test_images, test_labels                        alike
//	target_images, target_labels, target_group [V]  targets, and the poison set of each
//	classes                                         their names
//	arms [A]                                        the names of the arms; for each arm:
//	poison_ARM [M,H,W,C]                            the poisoned images of all sets
//	poison_ARM_index [M]                            which training image each one replaces
//	poison_ARM_labels [M]                           and the label it has then
//	poison_ARM_begin [S+1]                          set s has rows begin[s] … begin[s+1]−1
//
// so that with NumPy x = train_images.copy(); x[index[b:e]] = poison[b:e], and so y with the
// labels, are the training set with the poisons in place.
func (v *Victim) Arrays() (npy.Archive, error) {
	if len(v.Group) != v.Targets.Len() {
		return nil, fmt.Errorf("data: %d targets with %d groups", v.Targets.Len(), len(v.Group))
	}
	t := v.Train
	z := npy.Archive{}
	for _, p := range []struct {
		name string
		d    *Dataset
	}{{"train", t}, {"calibration", v.Calibration}, {"test", v.Test}, {"target", v.Targets}} {
		d := p.d
		if d.H != t.H || d.W != t.W || d.C != t.C || !slices.Equal(d.Classes, t.Classes) {
			return nil, fmt.Errorf("data: images or classes of %s are not as those of the training set", p.name)
		}
		labels := make([]int64, d.Len())
		for i, y := range d.Labels {
			labels[i] = int64(y)
		}
		z = append(z, npy.Named{Name: p.name + "_images", Array: npy.Uint8(d.Images, d.Len(), d.H, d.W, d.C)},
			npy.Named{Name: p.name + "_labels", Array: npy.Int64(labels, len(labels))})
	}
	z = append(z, npy.Named{Name: "target_group", Array: ints(v.Group)}, npy.Named{Name: "classes", Array: npy.Strings(t.Classes)})
	var armNames []string
	for _, a := range v.Arms {
		if slices.Contains(armNames, a.Name) {
			return nil, fmt.Errorf("data: two arms are called %q", a.Name)
		}
		armNames = append(armNames, a.Name)
	}
	z = append(z, npy.Named{Name: "arms", Array: npy.Strings(armNames)})
	for _, a := range v.Arms {
		var images []uint8
		var index []int
		var labels []int64
		begin := []int{0}
		for s, p := range a.Sets {
			if err := p.check(t); err != nil {
				return nil, fmt.Errorf("arm %s, set %d: %w", a.Name, s, err)
			}
			images = append(images, p.Images...)
			index = append(index, p.Index...)
			for j, i := range p.Index {
				y := t.Labels[i]
				if p.Labels != nil {
					y = p.Labels[j]
				}
				labels = append(labels, int64(y))
			}
			begin = append(begin, len(index))
		}
		for i, g := range v.Group {
			if g < 0 || g >= len(a.Sets) {
				return nil, fmt.Errorf("data: target %d belongs to set %d, but arm %s has %d sets", i, g, a.Name, len(a.Sets))
			}
		}
		z = append(z, npy.Named{Name: "poison_" + a.Name, Array: npy.Uint8(images, len(index), t.H, t.W, t.C)},
			npy.Named{Name: "poison_" + a.Name + "_index", Array: ints(index)},
			npy.Named{Name: "poison_" + a.Name + "_labels", Array: npy.Int64(labels, len(labels))},
			npy.Named{Name: "poison_" + a.Name + "_begin", Array: ints(begin)})
	}
	return z, nil
}

func ints(x []int) *npy.Array {
	y := make([]int64, len(x))
	for i, v := range x {
		y[i] = int64(v)
	}
	return npy.Int64(y, len(y))
}

// Export writes v as an .npz file, whole or not at all; see Arrays.
func Export(path string, v *Victim) error {
	z, err := v.Arrays()
	if err != nil {
		return err
	}
	return z.Save(path)
}

// ExportSource writes the splits of a source as an .npz file that Open reads:
// SPLIT_images, SPLIT_labels and classes.
func ExportSource(path string, s *Source) error {
	z := npy.Archive{}
	for _, d := range s.Splits {
		labels := make([]int64, d.Len())
		for i, y := range d.Labels {
			labels[i] = int64(y)
		}
		z = append(z, npy.Named{Name: d.Name + "_images", Array: npy.Uint8(d.Images, d.Len(), d.H, d.W, d.C)},
			npy.Named{Name: d.Name + "_labels", Array: npy.Int64(labels, len(labels))})
	}
	if len(s.Splits) == 0 {
		return usage.Errorf("%s: there is nothing to export", s.Name)
	}
	z = append(z, npy.Named{Name: "classes", Array: npy.Strings(s.Splits[0].Classes)})
	return z.Save(path)
}
