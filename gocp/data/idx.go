package data

import (
	"encoding/binary"
	"path"
	"regexp"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// An IDX file is: two zero bytes, the type (8 = unsigned byte), the number of
// axes, each axis as a big-endian 32-bit number, the elements.

var idxName = regexp.MustCompile(`^(.*?)[-._]?(images|labels)[-.]idx([134])-ubyte(\.gz)?$`)

func isIDX(base string) bool { return idxName.MatchString(base) }

// parseIDX returns the axes and the elements of an IDX file of unsigned bytes.
func parseIDX(origin string, b []byte) (shape []int, elements []uint8, err error) {
	if len(b) < 4 || b[0] != 0 || b[1] != 0 {
		return nil, nil, usage.Errorf("%s: it does not begin as an IDX file does", origin)
	}
	if b[2] != 8 {
		return nil, nil, usage.Errorf("%s: its elements have IDX type %#02x; they must be unsigned bytes (0x08)", origin, b[2])
	}
	axes := int(b[3])
	if axes < 1 || axes > 4 {
		return nil, nil, usage.Errorf("%s: it has %d axes; labels have 1, images 3 or 4", origin, axes)
	}
	elements = b[4:]
	if len(elements) < 4*axes {
		return nil, nil, usage.Errorf("%s: it ends in the header; the file is cut off", origin)
	}
	n := uint64(1)
	for range axes {
		size := binary.BigEndian.Uint32(elements)
		elements = elements[4:]
		if size > 0 && n > uint64(1<<62)/uint64(size) {
			return nil, nil, usage.Errorf("%s: its axes multiply to more than any file holds; it is damaged", origin)
		}
		n *= uint64(size)
		shape = append(shape, int(size))
	}
	if n != uint64(len(elements)) {
		return nil, nil, usage.Errorf("%s: its axes %v need %d bytes but %d follow; the file is cut off or damaged", origin, shape, n, len(elements))
	}
	return shape, elements, nil
}

// readIDX pairs the files of a tree: PREFIX-images-idx3-ubyte with
// PREFIX-labels-idx1-ubyte, the prefix naming the split.
func readIDX(t *tree, classes []string) ([]*Dataset, error) {
	type pair struct{ images, labels *file }
	pairs := map[string]*pair{}
	var order []string
	for i := range t.files {
		f := &t.files[i]
		m := idxName.FindStringSubmatch(f.base())
		if m == nil {
			continue
		}
		key := path.Join(path.Dir(f.path), m[1])
		p := pairs[key]
		if p == nil {
			p = &pair{}
			pairs[key] = p
			order = append(order, key)
		}
		which := &p.images
		if m[2] == "labels" {
			which = &p.labels
		}
		if *which != nil {
			return nil, usage.Errorf("%s: %s holds the same; remove one of them", f.origin, (*which).origin)
		}
		*which = f
	}
	type part struct {
		name   string
		shape  []int
		images []uint8
		labels []int32
		origin string
	}
	var parts []part
	var all [][]int32
	for _, key := range order {
		p := pairs[key]
		if p.images == nil {
			return nil, usage.Errorf("%s: its images file is missing beside it", p.labels.origin)
		}
		if p.labels == nil {
			return nil, usage.Errorf("%s: its labels file is missing beside it", p.images.origin)
		}
		b, err := p.images.unzipped()
		if err != nil {
			return nil, err
		}
		shape, images, err := parseIDX(p.images.origin, b)
		if err != nil {
			return nil, err
		}
		if len(shape) < 3 {
			return nil, usage.Errorf("%s: it has %d axes; images have 3 or 4", p.images.origin, len(shape))
		}
		if len(shape) == 3 {
			shape = append(shape, 1)
		}
		if b, err = p.labels.unzipped(); err != nil {
			return nil, err
		}
		count, raw, err := parseIDX(p.labels.origin, b)
		if err != nil {
			return nil, err
		}
		if len(count) != 1 || count[0] != shape[0] {
			return nil, usage.Errorf("%s: labels %v for %d images of %s; there must be one for each", p.labels.origin, count, shape[0], p.images.base())
		}
		labels := make([]int32, len(raw))
		for i, y := range raw {
			labels[i] = int32(y)
		}
		parts = append(parts, part{idxSplit(path.Base(key)), shape, images, labels, p.images.origin})
		all = append(all, labels)
	}
	classes, err := classesFor(t.origin, classes, all...)
	if err != nil {
		return nil, err
	}
	var splits []*Dataset
	for _, p := range parts {
		d, err := New(p.origin, p.shape[1], p.shape[2], p.shape[3], p.images, p.labels, classes)
		if err != nil {
			return nil, err
		}
		d.Name = p.name
		splits = append(splits, d)
	}
	return splits, nil
}

// idxSplit reads the split off a prefix such as train, t10k or emnist-letters-test.
func idxSplit(prefix string) string {
	if i := strings.LastIndexAny(prefix, "-_."); i >= 0 {
		prefix = prefix[i+1:]
	}
	if prefix == "" {
		return "train"
	}
	return splitName(prefix)
}
