package matrix

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/gocp/gocp/gocp/usage"
)

// endings are those of files that can be read, and packed may follow them.
var (
	endings = []string{".npy", ".npz", ".safetensors", ".csv", ".tsv", ".txt", ".parquet", ".pq"}
	packed  = []string{".gz", ".zst"}
)

// Formats lists what can be read, for messages.
const Formats = ".npy, .npz, .safetensors, .csv, .tsv, .txt, .parquet or .pq (also .gz or .zst of these), or be a folder of .parquet parts"

// folder stands for the ending of a folder.
const folder = "/"

// Split separates a file's name from the part of it that is meant: at the first colon before which
// there is a file, or if there is none, the first that follows a known ending.
func Split(name string) (path, part string) {
	if _, err := os.Stat(name); err == nil {
		return name, ""
	}
	known := -1
	for i := range len(name) {
		if name[i] != ':' || i == 0 {
			continue
		}
		if _, err := os.Stat(name[:i]); err == nil {
			return name[:i], name[i+1:]
		}
		if known < 0 && filepath.Ext(name[:i]) != "" {
			known = i
		}
	}
	if known > 0 {
		return name[:known], name[known+1:]
	}
	return name, ""
}

// ending is that of a name, in small letters, and what it is packed by.
func ending(path string) (kind, pack string) {
	kind = strings.ToLower(filepath.Ext(path))
	if slices.Contains(packed, kind) {
		pack = kind
		kind = strings.ToLower(filepath.Ext(path[:len(path)-len(pack)]))
	}
	return kind, pack
}

// IsText tells whether a name is that of a text file, whose first line may hold names.
func IsText(name string) bool {
	path, _ := Split(name)
	kind, _ := ending(path)
	return kind == ".csv" || kind == ".tsv" || kind == ".txt"
}

// unpack finds the ending of m's file. A packed file is unpacked into a temporary one, which goes with Close.
func (m *Matrix) unpack() (string, error) {
	info, err := os.Stat(m.path)
	if err == nil && info.IsDir() {
		return folder, nil
	}
	kind, pack := ending(m.path)
	if pack == "" || !slices.Contains(endings, kind) {
		return kind, nil
	}
	if err != nil {
		return "", usage.Errorf("%s: cannot be read: %w", m.path, err)
	}
	f, err := os.Open(m.path)
	if err != nil {
		return "", usage.Errorf("%s: cannot be read: %w", m.path, err)
	}
	defer f.Close()
	damaged := func(err error) error { return usage.Errorf("%s: damaged: %w", m.path, err) }
	var r io.Reader
	most := info.Size() * maxGzip
	if pack == ".gz" {
		g, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<16))
		if err != nil {
			return "", damaged(err)
		}
		r = g
	} else {
		z, err := zstd.NewReader(f, zstd.WithDecoderMaxMemory(maxWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return "", damaged(err)
		}
		defer z.Close()
		r, most = z, info.Size()*maxZstd
	}
	out, err := os.CreateTemp("", "gocp-*"+kind)
	if err != nil {
		return "", fmt.Errorf("unpacking %s: %w", m.path, err)
	}
	m.closers = append(m.closers, out.Close, func() error { return os.Remove(out.Name()) })
	n, err := io.Copy(out, io.LimitReader(r, most+1))
	switch {
	case err != nil:
		return "", damaged(err)
	case n > most:
		return "", usage.Errorf("%s: it unpacks to more than %d bytes, which its %d hardly can: unpack it first", m.path, most, info.Size())
	}
	m.path = out.Name()
	return kind, nil
}

// maxGzip is the most that deflate can expand, rounded up; maxZstd has no such reason, and maxWindow is
// the window of zstd --ultra.
const (
	maxGzip   = 1040
	maxZstd   = 1 << 14
	maxWindow = 128 << 20
)

// Hash is the SHA-256 of the file that a name is of, in hexadecimal; of a folder, that of its parts one
// after another. The context ends it early.
func Hash(ctx context.Context, name string) (string, error) {
	path, _ := Split(name)
	paths := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if paths, err = parts(path); err != nil {
			return "", err
		}
	}
	h := sha256.New()
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			return "", err
		}
		_, err = io.Copy(h, interruptible{ctx, f})
		f.Close()
		if err != nil {
			return "", fmt.Errorf("%s: %w", p, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// interruptible is a reader that the context ends.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// Base is a name without its folder.
func Base(name string) string {
	path, part := Split(name)
	if part != "" {
		part = ":" + part
	}
	return filepath.Base(path) + part
}

// elsewhere has, for endings of files that others read, the line that makes one of ours of PATH.
var elsewhere = map[string]string{
	".pt":      `python -c 'import numpy, torch; numpy.save("logits.npy", torch.load("PATH", map_location="cpu").float().numpy())' (for a dictionary add ["NAME"] after the bracket of load)`,
	".h5":      `python -c 'import h5py, numpy; numpy.save("logits.npy", h5py.File("PATH")["NAME"][:])'`,
	".pkl":     `python -c 'import numpy, pandas; numpy.save("logits.npy", numpy.asarray(pandas.read_pickle("PATH")))' (only if you trust the file: a pickle runs code)`,
	".joblib":  `python -c 'import joblib, numpy; numpy.save("logits.npy", numpy.asarray(joblib.load("PATH")))' (only if you trust the file: a pickle runs code)`,
	".onnx":    `it is a model, which others run: python -c 'import numpy, onnxruntime; s = onnxruntime.InferenceSession("PATH"); numpy.save("logits.npy", s.run(None, {s.get_inputs()[0].name: numpy.load("images.npy")})[0])'`,
	".mat":     `python -c 'import numpy, scipy.io; numpy.save("logits.npy", scipy.io.loadmat("PATH")["NAME"])'`,
	".rds":     `Rscript -e 'write.csv(readRDS("PATH"), "logits.csv", row.names = FALSE)'`,
	".rdata":   `Rscript -e 'load("PATH"); write.csv(NAME, "logits.csv", row.names = FALSE)'`,
	".feather": `python -c 'import pyarrow.feather, pyarrow.parquet; pyarrow.parquet.write_table(pyarrow.feather.read_table("PATH"), "logits.parquet")'`,
	".arrow":   `python -c 'import pyarrow as a, pyarrow.parquet as p; f = a.memory_map("PATH"); r = a.ipc.open_file if f.read(6) == b"ARROW1" else a.ipc.open_stream; f.seek(0); p.write_table(r(f).read_all(), "logits.parquet")'`,
	".orc":     `python -c 'import pyarrow.orc, pyarrow.parquet; pyarrow.parquet.write_table(pyarrow.orc.read_table("PATH"), "logits.parquet")'`,
	".xlsx":    `python -c 'import pandas; pandas.read_excel("PATH").to_csv("logits.csv", index=False)'`,
	".json":    `python -c 'import pandas; pandas.read_json("PATH").to_parquet("logits.parquet", index=False)'`,
	".jsonl":   `python -c 'import pandas; pandas.read_json("PATH", lines=True).to_parquet("logits.parquet", index=False)'`,
	".msgpack": `python -c 'import flax.serialization as f, numpy; numpy.save("logits.npy", numpy.asarray(f.msgpack_restore(open("PATH", "rb").read())["NAME"], "float32"))'`,
	".nc":      `python -c 'import numpy, xarray; numpy.save("logits.npy", xarray.open_dataset("PATH")["NAME"].values)'`,
	".avro":    `python -c 'import fastavro, pandas; pandas.DataFrame(fastavro.reader(open("PATH", "rb"))).to_parquet("logits.parquet", index=False)'`,
	".dta":     `python -c 'import pandas; pandas.read_stata("PATH").to_parquet("logits.parquet", index=False)'`,
	".sqlite":  `python -c 'import pandas, sqlite3; pandas.read_sql("select * from NAME", sqlite3.connect("PATH")).to_parquet("logits.parquet", index=False)'`,
	".zarr":    zarrLine,
	".bz2":     `bunzip2 PATH`,
	".xz":      `unxz PATH`,
	".lz4":     `unlz4 PATH`,
	".zip":     `unzip PATH`,
}

const zarrLine = `python -c 'import numpy, zarr; numpy.save("logits.npy", zarr.open("PATH", mode="r")[:])' (for a group add ["NAME"] before [:])`

// folders has, by what lies in them, folders that others read, with the line that makes a file of ours of PATH.
var folders = map[string]struct{ what, line string }{
	"_delta_log":           {"a Delta table, whose files may hold rows that were removed", `python -c 'import deltalake, pyarrow.parquet; pyarrow.parquet.write_table(deltalake.DeltaTable("PATH").to_pyarrow_table(), "logits.parquet")'`},
	"_CHECKPOINT_METADATA": {"an Orbax checkpoint", `python -c 'import numpy, orbax.checkpoint as o; numpy.save("logits.npy", numpy.asarray(o.StandardCheckpointer().restore("PATH")["NAME"], "float32"))'`},
	"zarr.json":            {"a Zarr store", zarrLine},
	".zarray":              {"a Zarr store", zarrLine},
	".zgroup":              {"a Zarr store", zarrLine},
	"dataset_info.json":    {"a data set of Hugging Face's datasets", `python -c 'import datasets; datasets.load_from_disk("PATH").to_parquet("logits.parquet")'`},
	"saved_model.pb":       {"a model of TensorFlow's, which others run", `python -c 'import numpy, tensorflow as t; numpy.save("logits.npy", t.saved_model.load("PATH").signatures["serving_default"](t.constant(numpy.load("images.npy")))["NAME"].numpy())'`},
}

// others are further endings of the same formats.
var others = map[string]string{
	".pth": ".pt", ".ckpt": ".pt", ".bin": ".pt", ".hdf5": ".h5", ".h5py": ".h5", ".pickle": ".pkl", ".ipc": ".arrow", ".arrows": ".arrow",
	".nc4": ".nc", ".netcdf": ".nc", ".db": ".sqlite", ".sqlite3": ".sqlite",
	".xls": ".xlsx", ".ods": ".xlsx", ".ndjson": ".jsonl", ".rda": ".rdata",
}

// unknown refuses a file by its ending, with the line that turns it into one of ours where there is one.
func unknown(name, path string) error {
	if strings.HasSuffix(path, ".safetensors.index.json") {
		return usage.Errorf("%s: it lists the .safetensors files beside it, of which one holds the tensor; give that one", name)
	}
	kind := strings.ToLower(filepath.Ext(path))
	if same, ok := others[kind]; ok {
		kind = same
	}
	if line, ok := elsewhere[kind]; ok {
		return usage.Errorf("%s: files in %s are not read; convert it first: %s", name, filepath.Ext(path), strings.ReplaceAll(line, "PATH", path))
	}
	return usage.Errorf("%s: the name must end in %s", name, Formats)
}
