// Package conformalio connects package conformal with files: logits, probabilities, features and
// labels from .npy, .npz, .safetensors, .csv and .parquet, thresholds as small JSON files, sets as
// bitmaps, JSON lines or CSV. It is what `gocp conformal` runs.
//
// Matrices are read in blocks as they are needed, from every format; a compressed array of an .npz
// file is unpacked into a temporary file first. A file with several arrays or columns is written name:part, such as
// run.npz:logits or table.parquet:label.
package conformalio
