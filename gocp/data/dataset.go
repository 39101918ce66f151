package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// Dataset is a set of labelled images of one size.
type Dataset struct {
	Name    string
	H, W, C int      // C is 1 (grey) or 3 (RGB)
	Images  []uint8  // [N,H,W,C]
	Labels  []int32  // [N], 0 … len(Classes)−1
	Classes []string // their names
	Files   []string // where each image came from; nil for arrays
	SHA256  string   // of the content; see Hash
}

// New checks the parts of a Dataset and gives it its hash.
func New(name string, h, w, c int, images []uint8, labels []int32, classes []string) (*Dataset, error) {
	d := &Dataset{Name: name, H: h, W: w, C: c, Images: images, Labels: labels, Classes: classes}
	if err := d.check(); err != nil {
		return nil, err
	}
	d.SHA256 = d.Hash()
	return d, nil
}

// Len is the number of images.
func (d *Dataset) Len() int { return len(d.Labels) }

// Size is the number of bytes of one image.
func (d *Dataset) Size() int { return d.H * d.W * d.C }

// Image returns the pixels of image i, not a copy.
func (d *Dataset) Image(i int) []uint8 {
	return d.Images[i*d.Size() : (i+1)*d.Size() : (i+1)*d.Size()]
}

// Counts returns how many images each class has.
func (d *Dataset) Counts() []int {
	counts := make([]int, len(d.Classes))
	for _, y := range d.Labels {
		counts[y]++
	}
	return counts
}

// Subset copies the images at these positions, in this order.
func (d *Dataset) Subset(name string, index []int) *Dataset {
	s := &Dataset{Name: name, H: d.H, W: d.W, C: d.C, Classes: d.Classes,
		Images: make([]uint8, 0, len(index)*d.Size()), Labels: make([]int32, 0, len(index))}
	for _, i := range index {
		s.Images = append(s.Images, d.Image(i)...)
		s.Labels = append(s.Labels, d.Labels[i])
		if d.Files != nil {
			s.Files = append(s.Files, d.Files[i])
		}
	}
	s.SHA256 = s.Hash()
	return s
}

// Hash is the SHA-256 of the content in one canonical form: the line
// "gocp dataset 1", then as 64-bit little-endian numbers N, H, W, C and the
// number of classes, then every class name with its length before it, the
// labels as 32-bit little-endian numbers, and the pixels.
func (d *Dataset) Hash() string {
	h := sha256.New()
	b := []byte("gocp dataset 1\n")
	for _, n := range []int{d.Len(), d.H, d.W, d.C, len(d.Classes)} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	for _, c := range d.Classes {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(c)))
		b = append(b, c...)
	}
	for _, y := range d.Labels {
		b = binary.LittleEndian.AppendUint32(b, uint32(y))
	}
	h.Write(b)
	h.Write(d.Images)
	return hex.EncodeToString(h.Sum(nil))
}

// check enforces what the rest of gocp takes for granted.
func (d *Dataset) check() error {
	switch {
	case d.Len() == 0:
		return usage.Errorf("%s: it holds no images", d.Name)
	case d.H < 1 || d.W < 1 || d.C != 1 && d.C != 3:
		return usage.Errorf("%s: images of %d×%d with %d channels; they must have at least one pixel and 1 or 3 channels", d.Name, d.H, d.W, d.C)
	case len(d.Images)/d.Size() != d.Len() || len(d.Images)%d.Size() != 0:
		return usage.Errorf("%s: %d bytes of pixels for %d labels of %d bytes each; every image needs one label", d.Name, len(d.Images), d.Len(), d.Size())
	}
	seen := map[string]bool{}
	for _, c := range d.Classes {
		if seen[c] {
			return usage.Errorf("%s: two classes are called %q", d.Name, c)
		}
		seen[c] = true
	}
	for i, y := range d.Labels {
		if y < 0 || int(y) >= len(d.Classes) {
			return usage.Errorf("%s: label %d of image %d is out of range; with %d classes labels run from 0 to %d", d.Name, y, i, len(d.Classes), len(d.Classes)-1)
		}
	}
	return nil
}

// Source is what a name or a path holds: one or more splits with the same
// classes and image size, train first, test second, others by name.
type Source struct {
	Name   string
	Origin string // where it came from, in words
	Splits []*Dataset
	// Skipped are the files that Reading.SkipUnreadable left out.
	Skipped []Unreadable
	// Notes say what else of the files was not read.
	Notes []string
	test  string // the split that Need("test") means, "" for the usual one
}

// Split returns the split of that name, or nil.
func (s *Source) Split(name string) *Dataset {
	for _, d := range s.Splits {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Need is Split for a split that must be there, with two habits: other names in use for it are
// understood, and "test" is the split that models are tested on, which is what Reading.Test names,
// else test, else val.
func (s *Source) Need(name string) (*Dataset, error) {
	wanted := []string{name, splitName(name)}
	if name == "test" {
		if wanted = []string{"test", "val"}; s.test != "" {
			wanted = []string{s.test}
		}
	}
	for _, w := range wanted {
		if d := s.Split(w); d != nil {
			return d, nil
		}
	}
	return nil, usage.Errorf("%s: no split is called %q; there is %s", s.Name, name, names(s.Splits, func(d *Dataset) string { return d.Name }))
}

// newSource orders the splits and checks what holds across them. A class
// without a single training image is refused: nothing could learn it.
func newSource(name, origin string, splits []*Dataset) (*Source, error) {
	if len(splits) == 0 {
		return nil, usage.Errorf("%s: it holds no images", origin)
	}
	slices.SortStableFunc(splits, func(a, b *Dataset) int {
		if ra, rb := splitRank(a.Name), splitRank(b.Name); ra != rb {
			return ra - rb
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	first := splits[0]
	for _, d := range splits[1:] {
		if d.H != first.H || d.W != first.W || d.C != first.C {
			return nil, usage.Errorf("%s: %s has images of %d×%d×%d but %s of %d×%d×%d; they must be alike", origin,
				first.Name, first.H, first.W, first.C, d.Name, d.H, d.W, d.C)
		}
	}
	for c, n := range first.Counts() {
		if n == 0 {
			return nil, usage.Errorf("%s: class %q has no image in %s; add some or remove the class", origin, first.Classes[c], first.Name)
		}
	}
	return &Source{Name: name, Origin: origin, Splits: splits}, nil
}

func splitRank(name string) int {
	switch name {
	case "train":
		return 0
	case "test":
		return 1
	}
	return 2
}

// splitName maps the names in use to ours.
func splitName(s string) string {
	switch strings.ToLower(s) {
	case "train", "training":
		return "train"
	case "test", "t10k", "testing":
		return "test"
	case "val", "valid", "validation":
		return "val"
	}
	return s
}

// numbered names classes that have no names.
func numbered(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = strconv.Itoa(i)
	}
	return s
}

// maxClasses keeps a stray label from making up billions of class names.
const maxClasses = 1 << 16

// classesFor returns the given class names or, without any, numbers up to the
// largest label.
func classesFor(origin string, given []string, labels ...[]int32) ([]string, error) {
	if len(given) > 0 {
		return given, nil
	}
	k := int32(0)
	for _, part := range labels {
		for i, y := range part {
			if y < 0 || y >= maxClasses {
				return nil, usage.Errorf("%s: label %d of image %d is out of range; labels run from 0 to %d at most", origin, y, i, maxClasses-1)
			}
			k = max(k, y+1)
		}
	}
	return numbered(int(k)), nil
}

func names[T any](list []T, f func(T) string) string {
	s := ""
	for i, x := range list {
		switch {
		case i == 0:
		case i == len(list)-1:
			s += " and "
		default:
			s += ", "
		}
		s += f(x)
	}
	return s
}

// String describes the set in one line.
func (d *Dataset) String() string {
	return fmt.Sprintf("%s: %d images %d×%d×%d, %d classes, sha256 %s", d.Name, d.Len(), d.H, d.W, d.C, len(d.Classes), d.SHA256)
}
