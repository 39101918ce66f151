"""ResNet, VGG and MobileNetV2 in PyTorch, as gocp has them: torchvision's details and names of tensors,
any width, both stems. Pixels are in [0,1]; normalisation is the first layer, and no tensor of the file.

forward(x, probe) calls probe(kind, z) with every array that has a kink (bench/vectors_torch.py).
"""

import torch
from torch import nn
from torch.nn import functional as F


def silent(kind, z):
    pass


class Network(nn.Module):
    """What all have: normalisation, and the metadata of a gocp model file."""

    def __init__(self, arch, width, classes, shape, stem, batchnorm=True, head=None, dropout=None, mean=None, std=None):
        super().__init__()
        c = shape[0]
        self.mean, self.std = tuple(mean or (0.5,) * c), tuple(std or (0.25,) * c)
        self.spec = dict(arch=arch, width=width, classes=classes, shape=tuple(shape), stem=stem, batchnorm=batchnorm, head=head, dropout=dropout)
        self._m, self._s = torch.tensor(self.mean).view(1, c, 1, 1), torch.tensor(self.std).view(1, c, 1, 1)

    def _apply(self, fn, recurse=True):
        self._m, self._s = fn(self._m), fn(self._s)
        return super()._apply(fn, recurse)

    def forward(self, x, probe=silent):
        return self.logits((x - self._m) / self._s, probe)

    def metadata(self):
        s, text = self.spec, lambda v: ",".join(repr(float(a)) for a in v)
        out = {
            "arch": s["arch"],
            "width": str(s["width"]),
            "classes": str(s["classes"]),
            "input": "x".join(map(str, s["shape"])),
            "batchnorm": "true" if s["batchnorm"] else "false",
            "stem": s["stem"],
            "mean": text(self.mean),
            "std": text(self.std),
        }
        return out | {k: str(s[k]) for k in ("head", "dropout") if s[k] is not None}

    def tensors(self):
        """What a gocp model file holds: everything but the step counters of batch norm."""
        return {k: v.detach().contiguous() for k, v in self.state_dict().items() if "num_batches" not in k}


def relu(x, probe):
    probe("relu", x)
    return F.relu(x)


def conv(i, o, k, stride=1, groups=1, bias=False):
    m = nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=bias)
    nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    if bias:
        nn.init.zeros_(m.bias)
    return m


class BasicBlock(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(i, o, 3, stride), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = conv(o, o, 3), nn.BatchNorm2d(o)
        self.downsample = nn.Sequential(conv(i, o, 1, stride), nn.BatchNorm2d(o)) if stride != 1 or i != o else None

    def forward(self, x, probe):
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)), probe)))
        return relu(y + (self.downsample(x) if self.downsample else x), probe)


class ResNet(Network):
    def __init__(self, arch, width, classes, shape, stem="imagenet", **more):
        super().__init__(arch, width, classes, shape, stem, **more)
        self.conv1 = conv(shape[0], width, 7, 2) if stem == "imagenet" else conv(shape[0], width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        counts, i = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}[arch], width
        for stage, n in enumerate(counts):
            o, blocks = width << stage, []
            for b in range(n):
                blocks.append(BasicBlock(i, o, 2 if stage > 0 and b == 0 else 1))
                i = o
            setattr(self, f"layer{stage + 1}", nn.ModuleList(blocks))
        self.fc = nn.Linear(i, classes)

    def logits(self, x, probe):
        x = relu(self.bn1(self.conv1(x)), probe)
        if self.spec["stem"] == "imagenet":
            probe("pool3", x)
            x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            for block in getattr(self, f"layer{stage}"):
                x = block(x, probe)
        return self.fc(x.mean((2, 3)))


class VGG(Network):
    counts = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}

    def __init__(self, arch, width, classes, shape, stem="imagenet", batchnorm=False, head="linear", dropout=None, **more):
        if head == "mlp" and dropout is None:
            dropout = 0.5
        super().__init__(arch, width, classes, shape, stem, batchnorm, head, dropout, **more)
        layers, i = [], shape[0]
        for stage, n in enumerate(self.counts[arch]):
            o = width << min(stage, 3)
            for _ in range(n):
                layers += [conv(i, o, 3, bias=True)] + [nn.BatchNorm2d(o)] * batchnorm + [nn.ReLU()]
                i = o
            layers.append(nn.MaxPool2d(2))
        self.features = nn.ModuleList(layers)
        if head == "linear":
            self.classifier = nn.Linear(i, classes)
        else:
            d, hidden = lambda: nn.Dropout(dropout), 64 * width
            self.classifier = nn.ModuleList([nn.Linear(49 * i, hidden), nn.ReLU(), d(), nn.Linear(hidden, hidden), nn.ReLU(), d(), nn.Linear(hidden, classes)])

    def logits(self, x, probe):
        for m in self.features:
            if isinstance(m, nn.ReLU):
                x = relu(x, probe)
                continue
            if isinstance(m, nn.MaxPool2d):
                probe("pool", x)
            x = m(x)
        if self.spec["head"] == "linear":
            return self.classifier(x.mean((2, 3)))
        x = F.adaptive_avg_pool2d(x, 7).flatten(1)
        for m in self.classifier:
            x = relu(x, probe) if isinstance(m, nn.ReLU) else m(x)
        return x


def divisible(v):
    d = max(8, int(v + 4) // 8 * 8)
    return d + 8 if d < 0.9 * v else d


class Unit(nn.Sequential):
    def __init__(self, i, o, k, stride=1, groups=1):
        super().__init__(conv(i, o, k, stride, groups), nn.BatchNorm2d(o))

    def forward(self, x, probe):
        x = self[1](self[0](x))
        probe("relu6", x)
        return F.relu6(x)


class InvertedResidual(nn.Module):
    def __init__(self, i, o, stride, expand):
        super().__init__()
        hidden = i * expand
        units = [Unit(i, hidden, 1)] if expand != 1 else []
        self.conv = nn.ModuleList(units + [Unit(hidden, hidden, 3, stride, hidden), conv(hidden, o, 1), nn.BatchNorm2d(o)])
        self.add = stride == 1 and i == o

    def forward(self, x, probe):
        y = x
        for m in self.conv:
            y = m(y, probe) if isinstance(m, Unit) else m(y)
        return x + y if self.add else y


class MobileNetV2(Network):
    def __init__(self, arch, width, classes, shape, stem="imagenet", dropout=0.2, **more):
        super().__init__(arch, width, classes, shape, stem, dropout=dropout, **more)
        factor, cifar = width / 32, stem == "cifar"
        layers, i = [Unit(shape[0], width, 3, 1 if cifar else 2)], width
        for t, c, n, s in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            o = divisible(c * factor)
            for b in range(n):
                layers.append(InvertedResidual(i, o, 1 if b or cifar and len(layers) == 2 else s, t))
                i = o
        last = divisible(1280 * max(1, factor))
        self.features = nn.ModuleList(layers + [Unit(i, last, 1)])
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, classes))

    def logits(self, x, probe):
        for m in self.features:
            x = m(x, probe)
        return self.classifier(x.mean((2, 3)))


def build(arch, **spec):
    kind = ResNet if arch.startswith("resnet") else VGG if arch.startswith("vgg") else MobileNetV2
    return kind(arch, **spec)
