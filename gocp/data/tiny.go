package data

import (
	"fmt"
	"path"
	"sort"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// Tiny-ImageNet-200 as it is distributed (Stanford CS231n, 2015):
//
//	wnids.txt                       the 200 classes, WordNet numbers such as n01443537
//	words.txt                       their names and those of other numbers
//	train/WNID/images/NAME.JPEG
//	val/images/NAME.JPEG            with their classes in val/val_annotations.txt
//	test/images/NAME.JPEG           whose classes were never published
const (
	tinyClasses = "wnids.txt"
	tinyWords   = "words.txt"
	tinyLabels  = "val_annotations.txt"
)

// isTinyNote tells whether a file is one of these texts.
func isTinyNote(base string) bool {
	return base == tinyClasses || base == tinyWords || base == tinyLabels
}

// note finds a file by its name, the outermost one.
func (t *tree) note(base string) (*file, bool) {
	var best *file
	for i := range t.files {
		if f := &t.files[i]; f.base() == base && (best == nil || strings.Count(f.path, "/") < strings.Count(best.path, "/")) {
			best = f
		}
	}
	return best, best != nil
}

// lines calls f for the words of every line that has some, separated by tabs.
func (f *file) lines(each func(n int, words []string) error) error {
	b, err := f.read()
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		if line = strings.TrimSpace(line); line != "" {
			if err := each(n, strings.Split(line, "\t")); err != nil {
				return err
			}
		}
	}
	return nil
}

// readTiny reads the layout. Classes are in the order of their WordNet numbers, as torchvision's
// ImageFolder has them.
func readTiny(t *tree, _ []string) ([]*Dataset, error) {
	list, _ := t.note(tinyClasses)
	known := map[string]bool{}
	var classes []string
	err := list.lines(func(n int, words []string) error {
		if len(words) != 1 || known[words[0]] {
			return usage.Errorf("%s: line %d is not one class, named once", list.origin, n)
		}
		known[words[0]] = true
		classes = append(classes, words[0])
		return nil
	})
	if err != nil {
		return nil, err
	}
	sort.Strings(classes)
	labels := map[string]string{} // of the files in val/images
	if f, ok := t.note(tinyLabels); ok {
		err := f.lines(func(n int, words []string) error {
			if len(words) < 2 || !known[words[1]] || labels[words[0]] != "" {
				return usage.Errorf("%s: line %d does not give one file a class of %s", f.origin, n, tinyClasses)
			}
			labels[words[0]] = words[1]
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	root := path.Dir(list.path)
	var images []placed
	unlabelled := 0
	used := map[string]bool{}
	for i := range t.files {
		f := &t.files[i]
		image, foreign := isImage(f.path)
		if !image || !within(f.path, root) {
			continue
		}
		in := f.path
		if root != "." {
			in = strings.TrimPrefix(in, root+"/")
		}
		parts := strings.Split(in, "/")
		p := placed{file: f, split: splitName(parts[0]), foreign: foreign}
		switch {
		case len(parts) > 2 && known[parts[1]]:
			p.class = parts[1]
		case p.split == "val" && labels[f.base()] != "":
			p.class = labels[f.base()]
			used[f.base()] = true
		case p.split == "test":
			unlabelled++
			continue
		default:
			return nil, usage.Errorf("%s: neither its folder nor %s tells its class; images lie at train/WNID/images and val/images", f.origin, tinyLabels)
		}
		images = append(images, p)
	}
	if n := len(labels) - len(used); n > 0 && len(used) > 0 {
		return nil, usage.Errorf("%s: %s names %d images that are not there, %s among them; fetch it again", t.origin, tinyLabels, n, least(labels, used))
	}
	if unlabelled > 0 {
		t.notes = append(t.notes, fmt.Sprintf("test: %d images whose classes were never published are left out", unlabelled))
	}
	if len(images) == 0 {
		return nil, usage.Errorf("%s: it holds no images with classes", t.origin)
	}
	return readPlaced(t, images, classes)
}

// least is the first of the names that were not used.
func least(labels map[string]string, used map[string]bool) string {
	best := ""
	for name := range labels {
		if !used[name] && (best == "" || name < best) {
			best = name
		}
	}
	return best
}

// worded gives classes that are WordNet numbers the first of their names in words.txt, with the
// number where two would be called the same.
func (t *tree) worded(classes []string) ([]string, error) {
	f, ok := t.note(tinyWords)
	if !ok {
		return classes, nil
	}
	wanted := map[string]string{}
	for _, c := range classes {
		wanted[c] = ""
	}
	err := f.lines(func(_ int, words []string) error {
		if _, ok := wanted[words[0]]; ok && len(words) == 2 {
			name, _, _ := strings.Cut(words[1], ",")
			wanted[words[0]] = strings.TrimSpace(name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, c := range classes {
		if wanted[c] == "" {
			return classes, nil // it is of something else
		}
		count[wanted[c]]++
	}
	out := make([]string, len(classes))
	for i, c := range classes {
		if out[i] = wanted[c]; count[out[i]] > 1 {
			out[i] += " (" + c + ")"
		}
	}
	return out, nil
}
