#!/usr/bin/env bash
# golang.org/x/image/tiff exchanges black and white in fax-compressed (CCITT G4) TIFF files whose
# PhotometricInterpretation is 1, BlackIsZero, which is what libtiff and so Pillow write for bilevel
# images; the same picture without compression is right.
#
# golang.org/x/image 0.48.0 against Pillow 12.0.0 (libtiff 4.7.1), 24x16 pixels, 96 of them white.
# Seen: group4 has 288 white pixels of 384, raw has 96.
# Exits 0 while that is so.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.0.0
cd "$dir"
cat >write.py <<'PY'
from PIL import Image
im = Image.new("1", (24, 16), 0)
im.paste(1, (4, 4, 16, 12))
for kind in ("group4", "raw"):
    im.save(kind + ".tif", compression=kind)
    back = Image.open(kind + ".tif")
    white = sum(v != 0 for v in back.convert("L").tobytes())
    print("Pillow", kind, white, "white pixels, photometric", back.tag_v2[262])
    assert white == 96 and back.tag_v2[262] == 1
PY
venv/bin/python write.py
cat >main.go <<'GO'
package main

import (
	"fmt"
	"image/color"
	"os"

	"golang.org/x/image/tiff"
)

func white(name string) (n int) {
	f, err := os.Open(name)
	if err != nil {
		panic(err)
	}
	m, err := tiff.Decode(f)
	if err != nil {
		panic(err)
	}
	for y := range m.Bounds().Dy() {
		for x := range m.Bounds().Dx() {
			if color.GrayModel.Convert(m.At(x, y)).(color.Gray).Y > 127 {
				n++
			}
		}
	}
	return n
}

func main() {
	g4, raw := white("group4.tif"), white("raw.tif")
	fmt.Println("Go     group4", g4, "white pixels, raw", raw)
	if g4 != 288 || raw != 96 {
		fmt.Println("the behaviour has changed")
		os.Exit(1)
	}
}
GO
cat >go.mod <<'MOD'
module finding

go 1.25
MOD
go get golang.org/x/image@v0.48.0 2>/dev/null
go run .
