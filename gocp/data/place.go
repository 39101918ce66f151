package data

import (
	"path"
	"sort"
	"strings"

	"github.com/gocp/gocp/gocp/data/internal/picture"
	"github.com/gocp/gocp/gocp/usage"
)

// placed is an image file and where its path puts it.
type placed struct {
	*file
	split, class string
	foreign      bool // by its name no image that is read
}

// isImage tells whether a file is an image by its name, foreign whether it is of a kind that is not
// read.
func isImage(name string) (image, foreign bool) {
	if picture.Readable(name) {
		return true, false
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".gif", ".jfif", ".jpe", ".jp2", ".j2k", ".jxl", ".heic", ".heif", ".avif", ".pbm", ".pnm", ".pam", ".apng", ".tga",
		".ico", ".psd", ".svg", ".pcx", ".exr", ".hdr", ".dng", ".cr2", ".nef", ".arw", ".dcm", ".xpm", ".jpg_large":
		return true, true
	}
	return false, false
}

func isPicture(name string) bool {
	image, _ := isImage(name)
	return image
}

// isNote tells whether a file beside images is there for people or other programs.
func isNote(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".htm", ".pdf", ".log", ".mat", ".db", ".ini", ".py", ".sh":
		return true
	}
	return strings.EqualFold(path.Base(name), "license") || strings.EqualFold(path.Base(name), "readme")
}

var splitNames = map[string]bool{"train": true, "training": true, "test": true, "testing": true, "t10k": true,
	"val": true, "valid": true, "validation": true}

// place reads split and class off the paths, after dropping the folders that
// all of them share.
func place(t *tree) ([]placed, []string, error) {
	var list []placed
	root := ""
	for i := range t.files {
		f := &t.files[i]
		if image, foreign := isImage(f.path); image {
			dir := path.Dir(f.path)
			if len(list) == 0 {
				root = dir
			}
			for !within(dir, root) {
				root = path.Dir(root)
			}
			list = append(list, placed{file: f, foreign: foreign})
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
	if splitNames[strings.ToLower(path.Base(root))] {
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
		if levels == 2 && splitNames[strings.ToLower(p.class)] {
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
				found = found || isPicture(t.files[i].path)
			}
			if !found {
				return nil, nil, usage.Errorf("%s: class folder %q holds no image; add some or remove it", t.origin, d)
			}
		}
	}
	list = append(list, strays(t, list)...)
	sort.SliceStable(list, func(i, j int) bool { return list[i].path < list[j].path })
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

// strays are files that lie where images lie but are no images by their names, and no notes.
func strays(t *tree, images []placed) []placed {
	home := map[string]placed{} // an image of each folder
	for _, p := range images {
		home[path.Dir(p.path)] = p
	}
	var list []placed
	for i := range t.files {
		f := &t.files[i]
		p, ok := home[path.Dir(f.path)]
		if ok && !isPicture(f.path) && !isNote(f.path) {
			list = append(list, placed{f, p.split, p.class, true})
		}
	}
	return list
}

func within(p, dir string) bool { return dir == "." || p == dir || strings.HasPrefix(p, dir+"/") }
