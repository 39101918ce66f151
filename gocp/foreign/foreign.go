// Package foreign knows formats by the first bytes of a file, so that whoever cannot read one says what
// it is and what to do, and not only what it is not.
package foreign

import "bytes"

// Head is how many bytes What looks at.
const Head = 1024

// beginnings are those of files; ? stands for any byte.
var beginnings = []struct{ begins, what string }{
	{"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file itself: run git lfs pull"},
	{"\x93NUMPY", "a NumPy .npy array"},
	{"PAR1", "a Parquet file"},
	{"PARE", "an encrypted Parquet file"},
	{"ARROW1", "an Arrow IPC (Feather) file"},
	{"FEA1", "a Feather file of version 1"},
	{"\x89HDF\r\n\x1a\n", "an HDF5 file"},
	{"CDF\x01", "a NetCDF file"},
	{"CDF\x02", "a NetCDF file"},
	{"GGUF", "a GGUF file"},
	{"Obj\x01", "an Avro file"},
	{"SQLite format 3\x00", "an SQLite database"},
	{"MATLAB 5.0", "a MATLAB file"},
	{"RDX3\n", "a file of R's"},
	{"\x1f\x8b", "a gzip file"},
	{"\x28\xb5\x2f\xfd", "a Zstandard file"},
	{"BZh?1AY&SY", "a bzip2 file"},
	{"\xfd7zXZ\x00", "an xz file"},
	{"\x04\x22\x4d\x18", "an LZ4 file"},
	{"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"},
	{"Rar!", "a RAR archive"},
	{"%PDF", "a PDF file"},
	{"\xff\xd8\xff", "a JPEG image"},
	{"\x89PNG\r\n\x1a\n", "a PNG image"},
	{"GIF8", "a GIF image"},
	{"RIFF????WEBP", "a WebP image"},
	{"II*\x00", "a TIFF image"},
	{"MM\x00*", "a TIFF image"},
	{"II+\x00", "a BigTIFF image"},
	{"MM\x00+", "a BigTIFF image"},
	{"\xff\x0a", "a JPEG XL image"},
	{"\x00\x00\x00\x0cJXL ", "a JPEG XL image"},
	{"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"},
	{"\xff\x4f\xff\x51", "a JPEG 2000 image"},
	{"????ftyp", "a HEIF or AVIF image"},
	{"8BPS", "a Photoshop image"},
	{"v/1\x01", "an OpenEXR image"},
	{"\x00\x00\x01\x00", "an icon (.ico)"},
	{"P7\n", "a PAM image"},
	{"P1\n", "a PBM image"},
	{"P1 ", "a PBM image"},
	{"P4\n", "a PBM image"},
	{"P4 ", "a PBM image"},
}

// What names the format of a file that begins with b in a few words, "" if it is not plain.
func What(b []byte) string {
	b = b[:min(len(b), Head)]
	for _, f := range beginnings {
		if matches(b, f.begins) {
			return f.what
		}
	}
	has := func(s string) bool { return bytes.Contains(b, []byte(s)) }
	switch {
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		switch {
		case has("data.pkl"):
			return "a PyTorch checkpoint, a pickle in a zip file, which is a program and not data"
		case has(".npy"):
			return "a NumPy .npz archive"
		case has("[Content_Types].xml"):
			return "an Excel workbook, or another Office file"
		}
		return "a zip archive"
	case len(b) > 2 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 && bytes.IndexByte([]byte("cdl}]qXK\x8a\x95\x8c("), b[2]) >= 0:
		return "a pickle, which is a program and not data"
	}
	switch text := bytes.ToLower(bytes.TrimLeft(b, "\xef\xbb\xbf \t\r\n")); {
	case bytes.HasPrefix(text, []byte("<!doctype html")) || bytes.HasPrefix(text, []byte("<html")):
		return "a web page: look whether its download failed"
	case bytes.HasPrefix(text, []byte("<svg")) || bytes.HasPrefix(text, []byte("<?xml")):
		return "an XML file"
	}
	return ""
}

func matches(b []byte, begins string) bool {
	if len(b) < len(begins) {
		return false
	}
	for i, v := range []byte(begins) {
		if v != b[i] && v != '?' {
			return false
		}
	}
	return true
}

// Says is "; it is …" for the end of a sentence, or "".
func Says(b []byte) string {
	if what := What(b); what != "" {
		return "; it is " + what
	}
	return ""
}
