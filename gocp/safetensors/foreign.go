package safetensors

import (
	"strings"

	"github.com/gocp/gocp/gocp/foreign"
	"github.com/gocp/gocp/gocp/usage"
)

// other reports, as a usage error, content that is plainly of another format, and what to do.
func other(b []byte) error {
	const rewrite = `; write it anew in Python: safetensors.torch.save_file(torch.load(path, map_location="cpu", weights_only=True), "model.safetensors", metadata=…), where the checkpoint is a dictionary of tensors by name or holds one ("state_dict")`
	what := foreign.What(b)
	switch {
	case what == "":
		return nil
	case strings.HasPrefix(what, "a PyTorch checkpoint"):
		what += rewrite
	case strings.HasPrefix(what, "a pickle"):
		what += ", as older PyTorch versions wrote" + rewrite
	case strings.Contains(what, "NumPy"):
		what += "; write its arrays by safetensors.numpy.save_file"
	case strings.Contains(what, "HDF5"):
		what += ", as Keras writes; write its tensors by safetensors.numpy.save_file"
	}
	return usage.Errorf("it is %s", what)
}
