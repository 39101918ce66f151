// Package data reads sets of labelled images and draws the disjoint parts that
// an audit needs from them.
//
// [Open] takes a known name (see [List]) or a path and finds out what is there:
//
//   - IDX files as of MNIST and Fashion-MNIST, gzipped or not;
//   - CIFAR-10 and CIFAR-100, binary version, as a folder or as the tar.gz;
//   - a folder or a tar, gzipped or not, of images (JPEG, PNG, PPM, PGM, BMP, TIFF,
//     WebP) laid out [SPLIT/]CLASS/NAME, where the folder is the class;
//   - .npz, .safetensors or a folder of .npy: SPLIT_images and SPLIT_labels, or
//     x_SPLIT and y_SPLIT, or images and labels, or x and y.
//
// Images are 8-bit, NHWC, all of one size, which a [Reading] can give them; their
// pixels are those that Pillow and torchvision see. Labels count from 0. Every [Dataset]
// carries the SHA-256 of its content, which every result of gocp records.
// The content is the same whatever the format: the hash covers pixels, labels
// and class names, not the files.
//
// Readers take files from strangers. What is wrong with one is a single
// sentence that names the file, and memory stays within a constant times the
// size of what was given (gzip and deflate, for which the constant is 1032,
// included).
package data
