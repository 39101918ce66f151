package checkpoint

import (
	"strconv"

	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/safetensors"
	"github.com/gocp/gocp/gocp/usage"
)

// File returns m as the content of a file by a library's names. Its metadata is that of gocp's files.
func File(m *nn.Model, to string) (*safetensors.File, error) {
	l, err := lookup(to)
	if err != nil {
		return nil, err
	}
	if err := l.has(m.Spec); err != nil {
		return nil, usage.Errorf("%w; it can't be written for it", err)
	}
	f := m.File()
	at := map[string]*safetensors.Tensor{}
	for i := range f.Tensors {
		at[f.Tensors[i].Name] = &f.Tensors[i]
	}
	for _, p := range append(m.Params(), m.Buffers()...) {
		t := at[p.Name]
		t.Name, t.Shape = l.tensor(m.Spec, p)
	}
	f.Meta["format"] = "pt" // transformers wants to know
	return f, nil
}

// Hint says how the other library must build the network for the file to be the same one; it is empty
// where nothing is to be said.
func Hint(s nn.Spec, to string) string {
	if to == transformers.name && mobilenet(s) {
		return "in transformers: MobileNetV2Config(tf_padding=False, layer_norm_eps=1e-5, " +
			"depth_multiplier=" + strconv.FormatFloat(float64(s.Width)/32, 'g', -1, 64) + ", num_labels=" + strconv.Itoa(s.Classes) + ")"
	}
	return ""
}
