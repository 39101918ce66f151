package data

import (
	"regexp"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// A CIFAR record is one label byte (CIFAR-10) or a coarse and a fine one
// (CIFAR-100), then 1024 red, 1024 green and 1024 blue values by rows.

const cifarPixels = 3 * 32 * 32

var cifarName = regexp.MustCompile(`^(data_batch_[0-9]+\.bin|test_batch\.bin|train\.bin|test\.bin|batches\.meta\.txt|(fine|coarse)_label_names\.txt)$`)

func isCIFAR(base string) bool { return cifarName.MatchString(base) }

// A layout says where a record has its label: which of how many label bytes it is.
type layout struct{ at, labels int }

// parseCIFAR appends the records of b.
func parseCIFAR(origin string, b []byte, l layout, classes int, images []uint8, labels []int32) ([]uint8, []int32, error) {
	record := l.labels + cifarPixels
	if len(b) == 0 || len(b)%record != 0 {
		return nil, nil, usage.Errorf("%s: %d bytes are not a whole number of records of %d; the file is cut off or of another format", origin, len(b), record)
	}
	for ; len(b) > 0; b = b[record:] {
		y := int32(b[l.at])
		if int(y) >= classes {
			return nil, nil, usage.Errorf("%s: label %d of record %d is out of range; labels run from 0 to %d", origin, y, len(labels), classes-1)
		}
		labels = append(labels, y)
		plane := b[l.labels:record]
		for i := range 1024 {
			images = append(images, plane[i], plane[1024+i], plane[2048+i])
		}
	}
	return images, labels, nil
}

// readCIFAR takes data_batch_*.bin and test_batch.bin (CIFAR-10) or train.bin
// and test.bin (CIFAR-100). Files of class names are used if they are there.
func readCIFAR(t *tree, classes []string) ([]*Dataset, error) {
	type part struct{ files []*file }
	var train, test part
	var meta *file
	hundred := false
	for i := range t.files {
		f := &t.files[i]
		switch base := f.base(); {
		case base == "train.bin":
			hundred = true
			train.files = append(train.files, f)
		case base == "test.bin":
			hundred = true
			test.files = append(test.files, f)
		case base == "test_batch.bin":
			test.files = append(test.files, f)
		case strings.HasPrefix(base, "data_batch_"):
			train.files = append(train.files, f)
		case base == "fine_label_names.txt" && !t.reading.Coarse, base == "coarse_label_names.txt" && t.reading.Coarse, base == "batches.meta.txt":
			meta = f
		}
	}
	l, k := layout{0, 1}, 10
	switch {
	case hundred && t.reading.Coarse:
		l, k, t.coarse = layout{0, 2}, 20, true
	case hundred:
		l, k = layout{1, 2}, 100
	}
	if len(classes) == 0 {
		if meta != nil {
			b, err := meta.read()
			if err != nil {
				return nil, err
			}
			classes = strings.Fields(string(b))
			if len(classes) != k {
				return nil, usage.Errorf("%s: it names %d classes; it must name %d", meta.origin, len(classes), k)
			}
		} else if classes = numbered(k); !hundred {
			classes = cifar10Classes
		}
	}
	var splits []*Dataset
	for _, p := range []struct {
		name string
		part
	}{{"train", train}, {"test", test}} {
		if len(p.files) == 0 {
			continue
		}
		var images []uint8
		var labels []int32
		for _, f := range p.files {
			b, err := f.read()
			if err != nil {
				return nil, err
			}
			if images, labels, err = parseCIFAR(f.origin, b, l, k, images, labels); err != nil {
				return nil, err
			}
		}
		d, err := New(p.name, 32, 32, 3, images, labels, classes)
		if err != nil {
			return nil, err
		}
		splits = append(splits, d)
	}
	return splits, nil
}

var cifar10Classes = []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}
