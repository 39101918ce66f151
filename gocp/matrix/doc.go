// Package matrix reads rows of numbers, such as logits, labels or features, from the files that people
// have: .npy, .npz, .safetensors, Parquet (a file or a folder of parts), and text with separators
// (.csv, .tsv, .txt), each also compressed as .gz or .zst. They are read in blocks, so they need not fit
// in memory.
//
// One array, or some columns, of a file are FILE:NAME, FILE:A,B,C or FILE:logit_*. What is not chosen is
// taken only where nothing else can be meant: a column of whole numbers beside columns of fractions could
// be a label, an id or a count, and is refused until somebody says which columns are wanted.
package matrix
