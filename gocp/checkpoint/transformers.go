package checkpoint

import (
	"fmt"
	"regexp"

	"github.com/gocp/gocp/gocp/nn"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// transformers (4.57 and 5): ResNetForImageClassification with basic layers, and
// MobileNetV2ForImageClassification. The latter is torchvision's network only with tf_padding=False in
// its configuration, which is not the default; its batch norm's epsilon is another one too.
var transformers = library{
	name: "transformers",
	has: func(s nn.Spec) error {
		if s.Stem == nn.StemImageNet && (resnet(s) || mobilenet(s)) {
			return nil
		}
		return lacks("transformers", s)
	},
	module: func(s nn.Spec, module string) string {
		if mobilenet(s) {
			return huggingMobile(mobile(module))
		}
		return huggingResnet(module)
	},
	settings: huggingSettings,
}

var residual = regexp.MustCompile(`^layer(\d+)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.(\d))$`)

func huggingResnet(module string) string {
	switch module {
	case "conv1":
		return "resnet.embedder.embedder.convolution"
	case "bn1":
		return "resnet.embedder.embedder.normalization"
	case "fc":
		return "classifier.1"
	}
	m := residual.FindStringSubmatch(module)
	if m == nil {
		return module
	}
	kinds := map[string]string{"conv": "convolution", "bn": "normalization", "0": "convolution", "1": "normalization"}
	less := func(digit string) byte { return digit[0] - 1 }
	block := fmt.Sprintf("resnet.encoder.stages.%c.layers.%s.", less(m[1]), m[2])
	if m[5] != "" {
		return block + "shortcut." + kinds[m[5]]
	}
	return fmt.Sprintf("%slayer.%c.%s", block, less(m[4]), kinds[m[3]])
}

func huggingMobile(m mobileModule) string {
	kind := ".convolution"
	if m.norm {
		kind = ".normalization"
	}
	part := map[string]string{"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}[m.role]
	switch m.block {
	case -1:
		return "classifier"
	case 0:
		return "mobilenet_v2.conv_stem.first_conv" + kind
	case 1:
		return "mobilenet_v2.conv_stem." + part + kind
	case 18:
		return "mobilenet_v2.conv_1x1" + kind
	}
	return fmt.Sprintf("mobilenet_v2.layer.%d.%s%s", m.block-2, part, kind)
}

// huggingSettings reads config.json.
func huggingSettings(s nn.Spec, config []byte) (settings, error) {
	var out settings
	if config == nil {
		if mobilenet(s) {
			return out, usage.Errorf("transformers' MobileNetV2 pads and normalises as its config.json says: put that file beside this one")
		}
		return out, nil
	}
	c := struct {
		Activation string   `json:"hidden_act"`
		TFPadding  *bool    `json:"tf_padding"`
		Epsilon    *float64 `json:"layer_norm_eps"`
		InFirst    bool     `json:"downsample_in_first_stage"`
	}{}
	if err := strictjson.Unmarshal(config, &c); err != nil {
		return out, usage.Errorf("config.json beside the file is not understood: %v", err)
	}
	want := "relu"
	if mobilenet(s) {
		want = "relu6"
		if c.TFPadding == nil || *c.TFPadding {
			return out, usage.Errorf("config.json has tf_padding, TensorFlow's uneven padding; only models with tf_padding=false can be read")
		}
		out.epsilon = 0.001
		if c.Epsilon != nil {
			out.epsilon = *c.Epsilon
		}
		if !(out.epsilon > 0 && out.epsilon < 1) {
			return out, usage.Errorf("config.json has layer_norm_eps %g; it must be between 0 and 1", out.epsilon)
		}
	}
	if c.Activation != "" && c.Activation != want {
		return out, usage.Errorf("config.json has hidden_act %q; %s here has %s", c.Activation, s.Arch, want)
	}
	if c.InFirst {
		return out, usage.Errorf("config.json has downsample_in_first_stage; %s here has none there", s.Arch)
	}
	return out, nil
}
