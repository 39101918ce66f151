#!/usr/bin/env bash
# parquet-go 0.32.0 reads LZ4-compressed Parquet as other numbers, without an error.
#
# A column of float64 that is not nullable, written by pyarrow 26.0.1 with compression="lz4" (LZ4_RAW) and
# without a dictionary, has the right number of values in parquet-go, and zeros or what a buffer held before;
# pyarrow reads its own file right. Nullable columns mostly fail with an error about definition levels.
# By the source: the codec decodes into a buffer of its own wherever a page shrinks less than threefold, and
# Column.decompress, which expects its own buffer to have been filled when the sizes agree, uses that one.
#
# Seen on linux/amd64 with Go 1.26.8, 2026-12-01:
#     pyarrow reads   0.12573022 -0.13210486 0.64042265
#     parquet-go: 5000 values, 5000 of them wrong, no error
#
# Exits with 0 while this is so, with 1 once it is not.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check numpy==2.4.6 pyarrow==26.0.1
venv/bin/python - <<'PY'
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
x = np.random.default_rng(0).normal(size=5000)
schema = pa.schema([pa.field("x", pa.float64(), nullable=False)])
pq.write_table(pa.table({"x": pa.array(x)}, schema=schema), "x.parquet", compression="lz4", use_dictionary=False)
y = pq.read_table("x.parquet")["x"].to_numpy()
assert (x == y).all()
print("pyarrow reads  ", *("%.8f" % v for v in y[:3]))
y.astype("<f8").tofile("x.raw")
PY
cat >main.go <<'GO'
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/parquet-go/parquet-go"
)

func main() {
	want, err := os.ReadFile("x.raw")
	fatal(err)
	f, err := os.Open("x.parquet")
	fatal(err)
	info, err := f.Stat()
	fatal(err)
	file, err := parquet.OpenFile(f, info.Size())
	fatal(err)
	pages := file.RowGroups()[0].ColumnChunks()[0].Pages()
	n, wrong := 0, 0
	for {
		page, err := pages.ReadPage()
		if err == io.EOF {
			break
		}
		fatal(err)
		values := make([]parquet.Value, page.NumValues())
		got, err := page.Values().ReadValues(values)
		if err != io.EOF {
			fatal(err)
		}
		for _, v := range values[:got] {
			if math.Float64bits(v.Double()) != binary.LittleEndian.Uint64(want[8*n:]) {
				wrong++
			}
			n++
		}
	}
	fmt.Printf("parquet-go: %d values, %d of them wrong, no error\n", n, wrong)
	if n != 5000 || wrong == 0 {
		os.Exit(1)
	}
}

func fatal(err error) {
	if err != nil {
		fmt.Println("parquet-go:", err)
		os.Exit(1)
	}
}
GO
cat >go.mod <<'MOD'
module x

go 1.26.0

require github.com/parquet-go/parquet-go v0.32.0
MOD
go mod tidy >/dev/null 2>&1
go run .
