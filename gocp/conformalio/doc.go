// Package conformalio connects package conformal with files: logits, probabilities, features and
// labels from .npy, .npz, .safetensors, .csv and .parquet, thresholds as small JSON files, sets as
// bitmaps, JSON lines or CSV. It is what `gocp conformal` runs.
//
// Matrices from .npy, .csv and .parquet files are read in blocks as they are needed; the other
// formats are held in memory. A file with several arrays or columns is written name:part, such as
// run.npz:logits or table.parquet:label.
package conformalio
