// Command mksample makes the sample that package cifar10sample embeds:
//
//	go run ./gocp/data/internal/mksample -in cifar10-jpeg.tar.gz -out gocp/data/cifar10sample/sample.tar.gz
//
// It draws the same number of images of every class from a tar.gz of
// SPLIT/CLASS/NAME by a seed and packs the files, unchanged, into a smaller
// tar.gz. The same input gives the same bytes.
package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"sort"

	"github.com/gocp/gocp/gocp/atomicfile"
	"github.com/gocp/gocp/gocp/rng"
)

func main() {
	in := flag.String("in", "", "tar.gz of SPLIT/CLASS/NAME")
	out := flag.String("out", "", "tar.gz to write")
	train := flag.Int("train", 1200, "training images of each class")
	test := flag.Int("test", 200, "test images of each class")
	seed := flag.Uint64("seed", 2009, "seed of the draw")
	flag.Parse()
	if err := run(*in, *out, map[string]int{"train": *train, "test": *test}, *seed); err != nil {
		fmt.Fprintln(os.Stderr, "mksample:", err)
		os.Exit(1)
	}
}

func run(in, out string, quota map[string]int, seed uint64) error {
	files, err := read(in)
	if err != nil {
		return err
	}
	folders := map[string][]string{}
	for name := range files {
		folders[path.Dir(name)] = append(folders[path.Dir(name)], name)
	}
	var chosen []string
	for folder, list := range folders {
		k, ok := quota[path.Dir(folder)]
		if !ok || len(list) < k {
			return fmt.Errorf("%s: folder %s with %d images, but %d are wanted of train/CLASS and %d of test/CLASS", in, folder, len(list), quota["train"], quota["test"])
		}
		sort.Strings(list)
		for _, i := range rng.New(seed, rng.Stream("mksample "+folder)).Sample(len(list), k) {
			chosen = append(chosen, list[i])
		}
	}
	slices.Sort(chosen)
	return atomicfile.Write(out, func(w io.Writer) error {
		z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		t := tar.NewWriter(z)
		for _, name := range chosen {
			if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Format: tar.FormatUSTAR}); err != nil {
				return err
			}
			if _, err := t.Write(files[name]); err != nil {
				return err
			}
		}
		return errors.Join(t.Close(), z.Close())
	})
}

func read(in string) (map[string][]byte, error) {
	f, err := os.Open(in)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if files[path.Clean(h.Name)], err = io.ReadAll(t); err != nil {
			return nil, err
		}
	}
}
