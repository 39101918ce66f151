package data

import (
	"path"
	"strings"
)

// elsewhere says what to do with a file of a data set that others read, "" if its name tells nothing.
func elsewhere(file string) string {
	base := strings.ToLower(path.Base(file))
	for _, b := range []string{"data_batch_1", "test_batch", "batches.meta"} {
		if base == b {
			return `it is CIFAR's Python version, a pickle, which is a program and not data; the binary version is read: gocp data fetch cifar10 (or cifar100)`
		}
	}
	line := ""
	switch path.Ext(base) {
	case ".parquet":
		line = `images in Parquet are not read; write them as files: python -c 'import pandas, pathlib; [(p := pathlib.Path("images", str(r.label))).mkdir(parents=True, exist_ok=True) or (p / f"{i:06}.png").write_bytes(r.image["bytes"]) for i, r in pandas.read_parquet("PATH").iterrows()]'`
	case ".h5", ".hdf5":
		line = `HDF5 is not read; convert it: python -c 'import h5py, numpy; f = h5py.File("PATH"); numpy.savez("data.npz", x_train=f["IMAGES"][:], y_train=f["LABELS"][:])'`
	case ".mat":
		line = `it is not read; convert it: python -c 'import numpy, scipy.io; f = scipy.io.loadmat("PATH"); numpy.savez("data.npz", x_train=f["IMAGES"], y_train=f["LABELS"])'`
	case ".pt", ".pth", ".pkl", ".pickle":
		line = `a pickle, which is a program and not data, is not read; save its arrays by numpy.savez("data.npz", x_train=…, y_train=…, x_test=…, y_test=…)`
	case ".tfrecord", ".lmdb", ".mdb", ".beton":
		line = `it is not read; save its arrays by numpy.savez("data.npz", x_train=…, y_train=…, x_test=…, y_test=…), or its images as files at SPLIT/CLASS/NAME`
	case ".bz2", ".xz", ".zst", ".7z", ".rar":
		line = `archives of this kind are not read; unpack it, or pack it as .tar.gz or .zip`
	}
	return strings.ReplaceAll(line, "PATH", file)
}
