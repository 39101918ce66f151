// Package jpeg decodes JPEG files to the pixels that Pillow, torchvision and all else that is built
// on libjpeg-turbo see: the slow integer inverse transform, interpolated ("fancy") chroma, integer
// colour conversion. Go's own image/jpeg rounds the transform otherwise (2 % of luma values differ
// by a level) and leaves chroma to its caller, who takes the nearest sample: differences of 50
// levels and more, larger than the changes that poisons make.
//
// Read are baseline, extended and progressive files of 8 bits in Huffman coding with 1, 3 or 4
// components (grey; YCbCr or RGB; CMYK or YCCK, turned into RGB as Pillow does) and any sampling
// that libjpeg reads. A file that ends before its last coefficient is an error, and so is one whose
// code does not add up: where libjpeg goes on with a warning and paints grey, nothing is returned.
//
// The format is ITU-T T.81; JFIF and Adobe's marker as libjpeg-turbo 3.1 takes them (jdapimin.c).
package jpeg
