package safetensors

import (
	"bytes"

	"github.com/gocp/gocp/gocp/usage"
)

// foreign reports, as a usage error, content that is plainly of another format, and what to do.
func foreign(b []byte) error {
	const rewrite = `; write it anew in Python: safetensors.torch.save_file(torch.load(path, map_location="cpu", weights_only=True), "model.safetensors", metadata=…), where the checkpoint is a dictionary of tensors by name or holds one ("state_dict")`
	switch {
	case bytes.HasPrefix(b, []byte("PK\x03\x04")) && bytes.Contains(b, []byte("data.pkl")):
		return usage.Errorf("it is a PyTorch checkpoint, a pickle in a zip file, which is a program and not data" + rewrite)
	case bytes.HasPrefix(b, []byte("PK\x03\x04")) && bytes.Contains(b, []byte(".npy")):
		return usage.Errorf("it is a NumPy .npz file; write its arrays by safetensors.numpy.save_file")
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		return usage.Errorf("it is a zip file")
	case len(b) > 2 && b[0] == 0x80 && b[1] >= 2 && b[1] <= 5 && bytes.ContainsAny(b[2:3], "cdl}]qXK\x8a\x95\x8c("):
		return usage.Errorf("it is a pickle, as older PyTorch versions wrote their checkpoints, which is a program and not data" + rewrite)
	case bytes.HasPrefix(b, []byte("\x93NUMPY")):
		return usage.Errorf("it is a NumPy .npy array; write it by safetensors.numpy.save_file")
	case bytes.HasPrefix(b, []byte("\x89HDF\r\n\x1a\n")):
		return usage.Errorf("it is an HDF5 file, as Keras writes; write its tensors by safetensors.numpy.save_file")
	case bytes.HasPrefix(b, []byte("GGUF")):
		return usage.Errorf("it is a GGUF file")
	}
	return nil
}
