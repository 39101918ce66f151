package data

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/gocp/gocp/gocp/data/internal/picture"
	"github.com/gocp/gocp/gocp/usage"
)

// Known describes a data set that Open knows by name.
type Known struct {
	Name  string
	About string // one line: what it is, whose, how large
	Where string // the folder it was found in, "embedded", or "" if it is not on this machine
	Fetch bool   // whether Fetch can download it
}

// builtin is a known set that lives in files.
type builtin struct {
	name, about string
	classes     []string
	system      string // a folder where a distribution's package puts it
	files       []Remote
}

// embedded holds what Register was given. Packages register from init, so it
// does not change once main runs.
var embedded = map[string]struct {
	about string
	open  func() (*Source, error)
}{}

// Register makes Open know a set that a package embeds. It is for init
// functions; a name that is taken panics.
func Register(name, about string, open func() (*Source, error)) {
	if _, taken := embedded[name]; taken || find(name) != nil {
		panic("data: the name " + name + " is registered twice")
	}
	embedded[name] = struct {
		about string
		open  func() (*Source, error)
	}{about, open}
}

// List returns the known sets, the embedded ones first.
func List() []Known {
	var list []Known
	for name, e := range embedded {
		list = append(list, Known{Name: name, About: e.about, Where: "embedded"})
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	for i := range builtins {
		b := &builtins[i]
		where, _ := b.where()
		list = append(list, Known{Name: b.name, About: b.about, Where: where, Fetch: len(b.files) > 0})
	}
	return list
}

func knownNames() string { return names(List(), func(k Known) string { return k.Name }) }

func find(name string) *builtin {
	for i := range builtins {
		if builtins[i].name == name {
			return &builtins[i]
		}
	}
	return nil
}

// Dir is the folder for downloaded sets: $GOCP_DATA, or gocp/data in the user's
// cache folder.
func Dir() (string, error) {
	if dir := os.Getenv("GOCP_DATA"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", usage.Errorf("there is no folder for data sets: set GOCP_DATA to one (%w)", err)
	}
	return filepath.Join(cache, "gocp", "data"), nil
}

// where finds the folder that holds the set, "" if there is none.
func (b *builtin) where() (string, error) {
	dir, err := Dir()
	if err == nil {
		if p := filepath.Join(dir, b.name); holdsFiles(p) {
			return p, nil
		}
	}
	if b.system != "" && holdsFiles(b.system) {
		return b.system, nil
	}
	return "", err
}

func holdsFiles(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if !hidden(e.Name()) {
			return true
		}
	}
	return false
}

func (r Reading) open(nameOrPath string) (*Source, error) {
	if e, ok := embedded[nameOrPath]; ok {
		s, err := e.open()
		if r.SkipUnreadable {
			return nil, notFiles(nameOrPath)
		}
		if err == nil && r.Coarse {
			own := *s
			own.Splits, err = coarsen(nameOrPath, s.Splits)
			s = &own
		}
		if err != nil || !r.transforms() {
			return s, err
		}
		return r.remade(s)
	}
	if b := find(nameOrPath); b != nil {
		where, err := b.where()
		if err != nil {
			return nil, err
		}
		if where == "" {
			dir, err := Dir()
			if err != nil {
				return nil, err
			}
			return nil, usage.Errorf("%s is not on this machine: run \"gocp data fetch %s\", or put its files in %s", b.name, b.name, filepath.Join(dir, b.name))
		}
		return r.openPath(b.name, where, b.classes)
	}
	return r.openPath(strings.TrimSuffix(filepath.Base(nameOrPath), filepath.Ext(nameOrPath)), nameOrPath, nil)
}

// notFiles is the error for leaving out files where there are none.
func notFiles(name string) error {
	return usage.Errorf("%s holds its images in one piece, not as files of which some could be skipped; leave --skip-unreadable out", name)
}

// openPath reads what lies at a path, whatever its format.
func (r Reading) openPath(name, path string, classes []string) (*Source, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage.Errorf("%q is neither a known data set nor a file or folder; the known ones are %s", path, knownNames())
	}
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	var splits []*Dataset
	t := &tree{origin: path}
	switch base := filepath.Base(path); {
	case fi.IsDir():
		if t, err = walk(path); err != nil {
			return nil, err
		}
		t.reading = r
		if splits, err = readTree(t, classes); err != nil {
			return nil, err
		}
	case !fi.Mode().IsRegular():
		return nil, usage.Errorf("%s: it is neither a file nor a folder", path)
	case isArchive(base):
		if t, err = unpack(path); err != nil {
			return nil, err
		}
		t.reading = r
		if splits, err = readTree(t, classes); err != nil {
			return nil, err
		}
	case isIDX(base):
		if splits, err = readIDX(beside(path), classes); err != nil {
			return nil, err
		}
	case strings.HasSuffix(base, ".npz"), strings.HasSuffix(base, ".safetensors"):
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, usage.Errorf("%s: cannot be read: %w", path, err)
		}
		read := readNPZ
		if strings.HasSuffix(base, ".safetensors") {
			read = readSafetensors
		}
		if splits, err = read(path, b, classes); err != nil {
			return nil, err
		}
	default:
		if line := elsewhere(path); line != "" {
			return nil, usage.Errorf("%s: %s", path, line)
		}
		return nil, usage.Errorf("%s: unknown format; a data set is a folder, a .tar, .tar.gz, .zip, .npz or .safetensors file, or an IDX file named …-images-idx3-ubyte", path)
	}
	if r.Coarse && !t.coarse {
		if splits, err = coarsen(path, splits); err != nil {
			return nil, err
		}
	}
	s, err := newSource(name, path, splits)
	if err != nil {
		return nil, err
	}
	s.Skipped, s.Notes = t.skipped, t.notes
	if r.SkipUnreadable && !t.scaled {
		return nil, notFiles(path)
	}
	if t.scaled || !r.transforms() {
		return s, nil
	}
	return r.remade(s)
}

// remade is s with all images scaled and cropped.
func (r Reading) remade(s *Source) (*Source, error) {
	out := *s
	out.Splits = nil
	for _, d := range s.Splits {
		d, err := r.transformed(d)
		if err != nil {
			return nil, err
		}
		out.Splits = append(out.Splits, d)
	}
	return &out, nil
}

// beside returns the IDX file at path with its partner.
func beside(path string) *tree {
	t := &tree{origin: path}
	dir, base := filepath.Split(path)
	m := idxName.FindStringSubmatch(base)
	prefix := base[:strings.LastIndex(base, m[2])]
	entries, err := os.ReadDir(filepath.Clean(dir + "."))
	if err != nil {
		return t
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) && isIDX(e.Name()) {
			p := dir + e.Name()
			t.files = append(t.files, file{path: e.Name(), origin: p, disk: p})
		}
	}
	return t
}

// ReadTar reads a tar, gzipped or not, from memory: what Open does with a file.
func ReadTar(name, origin string, content []byte) (*Source, error) {
	t, err := untar(origin, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	splits, err := readTree(t, nil)
	if err != nil {
		return nil, err
	}
	return newSource(name, origin, splits)
}

// readTree finds out the format of a folder or an archive by its files' names.
func readTree(t *tree, classes []string) ([]*Dataset, error) {
	found := map[string]func(*tree, []string) ([]*Dataset, error){}
	_, tiny := t.note(tinyClasses)
	for i := range t.files {
		switch base := t.files[i].base(); {
		case isCIFAR(base) && strings.HasSuffix(base, ".bin"):
			found["CIFAR"] = readCIFAR
		case isIDX(base):
			found["IDX"] = readIDX
		case strings.HasSuffix(base, ".npy"):
			found["NumPy"] = readNPY
		case isPicture(base):
			found["image"] = readImages
			if tiny {
				found["image"] = readTiny
			}
		case isArchive(base) && t.files[i].disk != "":
			found["archive"] = readArchives
		}
	}
	var kinds []string
	for k := range found {
		kinds = append(kinds, k)
	}
	sort.Strings(kinds)
	switch {
	case len(kinds) > 1:
		return nil, usage.Errorf("%s: it holds files of several formats (%s); give a folder with one data set", t.origin, strings.Join(kinds, ", "))
	case len(kinds) == 1:
		return found[kinds[0]](t, classes)
	}
	for i := range t.files {
		if line := elsewhere(t.files[i].origin); line != "" {
			return nil, usage.Errorf("%s: %s", t.files[i].origin, line)
		}
	}
	return nil, usage.Errorf("%s: no data set found; it may hold CIFAR .bin, IDX or .npy files, or images ("+picture.Endings+") at [SPLIT/]CLASS/NAME", t.origin)
}

// readArchives takes the content of all archives of a folder together.
func readArchives(t *tree, classes []string) ([]*Dataset, error) {
	all := &tree{origin: t.origin, reading: t.reading}
	seen := map[string]bool{}
	for _, f := range t.files {
		if !isArchive(f.path) {
			continue
		}
		one, err := unpack(f.disk)
		if err != nil {
			return nil, err
		}
		for _, g := range one.files {
			if seen[g.path] {
				return nil, usage.Errorf("%s: another archive of the folder holds it too; remove one", g.origin)
			}
			seen[g.path] = true
		}
		all.files = append(all.files, one.files...)
		all.dirs = append(all.dirs, one.dirs...)
	}
	sort.Slice(all.files, func(i, j int) bool { return all.files[i].path < all.files[j].path })
	splits, err := readTree(all, classes)
	t.skipped, t.scaled, t.notes, t.coarse = all.skipped, all.scaled, all.notes, all.coarse
	return splits, err
}
