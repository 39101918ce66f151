#!/usr/bin/env bash
# golang.org/x/image/webp gives the planes of a lossy WebP as image.YCbCr. Its colours by Go's own
# At() are not the picture's: image/color converts with JPEG's full range, WebP's luma runs from 16 to
# 235 (RFC 6386, BT.601), and chroma is taken from the nearest sample where libwebp interpolates.
#
# golang.org/x/image 0.48.0 against Pillow 12.0.0 (libwebp 1.6.0), a picture of black, white, grey, red
# and blue fields, quality 100. Seen: black comes as 16 and white as 235.
#   black  Pillow [0, 0, 0]        Go [16 16 16]
#   white  Pillow [255, 255, 255]  Go [235 235 235]
# Exits 0 while that is so.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.0.0
cd "$dir"
cat >write.py <<'PY'
from PIL import Image
im = Image.new("RGB", (160, 32))
for i, c in enumerate([(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 0, 255)]):
    im.paste(c, (32 * i, 0, 32 * i + 32, 32))
im.save("a.webp", quality=100)
im = Image.open("a.webp").convert("RGB")
print("Pillow", [list(im.getpixel((32 * i + 16, 16))) for i in range(5)])
black, white = im.getpixel((16, 16)), im.getpixel((48, 16))
assert max(black) <= 1 and min(white) >= 254, "Pillow's black and white have changed"
PY
venv/bin/python write.py
cat >main.go <<'GO'
package main

import (
	"fmt"
	"image/color"
	"os"

	"golang.org/x/image/webp"
)

func main() {
	f, err := os.Open("a.webp")
	if err != nil {
		panic(err)
	}
	m, err := webp.Decode(f)
	if err != nil {
		panic(err)
	}
	var c [5]color.NRGBA
	for i := range c {
		c[i] = color.NRGBAModel.Convert(m.At(32*i+16, 16)).(color.NRGBA)
	}
	fmt.Println("Go    ", c)
	if c[0].R < 15 || c[0].R > 17 || c[1].R < 234 || c[1].R > 236 {
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
