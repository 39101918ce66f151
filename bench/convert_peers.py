"""gocp's conversions against the libraries themselves: randomly initialised models of torchvision, timm,
transformers and pytorch-cifar go through `gocp model convert`, both ways, and logits are compared.

    bench/convert_peers.sh [--gocp bin/gocp]

There: the library's state_dict, saved as safetensors, is converted to gocp's names; `gocp compute logits`
must give the library's logits to 1e-5 of their norm. Back: gocp's file is converted to the library's names,
loaded strictly into a fresh model, and must give the same logits there. pytorch-cifar is no package: its
architectures are written down here, with its names.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

MEAN, STD = (0.47, 0.48, 0.45), (0.25, 0.26, 0.24)


class CifarBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.shortcut = nn.Sequential()
        if stride != 1 or i != o:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    def __init__(self, counts, classes=10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        i = 64
        for stage, n in enumerate(counts):
            o, blocks = 64 << stage, []
            for b in range(n):
                blocks.append(CifarBlock(i, o, 2 if stage and not b else 1))
                i = o
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.linear = nn.Linear(512, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.linear(F.avg_pool2d(x, 4).flatten(1))


class CifarVGG(nn.Module):
    def __init__(self, counts, classes=10):
        super().__init__()
        layers, i = [], 3
        for stage, n in enumerate(counts):
            o = 64 << min(stage, 3)
            for _ in range(n):
                layers += [nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
                i = o
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers, nn.AvgPool2d(1, 1))
        self.classifier = nn.Linear(512, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def hf_resnet(depths):
    config = transformers.ResNetConfig(layer_type="basic", depths=depths, hidden_sizes=[64, 128, 256, 512], embedding_size=64, num_labels=10)
    return transformers.ResNetForImageClassification(config)


def hf_mobilenet(**settings):
    return transformers.MobileNetV2ForImageClassification(transformers.MobileNetV2Config(tf_padding=False, num_labels=10, **settings))


CASES = {  # name: (library, side of the images, what the file does not say, a model)
    "torchvision resnet18": ("torchvision", 64, [], lambda: torchvision.models.resnet18(num_classes=10)),
    "torchvision resnet34": ("torchvision", 64, [], lambda: torchvision.models.resnet34(num_classes=10)),
    "torchvision vgg11": ("torchvision", 32, [], lambda: torchvision.models.vgg11(num_classes=10)),
    "torchvision vgg16_bn": ("torchvision", 32, [], lambda: torchvision.models.vgg16_bn(num_classes=10)),
    "torchvision mobilenet_v2": ("torchvision", 64, ["--stem", "imagenet"], lambda: torchvision.models.mobilenet_v2(num_classes=10)),
    "timm resnet18": ("timm", 64, [], lambda: timm.create_model("resnet18", num_classes=10)),
    "timm vgg13_bn": ("timm", 224, [], lambda: timm.create_model("vgg13_bn", num_classes=10)),
    "timm mobilenetv2_100": ("timm", 64, ["--stem", "imagenet"], lambda: timm.create_model("mobilenetv2_100", num_classes=10)),
    "timm mobilenetv2_050": ("timm", 64, ["--stem", "imagenet"], lambda: timm.create_model("mobilenetv2_050", num_classes=10)),
    "transformers resnet18": ("transformers", 64, [], lambda: hf_resnet([2, 2, 2, 2])),
    "transformers resnet34": ("transformers", 64, [], lambda: hf_resnet([3, 4, 6, 3])),
    "transformers mobilenet_v2": ("transformers", 64, ["--stem", "imagenet"], lambda: hf_mobilenet(layer_norm_eps=1e-5)),
    "transformers mobilenet_v2, its own epsilon": ("transformers", 64, ["--stem", "imagenet"], hf_mobilenet),
    "pytorch-cifar ResNet18": ("pytorch-cifar", 32, [], lambda: CifarResNet((2, 2, 2, 2))),
    "pytorch-cifar VGG16": ("pytorch-cifar", 32, [], lambda: CifarVGG((2, 2, 3, 3, 3))),
}


def perturb(model):
    """Statistics and affine maps of batch norm that are not the identity."""
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                for t, low in ((m.weight, 0.5), (m.bias, -0.2), (m.running_mean, -0.2), (m.running_var, 0.5)):
                    t.copy_(low + torch.rand(t.shape, generator=gen) * (1 if low > 0 else 0.4))


def logits(model, x):
    m, s = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        out = model.eval()((x - m) / s)
    return getattr(out, "logits", out)


def relative(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def run(gocp, *args):
    done = subprocess.run([gocp, *map(str, args)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"gocp {' '.join(map(str, args))}: {done.stderr or done.stdout}")
    return done.stdout


def compare(gocp, name, folder):
    library, side, more, build = CASES[name]
    torch.manual_seed(0)
    model = build()
    perturb(model)
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    want = logits(model, x)
    theirs, ours, back = (folder / f"{k}.safetensors" for k in ("theirs", "ours", "back"))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, theirs)
    if library == "transformers":
        model.config.save_pretrained(folder)
    text = lambda v: ",".join(map(str, v))
    said = ["--input", f"3x{side}x{side}", "--mean", text(MEAN), "--std", text(STD), *more]
    info = json.loads(run(gocp, "model", "info", "--json", *said, theirs))
    run(gocp, "model", "convert", "--out", ours, *said, theirs)
    save_file({"x": x}, folder / "in.safetensors")
    run(gocp, "compute", "--model", ours, "--in", folder / "in.safetensors", "--out", folder / "out.safetensors", "logits")
    there = relative(load_file(folder / "out.safetensors")["logits"], want)
    run(gocp, "model", "convert", "--out", back, "--to", library, ours)
    fresh = build()
    if "epsilon" in name:  # the file's batch norm has gocp's by now
        for m in fresh.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eps = 1e-5
    missing, extra = fresh.load_state_dict(load_file(back), strict=False)
    if extra or any(not k.endswith("num_batches_tracked") for k in missing):
        sys.exit(f"{name}: {missing} are missing, {extra} too many")
    again = relative(logits(fresh, x), want)
    print(f"{name:44} read as {info['library']:13} logits differ by {there:.1e} there, {again:.1e} back", flush=True)
    return max(there, again)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--gocp", default=str(pathlib.Path(__file__).resolve().parent.parent / "bin/gocp"))
    ap.add_argument("cases", nargs="*", help="only those whose name begins so")
    args = ap.parse_args()
    worst = 0.0
    for name in CASES:
        if not args.cases or any(name.startswith(c) for c in args.cases):
            with tempfile.TemporaryDirectory() as folder:
                worst = max(worst, compare(args.gocp, name, pathlib.Path(folder)))
    if not worst <= 1e-5:
        sys.exit(f"worst: {worst:.1e}; 1e-5 is allowed")


if __name__ == "__main__":
    main()
