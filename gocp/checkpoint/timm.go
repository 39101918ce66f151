package checkpoint

import (
	"fmt"

	"github.com/gocp/gocp/gocp/nn"
)

// timm (1.0): its ResNet has torchvision's names; its VGG writes the first two layers of the head as
// convolutions; its MobileNetV2 is mobilenetv2_100 and its kin.
var timm = library{
	name: "timm",
	has: func(s nn.Spec) error {
		if s.Stem == nn.StemImageNet && (resnet(s) || mobilenet(s)) || vgg(s) && s.Head == nn.HeadMLP {
			return nil
		}
		return lacks("timm", s)
	},
	module: func(s nn.Spec, module string) string {
		switch {
		case vgg(s):
			if name, ok := map[string]string{"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}[module]; ok {
				return name
			}
			return module
		case mobilenet(s):
			return timmMobile(mobile(module))
		}
		return module
	},
	shape: func(s nn.Spec, tensor string, torch []int) []int {
		if vgg(s) && tensor == "classifier.0.weight" {
			return []int{torch[0], torch[1] / 49, 7, 7}
		}
		if vgg(s) && tensor == "classifier.3.weight" {
			return []int{torch[0], torch[1], 1, 1}
		}
		return torch
	},
}

func timmMobile(m mobileModule) string {
	pick := func(conv, norm string) string {
		if m.norm {
			return norm
		}
		return conv
	}
	switch m.block {
	case -1:
		return "classifier"
	case 0:
		return pick("conv_stem", "bn1")
	case 18:
		return pick("conv_head", "bn2")
	}
	stage, i := 0, m.block-1
	for _, blocks := range []int{1, 2, 3, 4, 3, 3, 1} {
		if i < blocks {
			break
		}
		stage, i = stage+1, i-blocks
	}
	convs := map[string]string{"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
	norms := map[string]string{"expand": "bn1", "depthwise": "bn2", "project": "bn3"}
	if m.block == 1 { // depthwise and pointwise
		convs, norms = map[string]string{"depthwise": "conv_dw", "project": "conv_pw"}, map[string]string{"depthwise": "bn1", "project": "bn2"}
	}
	return fmt.Sprintf("blocks.%d.%d.%s", stage, i, pick(convs[m.role], norms[m.role]))
}
