package nn

import (
	"strings"

	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// described reports, as a usage error, a file whose metadata do not say what network it holds: what
// PyTorch's users write unless they are told.
func described(f *safetensors.File) error {
	if f.Meta["arch"] != "" || f.Meta["classes"] != "" || f.Meta["input"] != "" {
		return nil
	}
	return usage.Errorf(`its metadata do not say what network these %d tensors are of; write it by save_file(tensors, path, metadata={"arch": "convnet", "width": "16", "classes": "10", "input": "3x32x32", "batchnorm": "false", "stem": "stride", "mean": "0.5,0.5,0.5", "std": "0.2,0.2,0.2"}) with its own values`, len(f.Tensors))
}

// prefixed reports, as a usage error, a file in which every tensor has the name that is wanted behind
// one and the same prefix, as torch.nn.DataParallel (module.), torch.compile (_orig_mod.) and modules
// inside modules leave them.
func prefixed(f *safetensors.File, wanted string) error {
	for _, t := range f.Tensors {
		prefix, ok := strings.CutSuffix(t.Name, wanted)
		if !ok || !strings.HasSuffix(prefix, ".") {
			continue
		}
		for _, u := range f.Tensors {
			if !strings.HasPrefix(u.Name, prefix) {
				return nil
			}
		}
		return usage.Errorf(`its tensors are called %s%s instead of %[2]s, and so on; take the prefix away when it is written: {name.removeprefix(%[3]q): t for name, t in model.state_dict().items()}`, prefix, wanted, prefix)
	}
	return nil
}
