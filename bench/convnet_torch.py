"""The ConvNet of gocp in PyTorch: names, layouts and metadata of a gocp model file.

Three convolutions (w, 2w, 4w channels), each followed by batch norm (optional), ReLU and
2x2 max pooling, then fc1 (4w) with ReLU, then fc2. The "stride" stem makes the first
convolution 5x5 with stride 2 and takes away the pooling after it. Pixels are in [0,1];
normalisation is the first layer.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


class ConvNet(nn.Module):
    def __init__(self, width, classes, shape, batchnorm=False, stem="pool", mean=None, std=None):
        super().__init__()
        c, h, w = shape
        self.spec = (width, classes, tuple(shape), batchnorm, stem)
        self.mean = tuple(mean or (0.5,) * c)
        self.std = tuple(std or (0.25,) * c)
        # Not buffers: they are metadata of the model file, not tensors in it.
        self._m = torch.tensor(self.mean).view(1, c, 1, 1)
        self._s = torch.tensor(self.std).view(1, c, 1, 1)
        self.stem = stem
        first = dict(kernel_size=5, stride=2, padding=2) if stem == "stride" else dict(kernel_size=3, padding=1)
        self.conv1 = nn.Conv2d(c, width, bias=not batchnorm, **first)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=not batchnorm)
        self.conv3 = nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=not batchnorm)
        if batchnorm:
            self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(k * width) for k in (1, 2, 4))
        h, w = (math.ceil(h / 2), math.ceil(w / 2)) if stem == "stride" else (h // 2, w // 2)
        self.fc1 = nn.Linear(4 * width * (h // 4) * (w // 4), 4 * width)
        self.fc2 = nn.Linear(4 * width, classes)
        self.batchnorm = batchnorm

    def _apply(self, fn, recurse=True):
        self._m, self._s = fn(self._m), fn(self._s)
        return super()._apply(fn, recurse)

    def forward(self, x, probe=None):
        """Logits. probe, when given, is called with every array that has a kink: margins."""
        x = (x - self._m) / self._s
        for i in (1, 2, 3):
            x = getattr(self, f"conv{i}")(x)
            if self.batchnorm:
                x = getattr(self, f"bn{i}")(x)
            if probe:
                probe("relu", x)
            x = F.relu(x)
            if i > 1 or self.stem == "pool":
                if probe:
                    probe("pool", x)
                x = F.max_pool2d(x, 2)
        x = self.fc1(x.flatten(1))
        if probe:
            probe("relu", x)
        return self.fc2(F.relu(x))

    def metadata(self):
        width, classes, shape, batchnorm, stem = self.spec
        text = lambda v: ",".join(repr(float(a)) for a in v)
        return {
            "arch": "convnet",
            "width": str(width),
            "classes": str(classes),
            "input": "x".join(map(str, shape)),
            "batchnorm": "true" if batchnorm else "false",
            "stem": stem,
            "mean": text(self.mean),
            "std": text(self.std),
        }

    def tensors(self):
        """What a gocp model file holds: everything but the step counters of batch norm."""
        return {k: v.detach().contiguous() for k, v in self.state_dict().items() if "num_batches" not in k}
