package data

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"path"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gocp/gocp/gocp/usage"
)

func isImage(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".png", ".jpg", ".jpeg":
		return true
	}
	return false
}

// maxPixels is the most pixels that a byte of an image file may stand for: a
// header that claims more is refused before anything of that size is made.
// (JPEG's limit is 128 for grey, deflate's for 8-bit PNG 1032.)
const maxPixels = 1040

// maxArea is the most pixels of an image that is read: no classifier takes more,
// and one file cannot claim gigabytes.
const maxArea = 1 << 24

// config is what the header of an image file says.
type config struct {
	h, w int
	grey bool
	jpeg bool
}

func readConfig(origin string, b []byte) (config, error) {
	var cfg image.Config
	var err error
	isJPEG := len(b) > 1 && b[0] == 0xff && b[1] == 0xd8
	if isJPEG {
		cfg, err = jpeg.DecodeConfig(bytes.NewReader(b))
	} else {
		cfg, err = png.DecodeConfig(bytes.NewReader(b))
	}
	if err != nil {
		return config{}, usage.Errorf("%s: corrupt image: %w; replace or remove it", origin, err)
	}
	if cfg.Width < 1 || cfg.Height < 1 || cfg.Width > maxPixels*len(b)/cfg.Height {
		return config{}, usage.Errorf("%s: %d×%d pixels are too many for a file of %d bytes; replace or remove it", origin, cfg.Height, cfg.Width, len(b))
	}
	if cfg.Width > maxArea/cfg.Height {
		return config{}, usage.Errorf("%s: %d×%d pixels; scale it down, at most %d pixels are read", origin, cfg.Height, cfg.Width, maxArea)
	}
	switch cfg.ColorModel {
	case color.Gray16Model, color.RGBA64Model, color.NRGBA64Model:
		return config{}, usage.Errorf("%s: 16 bits per channel; convert it to 8", origin)
	}
	return config{cfg.Height, cfg.Width, cfg.ColorModel == color.GrayModel, isJPEG}, nil
}

// decode writes the pixels of an image into dst, which has room for h·w·c bytes.
func decode(origin string, b []byte, cfg config, c int, dst []uint8) error {
	var img image.Image
	var err error
	if cfg.jpeg {
		img, err = jpeg.Decode(bytes.NewReader(b))
	} else {
		img, err = png.Decode(bytes.NewReader(b))
	}
	if err != nil {
		return usage.Errorf("%s: corrupt image: %w; replace or remove it", origin, err)
	}
	bounds := img.Bounds()
	if bounds.Dx() != cfg.w || bounds.Dy() != cfg.h {
		return usage.Errorf("%s: corrupt image: its header claims %d×%d pixels but it has %d×%d; replace or remove it", origin, cfg.h, cfg.w, bounds.Dy(), bounds.Dx())
	}
	switch img := img.(type) {
	case *image.Gray:
		for y := range cfg.h {
			row := img.Pix[y*img.Stride:][:cfg.w]
			if c == 1 {
				copy(dst[y*cfg.w:], row)
				continue
			}
			out := dst[3*y*cfg.w:][:3*cfg.w]
			for x, v := range row {
				out[3*x], out[3*x+1], out[3*x+2] = v, v, v
			}
		}
	case *image.YCbCr:
		for y := range cfg.h {
			out := dst[3*y*cfg.w:][:3*cfg.w]
			for x := range cfg.w {
				o := img.COffset(bounds.Min.X+x, bounds.Min.Y+y)
				r, g, bl := color.YCbCrToRGB(img.Y[y*img.YStride+x], img.Cb[o], img.Cr[o])
				out[3*x], out[3*x+1], out[3*x+2] = r, g, bl
			}
		}
	default: // PNG's RGB, palette and alpha, and JPEG's CMYK: rare or small
		for y := range cfg.h {
			for x := range cfg.w {
				p := color.NRGBAModel.Convert(img.At(bounds.Min.X+x, bounds.Min.Y+y)).(color.NRGBA)
				if p.A != 255 {
					return usage.Errorf("%s: it has transparent pixels; put it on a background first", origin)
				}
				o := 3 * (y*cfg.w + x)
				dst[o], dst[o+1], dst[o+2] = p.R, p.G, p.B
			}
		}
	}
	return nil
}

// placed is an image file and where its path puts it.
type placed struct {
	*file
	split, class string
}

var splitNames = map[string]bool{"train": true, "training": true, "test": true, "testing": true, "t10k": true,
	"val": true, "valid": true, "validation": true}

// place reads split and class off the paths, after dropping the folders that
// all of them share.
func place(t *tree) ([]placed, []string, error) {
	var list []placed
	root := ""
	for i := range t.files {
		if f := &t.files[i]; isImage(f.path) {
			dir := path.Dir(f.path)
			if len(list) == 0 {
				root = dir
			}
			for !within(dir, root) {
				root = path.Dir(root)
			}
			list = append(list, placed{file: f})
		}
	}
	depth := func(p string) int { return strings.Count(p, "/") }
	inside := func(p string) string {
		if root == "." {
			return p
		}
		return strings.TrimPrefix(strings.TrimPrefix(p, root), "/")
	}
	// A lone class or a lone split is shared by all paths too; give it back.
	if len(list) > 0 && depth(inside(list[0].path)) == 0 {
		root = path.Dir(root)
	}
	if splitNames[path.Base(root)] {
		root = path.Dir(root)
	}
	levels := -1
	for i := range list {
		p := &list[i]
		parts := strings.Split(inside(p.path), "/")
		if levels < 0 {
			levels = len(parts)
		}
		if len(parts) != levels || len(parts) < 2 || len(parts) > 3 {
			return nil, nil, usage.Errorf("%s: images must lie at CLASS/NAME or SPLIT/CLASS/NAME, all alike; move it", p.origin)
		}
		if p.class = parts[len(parts)-2]; levels == 3 {
			p.split = splitName(parts[0])
		} else {
			p.split = "train"
		}
		if levels == 2 && splitNames[p.class] {
			return nil, nil, usage.Errorf("%s: folder %q names a split, but has no class folders; lay images out as SPLIT/CLASS/NAME", p.origin, p.class)
		}
	}
	// A class folder without an image is no class but a mistake.
	for _, d := range t.dirs {
		if !within(d, root) || d == root {
			continue
		}
		if in := inside(d); levels > 0 && depth(in) == levels-2 {
			i := sort.Search(len(t.files), func(i int) bool { return t.files[i].path >= d+"/" })
			found := false
			for ; i < len(t.files) && strings.HasPrefix(t.files[i].path, d+"/"); i++ {
				found = found || isImage(t.files[i].path)
			}
			if !found {
				return nil, nil, usage.Errorf("%s: class folder %q holds no PNG or JPEG image; add some or remove it", t.origin, d)
			}
		}
	}
	seen := map[string]bool{}
	var classes []string
	for _, p := range list {
		if !seen[p.class] {
			seen[p.class] = true
			classes = append(classes, p.class)
		}
	}
	sort.Strings(classes)
	return list, classes, nil
}

func within(p, dir string) bool { return dir == "." || p == dir || strings.HasPrefix(p, dir+"/") }

// readImages reads a tree of images; classes are in the order of their names,
// images in the order of their paths.
func readImages(t *tree, _ []string) ([]*Dataset, error) {
	list, classes, err := place(t)
	if err != nil {
		return nil, err
	}
	label := map[string]int32{}
	for i, c := range classes {
		label[c] = int32(i)
	}
	// One pass over the headers: sizes, and whether all are grey.
	configs := make([]config, len(list))
	err = each(len(list), func(i int) error {
		b, err := list[i].read()
		if err != nil {
			return err
		}
		configs[i], err = readConfig(list[i].origin, b)
		return err
	})
	if err != nil {
		return nil, err
	}
	c := 1
	count := map[string]int{}
	for i, cfg := range configs {
		if first := configs[0]; cfg.h != first.h || cfg.w != first.w {
			return nil, usage.Errorf("%s: it has %d×%d pixels but %s has %d×%d; all images must have one size", list[i].origin, cfg.h, cfg.w, list[0].path, first.h, first.w)
		}
		if !cfg.grey {
			c = 3
		}
		count[list[i].split]++
	}
	// One pass over the pixels, each image into its place.
	byName := map[string]*Dataset{}
	var splits []*Dataset
	where := make([][]uint8, len(list))
	for i, p := range list {
		d := byName[p.split]
		if d == nil {
			h, w, n := configs[0].h, configs[0].w, count[p.split]
			d = &Dataset{Name: p.split, H: h, W: w, C: c, Classes: classes,
				Images: make([]uint8, n*h*w*c), Labels: make([]int32, 0, n)}
			byName[p.split] = d
			splits = append(splits, d)
		}
		where[i] = d.Image(len(d.Labels))
		d.Labels = append(d.Labels, label[p.class])
	}
	err = each(len(list), func(i int) error {
		b, err := list[i].read()
		if err != nil {
			return err
		}
		return decode(list[i].origin, b, configs[i], c, where[i])
	})
	if err != nil {
		return nil, err
	}
	for _, d := range splits {
		if err := d.check(); err != nil {
			return nil, err
		}
		d.SHA256 = d.Hash()
	}
	return splits, nil
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
