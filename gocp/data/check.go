package data

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strconv"
)

// Findings is what Check found in a set.
type Findings struct {
	Splits     []SplitFindings `json:"splits"`
	Copies     []Copies        `json:"copies,omitempty"`     // groups of equal images, by their first one
	Unreadable []Unreadable    `json:"unreadable,omitempty"` // what Reading.SkipUnreadable left out
}

// SplitFindings is what Check found in one split.
type SplitFindings struct {
	Name     string   `json:"name"`
	Images   int      `json:"images"`
	Missing  []string `json:"missing,omitempty"`  // classes without an image
	Constant []Place  `json:"constant,omitempty"` // images of one colour
	// Leaked is how many of its images have an exact copy in the split before it that has most, and
	// From is that split. Of the first split both are empty.
	Leaked int    `json:"leaked,omitempty"`
	From   string `json:"from,omitempty"`
}

// Place names an image.
type Place struct {
	Split string `json:"split"`
	Index int    `json:"index"`
	Label int32  `json:"label"`
	Class string `json:"class"`
	File  string `json:"file,omitempty"`
}

// String is "test 17 (cat)".
func (p Place) String() string { return p.Split + " " + strconv.Itoa(p.Index) + " (" + p.Class + ")" }

// Copies are images with exactly the same pixels.
type Copies struct {
	Images []Place `json:"images"`
	// Contradictory copies have different labels.
	Contradictory bool `json:"contradictory"`
}

// Digest is the SHA-256 of an image's pixels: images of one set are equal if it is.
func Digest(pixels []uint8) [sha256.Size]byte { return sha256.Sum256(pixels) }

// Check looks for what makes results misleading: equal images inside and between splits, classes
// that a split lacks, images of one colour.
func Check(s *Source) *Findings {
	f := &Findings{Unreadable: s.Skipped}
	groups := map[[sha256.Size]byte][]Place{}
	var order [][sha256.Size]byte // digests of more than one image, by the second's place
	for _, d := range s.Splits {
		part := SplitFindings{Name: d.Name, Images: d.Len()}
		for k, n := range d.Counts() {
			if n == 0 {
				part.Missing = append(part.Missing, d.Classes[k])
			}
		}
		digests := make([][sha256.Size]byte, d.Len())
		_ = each(d.Len(), func(i int) error { digests[i] = Digest(d.Image(i)); return nil })
		from := map[string]int{}
		for i, h := range digests {
			p := d.Place(i)
			if constant(d.Image(i), d.C) {
				part.Constant = append(part.Constant, p)
			}
			before := groups[h]
			if len(before) == 1 {
				order = append(order, h)
			}
			seen := map[string]bool{d.Name: true}
			for _, q := range before {
				if !seen[q.Split] {
					seen[q.Split] = true
					from[q.Split]++
				}
			}
			groups[h] = append(before, p)
		}
		for _, e := range s.Splits {
			if n := from[e.Name]; n > part.Leaked {
				part.Leaked, part.From = n, e.Name
			}
		}
		f.Splits = append(f.Splits, part)
	}
	for _, h := range order {
		c := Copies{Images: groups[h]}
		for _, p := range c.Images[1:] {
			c.Contradictory = c.Contradictory || p.Label != c.Images[0].Label
		}
		f.Copies = append(f.Copies, c)
	}
	return f
}

// Place names image i.
func (d *Dataset) Place(i int) Place {
	p := Place{Split: d.Name, Index: i, Label: d.Labels[i], Class: d.Classes[d.Labels[i]]}
	if d.Files != nil {
		p.File = d.Files[i]
	}
	return p
}

// constant tells whether all pixels of c channels are alike.
func constant(pixels []uint8, c int) bool { return bytes.Equal(pixels[c:], pixels[:len(pixels)-c]) }

// Summary is the findings in a line each, none where all is well.
func (f *Findings) Summary() []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if n := len(f.Unreadable); n > 0 {
		say("%d files cannot be read and were left out", n)
	}
	if n := len(f.Copies); n > 0 {
		images, bad := 0, 0
		for _, c := range f.Copies {
			images += len(c.Images)
			if c.Contradictory {
				bad++
			}
		}
		say("%d images are exact copies of each other, in %d groups, of which %d have different labels", images, n, bad)
	}
	for _, s := range f.Splits {
		if s.Leaked > 0 {
			say("%d images of %s have an exact copy in %s", s.Leaked, s.Name, s.From)
		}
	}
	for _, s := range f.Splits {
		if len(s.Missing) > 0 {
			say("%s has no image of %d classes: %s", s.Name, len(s.Missing), some(s.Missing, func(c string) string { return c }))
		}
		if len(s.Constant) > 0 {
			say("%d images of %s are of one colour: %s", len(s.Constant), s.Name, some(s.Constant, Place.String))
		}
	}
	return lines
}

// some names the first few of a list.
func some[T any](list []T, f func(T) string) string {
	var words []string
	for _, x := range list[:min(len(list), shown)] {
		words = append(words, f(x))
	}
	if n := len(list) - shown; n > 0 {
		words = append(words, fmt.Sprintf("%d more", n))
	}
	return names(words, func(s string) string { return s })
}

// WriteText writes all findings for people.
func (f *Findings) WriteText(w io.Writer) error {
	var b bytes.Buffer
	for _, s := range f.Splits {
		fmt.Fprintf(&b, "%s: %d images\n", s.Name, s.Images)
	}
	lines := f.Summary()
	if len(lines) == 0 {
		lines = []string{"no copies, no class without images, none of one colour"}
	}
	for _, l := range lines {
		fmt.Fprintln(&b, l)
	}
	for _, c := range f.Copies {
		word := "equal"
		if c.Contradictory {
			word = "EQUAL, labels differ"
		}
		fmt.Fprintf(&b, "  %s:", word)
		for i, p := range c.Images {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " %v", p)
			if p.File != "" {
				fmt.Fprintf(&b, " %s", p.File)
			}
		}
		b.WriteString("\n")
	}
	for _, u := range f.Unreadable {
		fmt.Fprintf(&b, "  unreadable: %s: %s\n", u.File, u.Why)
	}
	_, err := w.Write(b.Bytes())
	return err
}
