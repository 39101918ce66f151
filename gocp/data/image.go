package data

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gocp/gocp/gocp/data/internal/picture"
	"github.com/gocp/gocp/gocp/usage"
)

// Unreadable is a file among the images that could not be read.
type Unreadable struct {
	File string `json:"file"`
	Why  string `json:"why"`
}

// shown is how many unreadable files a message names.
const shown = 5

// refuse makes one sentence of files that cannot be read, among n images.
func refuse(bad []Unreadable, n int) error {
	const way = "or leave it out by --skip-unreadable"
	first := fmt.Sprintf("%s: %s", bad[0].File, bad[0].Why)
	if len(bad) == 1 {
		return usage.Errorf("%s, %s", first, way)
	}
	var list []string
	for _, u := range bad[1:min(len(bad), shown)] {
		list = append(list, u.File)
	}
	if n := len(bad) - shown; n > 0 {
		list = append(list, fmt.Sprintf("%d more", n))
	}
	more := names(list, func(s string) string { return s })
	return usage.Errorf("%s; nor can %d others of %d be read: %s; mend them, or leave them out by --skip-unreadable", first, len(bad)-1, n, more)
}

// readImages reads a tree of images; classes are in the order of their names,
// images in the order of their paths.
func readImages(t *tree, _ []string) ([]*Dataset, error) {
	list, classes, err := place(t)
	if err != nil {
		return nil, err
	}
	return readPlaced(t, list, classes)
}

// readPlaced reads images of which it is known where they belong.
func readPlaced(t *tree, list []placed, classes []string) ([]*Dataset, error) {
	t.scaled = true
	label := map[string]int32{}
	for i, c := range classes {
		label[c] = int32(i)
	}
	classes, err := t.worded(classes)
	if err != nil {
		return nil, err
	}
	// One pass over the headers: sizes, and whether all are grey.
	headers := make([]picture.Header, len(list))
	why := make([]error, len(list))
	err = each(len(list), func(i int) error {
		b, err := list[i].image()
		if err == nil {
			headers[i], err = picture.ReadHeader(b)
		}
		why[i] = err
		return nil
	})
	if err != nil {
		return nil, err
	}
	sound := func() (n int) {
		for i := range list {
			if why[i] == nil {
				list[n], headers[n] = list[i], headers[i]
				n++
			} else {
				t.skipped = append(t.skipped, Unreadable{list[i].origin, why[i].Error()})
			}
		}
		return n
	}
	all := len(list)
	n := sound()
	list, headers, why = list[:n], headers[:n], make([]error, n)
	if n == 0 {
		return nil, refuse(t.skipped, all)
	}
	c := 1
	var h, w int
	for i, g := range headers {
		gh, gw, err := t.reading.size(g.H, g.W)
		switch {
		case err != nil:
			return nil, usage.Errorf("%s: %w", list[i].origin, err)
		case i == 0:
			h, w = gh, gw
		case (gh != h || gw != w) && t.reading.transforms():
			return nil, usage.Errorf("%s: it becomes %d×%d pixels but %s %d×%d; scale both sides, --resize HxW, or cut a middle out, --crop N", list[i].origin, gh, gw, list[0].path, h, w)
		case gh != h || gw != w:
			return nil, usage.Errorf("%s: it has %d×%d pixels but %s has %d×%d; all images must have one size: --resize and --crop give them one", list[i].origin, gh, gw, list[0].path, h, w)
		}
		c = max(c, g.C)
	}
	// One pass over the pixels, each image into its place.
	count := map[string]int{}
	for i := range list {
		count[list[i].split]++
	}
	byName := map[string]*Dataset{}
	var splits []*Dataset
	where := make([][]uint8, len(list))
	for i, p := range list {
		d := byName[p.split]
		if d == nil {
			n := count[p.split]
			d = &Dataset{Name: p.split, H: h, W: w, C: c, Classes: classes,
				Images: make([]uint8, n*h*w*c), Labels: make([]int32, 0, n)}
			byName[p.split] = d
			splits = append(splits, d)
		}
		where[i] = d.Image(len(d.Labels))
		d.Labels = append(d.Labels, label[p.class])
		d.Files = append(d.Files, p.path)
	}
	err = each(len(list), func(i int) error {
		b, err := list[i].image()
		if err == nil {
			err = t.reading.decode(b, headers[i], c, where[i])
		}
		why[i] = err
		return nil
	})
	if err != nil {
		return nil, err
	}
	keep := map[string][]int{} // positions in each split
	at := map[string]int{}
	for i, p := range list {
		if why[i] == nil {
			keep[p.split] = append(keep[p.split], at[p.split])
		} else {
			t.skipped = append(t.skipped, Unreadable{p.origin, why[i].Error()})
		}
		at[p.split]++
	}
	slices.SortFunc(t.skipped, func(a, b Unreadable) int { return strings.Compare(a.File, b.File) })
	if len(t.skipped) == all || len(t.skipped) > 0 && !t.reading.SkipUnreadable {
		return nil, refuse(t.skipped, all)
	}
	for i, d := range splits {
		if len(keep[d.Name]) < d.Len() {
			splits[i] = d.Subset(d.Name, keep[d.Name])
			d = splits[i]
		}
		if err := d.check(); err != nil {
			return nil, err
		}
		d.SHA256 = d.Hash()
	}
	return splits, nil
}

// image is the content of a file that is to be an image.
func (p *placed) image() ([]byte, error) {
	if p.foreign {
		return nil, errors.New("no image by its name: those that are read end in " + picture.Endings + "; convert or remove it")
	}
	b, err := p.read()
	if err != nil { // the file is named where the error goes
		return nil, errors.New(strings.TrimPrefix(err.Error(), p.origin+": "))
	}
	return b, nil
}

// decode reads the pixels of a file into dst, scaled and cropped as r says.
func (r Reading) decode(b []byte, h picture.Header, c int, dst []uint8) error {
	if !r.transforms() {
		return h.Decode(b, c, dst)
	}
	pix := make([]uint8, h.H*h.W*c)
	if err := h.Decode(b, c, pix); err != nil {
		return err
	}
	return r.transform(pix, h.H, h.W, c, dst)
}

// each calls f for 0 … n−1 on all cores and returns the error of the smallest
// index that failed, whatever the order of execution.
func each(n int, f func(i int) error) error {
	var next atomic.Int64
	var mu sync.Mutex
	failed, first := n, error(nil)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				mu.Lock()
				stop := i > failed
				mu.Unlock()
				if stop {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					if i < failed {
						failed, first = i, err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}
