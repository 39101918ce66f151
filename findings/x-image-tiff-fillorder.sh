#!/usr/bin/env bash
# golang.org/x/image/tiff passes over FillOrder (tag 266): of a file whose bytes hold their lowest bit first it
# gives another picture, without an error. libtiff writes such files when it is asked to and reads them right.
#
# golang.org/x/image 0.48.0 against Pillow 12.0.0 (libtiff 4.7.1): 24x16 pixels, 88 of them white, bilevel,
# without compression, once with FillOrder 1 and once with 2.
# Seen: order 1 has 88 white pixels in their places; with order 2 the picture differs at 80 of 384 pixels.
# Exits 0 while that is so.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.0.0
cd "$dir"
cat >write.py <<'PY'
from PIL import Image, TiffImagePlugin
TiffImagePlugin.WRITE_LIBTIFF = True
im = Image.new("1", (24, 16), 0)
im.paste(1, (4, 4, 15, 12))
for order in (1, 2):
    name = f"order{order}.tif"
    im.save(name, tiffinfo={266: order})
    back = Image.open(name)
    assert back.tobytes() == im.tobytes() and back.tag_v2[266] == order
    print("Pillow", name, "the same picture, FillOrder", back.tag_v2[266])
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

// wrong counts the pixels that differ from what was written.
func wrong(name string) (n int) {
	f, err := os.Open(name)
	if err != nil {
		panic(err)
	}
	m, err := tiff.Decode(f)
	if err != nil {
		panic(err)
	}
	for y := range 16 {
		for x := range 24 {
			inside := x >= 4 && x < 15 && y >= 4 && y < 12
			if (color.GrayModel.Convert(m.At(x, y)).(color.Gray).Y > 127) != inside {
				n++
			}
		}
	}
	return n
}

func main() {
	one, two := wrong("order1.tif"), wrong("order2.tif")
	fmt.Println("Go     order 1:", one, "pixels differ; order 2:", two)
	if one != 0 || two == 0 {
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
