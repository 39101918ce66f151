#!/usr/bin/env python3
"""Image files as gocp reads them beside Pillow and torchvision (bench/images_peers.sh).

Writes image files of many kinds by Pillow, simplejpeg and imagecodecs, among them every sampling of
chroma at awkward sizes, and holds the pixels of `gocp data export` against Pillow's
Image.open(f).convert("RGB") (or "L" where all of a folder is grey), which is what torchvision's
ImageFolder gives a model. Files that gocp refuses must be refused with the sentence in REFUSED.
Then Resize and CenterCrop against torchvision's transforms on the same PIL images.

    images_peers.py --gocp bin/gocp [--data ARCHIVE.tar.gz ...]   compares; exits 1 on a difference
    images_peers.py --write DIR                                   writes small files for the tests
"""

import argparse
import io
import json
import struct
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import PIL
import simplejpeg
from PIL import Image, features

# JPEG's bound: at most this far from Pillow's pixels, and so many of the values equal.
LEVELS, EQUAL = 1, 0.99


def picture(rng, h, w, c=3):
    """An image with edges, gradients and noise."""
    y, x = np.mgrid[:h, :w]
    waves = [128 + 90 * np.sin(x / (3 + k) + y / (5 + 2 * k) + k) for k in range(c)]
    a = np.stack(waves, -1) + rng.normal(0, 20, (h, w, c))
    a[h // 3 : h // 2, w // 4 :] += 60
    return a.clip(0, 255).astype(np.uint8)


def saved(image, kind, **options):
    b = io.BytesIO()
    image.save(b, kind, **options)
    return b.getvalue()


def kinds(rng, h, w):
    """NAME -> (ending, bytes), of one size, all in colour unless the name begins with grey."""
    a = picture(rng, h, w)
    rgb = Image.fromarray(a)
    grey = Image.fromarray(a[..., 0].copy())
    cmyk = picture(rng, h, w, 4)
    out = {}
    for sampling in ("444", "422", "420", "440", "411"):
        out[f"jpeg-{sampling}"] = ".jpg", simplejpeg.encode_jpeg(a, quality=90, colorsubsampling=sampling)
    out["jpeg-420-coarse"] = ".jpeg", simplejpeg.encode_jpeg(a, quality=30, colorsubsampling="420")
    out["jpeg-progressive"] = ".JPG", saved(rgb, "JPEG", quality=85, progressive=True)
    out["jpeg-progressive-444"] = ".jpg", saved(rgb, "JPEG", quality=95, progressive=True, subsampling=0)
    out["jpeg-restarts"] = ".jpg", saved(rgb, "JPEG", restart_marker_blocks=2)
    out["jpeg-rgb"] = ".jpg", saved(rgb, "JPEG", keep_rgb=True)
    out["jpeg-cmyk"] = ".jpg", saved(Image.fromarray(cmyk, "CMYK"), "JPEG")
    out["jpeg-ycck-420"] = ".jpg", imagecodecs.jpeg8_encode(
        cmyk, level=90, colorspace="CMYK", outcolorspace="YCCK", subsampling="420"
    )
    out["grey-jpeg"] = ".jpg", saved(grey, "JPEG")
    out["grey-jpeg-progressive"] = ".jpg", saved(grey, "JPEG", progressive=True)
    out["png"] = ".png", saved(rgb, "PNG")
    out["png-palette"] = ".PNG", saved(rgb.quantize(17), "PNG")
    out["png-opaque"] = ".png", saved(rgb.convert("RGBA"), "PNG")
    out["grey-png"] = ".png", saved(grey, "PNG")
    out["grey-png-1bit"] = ".png", saved(grey.convert("1"), "PNG")
    out["png-grey-alpha-opaque"] = ".png", saved(grey.convert("LA"), "PNG")
    out["bmp"] = ".bmp", saved(rgb, "BMP")
    out["bmp-palette"] = ".bmp", saved(rgb.quantize(200), "BMP")
    out["bmp-grey"] = ".bmp", saved(grey, "BMP")
    out["bmp-1bit"] = ".bmp", saved(grey.convert("1"), "BMP")
    out["ppm"] = ".ppm", saved(rgb, "PPM")
    text = "P3\n# by hand\n%d %d 100\n%s\n" % (w, h, " ".join(str(v) for v in (a // 3).ravel()))
    out["ppm-text-100"] = ".ppm", text.encode()
    out["ppm-100"] = ".ppm", b"P6 %d %d\n100\n" % (w, h) + (a // 3).tobytes()
    out["grey-pgm"] = ".pgm", saved(grey, "PPM")
    out["bmp-top-down"] = ".bmp", top_down(saved(rgb, "BMP"), w, h)
    out["png-interlaced"] = ".png", interlaced(a)
    out["png-animated"] = ".png", saved(rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)])
    out["jpeg-two-pictures"] = ".jpg", saved(rgb, "MPO", save_all=True, append_images=[rgb.rotate(180)])
    out["jpeg-turned"] = ".jpg", saved(rgb, "JPEG", exif=turned())
    out["tiff-two-pages"] = ".tif", saved(rgb, "TIFF", save_all=True, append_images=[rgb.rotate(180)])
    out["tiff"] = ".tif", saved(rgb, "TIFF")
    out["tiff-lzw"] = ".tiff", saved(rgb, "TIFF", compression="tiff_lzw")
    out["tiff-deflate"] = ".tif", saved(rgb, "TIFF", compression="tiff_adobe_deflate")
    out["tiff-packbits"] = ".tif", saved(rgb, "TIFF", compression="packbits")
    out["tiff-palette"] = ".tif", saved(rgb.quantize(30), "TIFF")
    out["grey-tiff"] = ".tif", saved(grey, "TIFF")
    out["grey-tiff-1bit"] = ".tif", saved(grey.convert("1"), "TIFF")
    out["webp-lossless"] = ".webp", saved(rgb, "WEBP", lossless=True)
    out["webp"] = ".webp", saved(rgb, "WEBP", quality=80)
    out["webp-coarse"] = ".webp", saved(rgb, "WEBP", quality=10)
    out["webp-opaque"] = ".webp", saved(rgb.convert("RGBA"), "WEBP", quality=70)
    return out


def turned():
    e = Image.Exif()
    e[274] = 6
    return e


def top_down(b, w, h):
    at, stride = struct.unpack("<I", b[10:14])[0], (3 * w + 3) // 4 * 4
    rows = [b[at + i * stride : at + (i + 1) * stride] for i in range(h)]
    return b[:22] + struct.pack("<i", -h) + b[26:at] + b"".join(rows[::-1])


def interlaced(a):
    """A PNG in Adam7, which neither Pillow nor imagecodecs writes."""
    h, w, _ = a.shape
    data = b""
    for y, x, dy, dx in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)):
        part = a[y::dy, x::dx]
        data += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def refused(rng, h, w):
    """NAME -> (ending, bytes, part of the sentence)."""
    a = picture(rng, h, w)
    rgb = Image.fromarray(a)
    half = rgb.convert("RGBA")
    half.putalpha(100)
    deep = Image.fromarray(a[..., 0].astype(np.uint16) * 257)
    jpeg = saved(rgb, "JPEG")
    progressive = saved(rgb, "JPEG", progressive=True)
    return {
        "tiff-reversed-bits": (".tif", reversed_bits(saved(rgb, "TIFF")), "stand in reverse order"),
        "tiff-cmyk": (".tif", saved(rgb.convert("CMYK"), "TIFF"), "a TIFF file of a kind that is not read"),
        "tiff-big": (".tif", saved(rgb, "TIFF", big_tiff=True), "it is a BigTIFF image"),
        "tiff-zstd": (".tif", saved(rgb, "TIFF", compression="zstd"), "a TIFF file of a kind that is not read"),
        "jpeg-12bit": (".jpg", imagecodecs.jpeg8_encode(a.astype(np.uint16) << 4, bitspersample=12), "a JPEG file of a kind"),
        "jpegxl-called-jpg": (".jpg", imagecodecs.jpegxl_encode(a), "it is a JPEG XL image"),
        "avif-called-jpg": (".jpg", imagecodecs.avif_encode(a), "it is a HEIF or AVIF image"),
        "ico-called-png": (".png", saved(rgb, "ICO", sizes=[(16, 16)]), "it is an icon"),
        "bmp-os2-called-bmp": (".bmp", os2_bmp(rgb), "a BMP file of a kind that is not read"),
        "pointer-called-jpg": (".jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        "page-called-jpg": (".jpg", b"<!DOCTYPE html><html>404</html>", "a web page"),
        "png-transparent": (".png", saved(half, "PNG"), "transparent pixels"),
        "webp-transparent": (".webp", saved(half, "WEBP"), "transparent pixels"),
        "png-16bit": (".png", saved(deep, "PNG"), "16 bits per channel"),
        "tiff-16bit": (".tif", saved(deep, "TIFF"), "16 bits per channel"),
        "pgm-16bit": (".pgm", saved(deep, "PPM"), "16 bits per channel"),
        "tiff-jpeg": (".tif", saved(rgb, "TIFF", compression="jpeg"), "TIFF"),
        "tiff-turned": (".tif", saved(rgb, "TIFF", exif=turned()), "rotated or mirrored"),
        "tiff-fax": (".tif", saved(rgb.convert("1"), "TIFF", compression="group4"), "fax compression"),
        "tiff-float": (".tif", saved(Image.fromarray(a[..., 0].astype(np.float32)), "TIFF"), "not unsigned integers"),
        "tiff-planes": (".tif", planar_tiff(np.moveaxis(a, -1, 0)), "planes of their own"),
        "webp-animated": (".webp", saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)]), "WebP"),
        "gif": (".gif", saved(rgb, "GIF"), "no image by its name"),
        "gif-called-png": (".png", saved(rgb, "GIF"), "it is a GIF image"),
        "jpeg-cut": (".jpg", jpeg[: len(jpeg) * 2 // 3], "the file is cut off"),
        "jpeg-progressive-cut": (".jpg", progressive[: len(progressive) * 2 // 3], "the file is cut off"),
        "png-cut": (".png", saved(rgb, "PNG")[:-40], "PNG"),
        "bmp-cut": (".bmp", saved(rgb, "BMP")[:-4], "cut off"),
        "ppm-cut": (".ppm", saved(rgb, "PPM")[:-1], "cut off"),
        "tiff-cut": (".tif", saved(rgb, "TIFF", compression="tiff_lzw")[:-300], "TIFF"),
        "webp-cut": (".webp", saved(rgb, "WEBP")[:-40], "WebP"),
    }


def reversed_bits(b):
    """The same TIFF with FillOrder 2: tag 258 of Pillow's directory is followed by 259, whose entry moves down."""
    n, at = struct.unpack("<H", b[8:10])[0], 10
    entries = [b[at + 12 * i : at + 12 * i + 12] for i in range(n)]
    tags = {struct.unpack("<H", e[:2])[0]: e for e in entries}
    strip, size = (struct.unpack("<I", tags[t][8:])[0] for t in (273, 279))
    flip = bytes(int(f"{v:08b}"[::-1], 2) for v in range(256))
    out = bytearray(b)
    out[strip : strip + size] = b[strip : strip + size].translate(flip)
    tags[266] = struct.pack("<HHII", 266, 3, 1, 2)
    directory = b"".join(tags[t] for t in sorted(tags))
    out += struct.pack("<H", len(tags)) + directory + bytes(4)  # a new directory at the end
    out[4:8] = struct.pack("<I", len(out) - len(directory) - 6)
    return bytes(out)


def os2_bmp(image):
    """A BMP with the header of OS/2, as ImageMagick writes by bmp2:"""
    b = saved(image, "BMP")
    w, h = image.size
    body = b[struct.unpack("<I", b[10:14])[0] :]
    return b"BM" + struct.pack("<IHHI", 26 + len(body), 0, 0, 26) + struct.pack("<IHHHH", 12, w, h, 1, 24) + body


def planar_tiff(a):
    """A TIFF 6.0 file with a plane for each colour, written by hand: no library at hand does."""
    c, h, w = a.shape
    data = a.tobytes()
    n = 11
    at = 8 + 2 + 12 * n + 4
    offsets, counts, bits = at, at + 12, at + 24
    first = at + 30
    tags = [
        (256, 3, 1, w), (257, 3, 1, h), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 3, offsets), (277, 3, 1, 3), (278, 3, 1, h), (279, 4, 3, counts), (284, 3, 1, 2), (339, 3, 1, 1),
    ]  # fmt: skip
    b = b"II*\x00" + struct.pack("<IH", 8, n)
    for tag in tags:
        b += struct.pack("<HHII", *tag)
    b += struct.pack("<I", 0) + struct.pack("<3I", *(first + i * h * w for i in range(3)))
    return b + struct.pack("<3I", *([h * w] * 3)) + struct.pack("<3H", 8, 8, 8) + data


def pillow(path, mode):
    return np.asarray(Image.open(path).convert(mode)).reshape(*Image.open(path).size[::-1], -1)


def gocp(binary, *args):
    return subprocess.run([binary, *map(str, args)], capture_output=True, text=True)


def export(binary, folder, *flags):
    """All images of a folder in the order of their paths."""
    with tempfile.TemporaryDirectory() as d:
        r = gocp(binary, "data", "export", folder, "--out", f"{d}/x.npz", *flags)
        if r.returncode:
            raise SystemExit(f"{folder}: {r.stderr}")
        z = np.load(f"{d}/x.npz")
        return {k: z[k] for k in z.files}


class Tally:
    def __init__(self):
        self.failed = 0

    def compare(self, what, ours, theirs):
        if ours.shape != theirs.shape:
            print(f"{what}: shape {ours.shape}, Pillow's {theirs.shape}")
            self.failed += 1
            return
        d = np.abs(ours.astype(int) - theirs.astype(int))
        equal = (d == 0).mean()
        bad = d.max() > LEVELS or equal < EQUAL if "jpeg" in what.lower() else d.max() > 0
        self.failed += bad
        print(f"{what:28} largest difference {d.max()}, equal {100 * equal:.3f} %{'  <-- WRONG' if bad else ''}")


def compare_kinds(binary, rng, tally):
    sizes = [(1, 1), (2, 3), (5, 4), (9, 17), (16, 16), (33, 31), (64, 48)]
    found = {}
    with tempfile.TemporaryDirectory() as d:
        for h, w in sizes:
            for name, (ending, b) in kinds(rng, h, w).items():
                folder = Path(d, f"{name}-{h}x{w}")
                folder.joinpath("cat").mkdir(parents=True)
                path = folder / "cat" / f"a{ending}"
                path.write_bytes(b)
                mode = "L" if name.startswith("grey") else "RGB"
                ours = export(binary, folder)["train_images"][0]
                found.setdefault(name, []).append((ours, pillow(path, mode)))
    for name, pairs in found.items():
        ours, theirs = zip(*pairs)
        tally.compare(name, np.concatenate([x.ravel() for x in ours]), np.concatenate([x.ravel() for x in theirs]))


def compare_refused(binary, rng, tally):
    with tempfile.TemporaryDirectory() as d:
        for name, (ending, b, text) in refused(rng, 31, 33).items():
            folder = Path(d, name, "cat")
            folder.mkdir(parents=True)
            (folder / f"a{ending}").write_bytes(b)
            (folder / "b.png").write_bytes(saved(Image.fromarray(picture(rng, 31, 33)), "PNG"))
            r = gocp(binary, "data", "info", folder.parent)
            good = r.returncode == 2 and text in r.stderr and f"a{ending}" in r.stderr and r.stderr.count("\n") == 1
            s = gocp(binary, "data", "info", "--json", "--skip-unreadable", folder.parent)
            left = json.loads(s.stdout) if s.returncode == 0 else {}
            good = good and len(left.get("skipped", [])) == 1 and left["splits"][0]["images"] == 1
            tally.failed += not good
            print(f"{name:28} refused{'' if good else '  <-- WRONG: ' + r.stderr + s.stderr}")


def compare_sizes(binary, rng, tally):
    import torchvision
    from torchvision.transforms import CenterCrop, Resize

    print(f"torchvision {torchvision.__version__}")
    with tempfile.TemporaryDirectory() as d:
        cat = Path(d, "cat")
        cat.mkdir()
        images = []
        for i, (h, w) in enumerate([(40, 60), (61, 40), (200, 333), (48, 48), (24, 31), (64, 47), (7, 300)]):
            a = picture(rng, h, w)
            Image.fromarray(a).save(cat / f"{i}.png")
            images.append(Image.fromarray(a))
        for flags, steps in (
            (["--resize", "32x32"], [Resize((32, 32))]),
            (["--resize", "20x50"], [Resize((20, 50))]),
            (["--resize", "32", "--crop", "32"], [Resize(32), CenterCrop(32)]),
            (["--resize", "64", "--crop", "57"], [Resize(64), CenterCrop(57)]),
            (["--resize", "64", "--crop", "33x50"], [Resize(64), CenterCrop((33, 50))]),
            (["--crop", "7"], [CenterCrop(7)]),
        ):
            theirs = []
            for x in images:
                for s in steps:
                    x = s(x)
                theirs.append(np.asarray(x))
            tally.compare(" ".join(flags), export(binary, d, *flags)["train_images"], np.stack(theirs))


def compare_archive(binary, path, tally):
    """Every image of an image folder in a tar."""
    z = export(binary, path)
    with tarfile.open(path) as t:
        files = {}
        for m in t:
            if m.isfile() and m.name.lower().endswith((".jpg", ".jpeg", ".png")):
                files[m.name.removeprefix("./")] = t.extractfile(m).read()
    for split in ("train", "test"):
        if f"{split}_images" not in z:
            continue
        names = sorted(n for n in files if n.split("/")[-3] == split)
        theirs = np.stack([np.asarray(Image.open(io.BytesIO(files[n])).convert("RGB")) for n in names])
        tally.compare(f"{Path(path).name.split('.')[0]} {split} (JPEG)", z[f"{split}_images"], theirs)


def write(folder):
    """Small files of each kind for `go test`, beside what Pillow sees in them as PNG."""
    rng = np.random.default_rng(13)
    folder = Path(folder)
    for sub in ("read", "want", "refused"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for h, w in ((9, 17), (16, 16)):
        for name, (ending, b) in kinds(rng, h, w).items():
            if (h, w) == (16, 16) and not name.startswith(("jpeg-4", "webp")):
                continue
            path = folder / "read" / f"{name}-{h}x{w}{ending}"
            path.write_bytes(b)
            Image.open(path).convert("L" if name.startswith("grey") else "RGB").save(
                folder / "want" / f"{name}-{h}x{w}.png", optimize=True
            )
    (folder / "resized").mkdir(exist_ok=True)
    source = Image.fromarray(picture(rng, 23, 31))
    source.save(folder / "resized" / "source.png")
    for h, w in ((7, 9), (23, 10), (40, 31), (46, 62), (1, 1), (100, 3)):
        source.resize((w, h), Image.Resampling.BILINEAR).save(folder / "resized" / f"{h}x{w}.png")
    texts = {}
    for name, (ending, b, text) in refused(rng, 9, 17).items():
        if name.endswith("-cut") and not name.startswith("jpeg"):
            continue
        (folder / "refused" / f"{name}{ending}").write_bytes(b)
        texts[f"{name}{ending}"] = text
    (folder / "refused" / "sentences.json").write_text(json.dumps(texts, indent=1, sort_keys=True) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--gocp", default="bin/gocp")
    p.add_argument("--write")
    p.add_argument("--data", nargs="*", default=[])
    a = p.parse_args()
    if a.write:
        return write(a.write)
    print(f"Pillow {PIL.__version__}, libjpeg-turbo {features.version_feature('libjpeg_turbo')}, libwebp {features.version('webp')}")
    rng, tally = np.random.default_rng(7), Tally()
    compare_kinds(a.gocp, rng, tally)
    compare_refused(a.gocp, rng, tally)
    for path in a.data:
        compare_archive(a.gocp, path, tally)
    compare_sizes(a.gocp, rng, tally)
    sys.exit(f"{tally.failed} comparisons failed" if tally.failed else None)


main()
