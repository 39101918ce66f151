// Package safetensors reads and writes the safetensors format
// (https://huggingface.co/docs/safetensors): eight bytes of little-endian header
// length, a JSON header {"name": {"dtype", "shape", "data_offsets"}, …,
// "__metadata__": {string: string}}, then the tensors' bytes without holes.
//
// The reader is strict: whatever the format forbids is an error that names the
// tensor, and nothing larger than the file is ever allocated. The writer is
// deterministic: the same tensors and metadata give the same bytes, laid out as
// the Python library lays them out (wider types first, then by name).
package safetensors
