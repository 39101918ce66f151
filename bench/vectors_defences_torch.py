"""Golden vectors of defences of training from PyTorch in float64, for gocp/train.

    python bench/vectors_defences_torch.py            writes gocp/train/testdata/defences.safetensors
    python bench/vectors_defences_torch.py --check    recomputes it

Each case is three steps of SGD with a defence, written here from the papers' equations, on the models and with the draws
(batches, shifts, boxes, partners, noise) that `go test ./gocp/train -run TestAgainstTorch -update` wrote beside. The answers
are how far every parameter and running statistic has moved from the start after the first and after the third step.
"""

import argparse
import pathlib

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from convnet_torch import ConvNet
from vectors_torch import as_committed

LR, MOMENTUM, DECAY = 0.05, 0.9, 5e-4
CASES = {  # name: (batch norm, defence, its settings)
    "maxup": (False, "maxup", dict()),
    "maxup-bn": (True, "maxup", dict()),
    "maxup-mixup": (False, "maxup", dict()),
    "cutmix": (True, "augment", dict()),
    "mixup": (False, "augment", dict()),
    "sam": (False, "sam", dict(radius=0.2)),
    "sam-bn": (True, "sam", dict(radius=0.05)),
}


def shifted(x, draws):
    """x[i][:, y, u] = the source's [y + dy, (w-1-u if flipped else u) + dx], 0 outside."""
    out = torch.zeros_like(x)
    height, width = x.shape[2:]
    for i, (dx, dy, flip) in enumerate(draws.tolist()):
        for y in range(height):
            for u in range(width):
                row, column = y + dy, (width - 1 - u if flip else u) + dx
                if 0 <= row < height and 0 <= column < width:
                    out[i, :, y, u] = x[i, :, row, column]
    return out


class Step:
    """The data and the draws of one step."""

    def __init__(self, data, name, step):
        draw = lambda what: data.get(f"{name}.{what}", [None] * 3)[step]
        self.batch, self.aug, self.cut, self.partner, self.own, self.paste, self.noise = map(draw, ("batch", "aug", "cut", "partner", "own", "paste", "noise"))
        rows = self.batch.long()
        self.x = data["images"][rows].permute(0, 3, 1, 2).double() / 255
        self.y = data["labels"][rows].long()
        self.copies = len(self.aug)

    def copy(self, j):
        """(images, labels of the other images, share of the own label) of copy j."""
        x = shifted(self.x, self.aug[j])
        if self.noise is not None:
            x = x + self.noise[j].permute(0, 3, 1, 2).double()
        if self.cut is not None:
            x = x.clone()
            for i, (top, bottom, left, right) in enumerate(self.cut[j].tolist()):
                x[i, :, top:bottom, left:right] = 0
        if self.partner is None:
            return x, self.y, torch.ones(len(x), dtype=torch.float64)
        own, other = self.own[j].double(), x[self.partner[j].long()]
        if self.paste[j].any():  # cutmix
            mixed = x.clone()
            for i, (top, bottom, left, right) in enumerate(self.paste[j].tolist()):
                mixed[i, :, top:bottom, left:right] = other[i, :, top:bottom, left:right]
        else:
            mixed = own[:, None, None, None] * x + (1 - own)[:, None, None, None] * other
        return mixed, self.y[self.partner[j].long()], own


def loss(net, x, y, other, own):
    logits = net(x)
    return own * F.cross_entropy(logits, y, reduction="none") + (1 - own) * F.cross_entropy(logits, other, reduction="none")


class Frozen:
    """Running statistics of batch norm as they are."""

    def __init__(self, net):
        self.norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]

    def __enter__(self):
        for m in self.norms:
            m.momentum = 0.0

    def __exit__(self, *_):
        for m in self.norms:
            m.momentum = 0.1


def maxup(net, step, opt):
    """Gong et al., eq. 2: the gradient of mean_i max_j l(x_ij)."""
    copies = [step.copy(j) for j in range(step.copies)]
    with torch.no_grad(), Frozen(net):
        losses = torch.stack([loss(net, x, step.y, other, own) for x, other, own in copies])
    worst = losses.argmax(0)
    pick = lambda part: torch.stack([copies[j][part][i] for i, j in enumerate(worst.tolist())])
    loss(net, pick(0), step.y, pick(1), pick(2)).mean().backward()


def augment(net, step, opt):
    x, other, own = step.copy(0)
    loss(net, x, step.y, other, own).mean().backward()


def sam(net, step, opt, radius):
    """Foret et al., eq. 2 and 3, p = 2."""
    x, _, _ = step.copy(0)
    start = [p.detach().clone() for p in net.parameters()]
    F.cross_entropy(net(x), step.y).backward()
    norm = torch.sqrt(sum(p.grad.square().sum() for p in net.parameters()))
    with torch.no_grad():
        for p in net.parameters():
            p += radius * p.grad / norm
    opt.zero_grad()
    with Frozen(net):
        F.cross_entropy(net(x), step.y).backward()
    with torch.no_grad():
        for p, old in zip(net.parameters(), start):
            p.copy_(old)


DEFENCES = {"maxup": maxup, "augment": augment, "sam": sam}


def model(folder, bn):
    path = folder / f"defences{'-bn' if bn else ''}.model.safetensors"
    with safe_open(path, "pt") as f:
        mean, std = ([float(v) for v in f.metadata()[k].split(",")] for k in ("mean", "std"))
    net = ConvNet(4, 4, (3, 16, 17), batchnorm=bn, stem="stride", mean=mean, std=std)
    net.load_state_dict(load_file(path), strict=False)
    return net.double().train()


def answers(folder, name):
    bn, defence, settings = CASES[name]
    data, net = load_file(folder / "defences.in.safetensors"), model(folder, bn)
    start = {k: v.clone() for k, v in net.tensors().items()}
    opt = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    out = {}
    for k in range(3):
        opt.zero_grad()
        DEFENCES[defence](net, Step(data, name, k), opt, **settings)
        opt.step()
        if k != 1:
            out |= {f"{name}.{k + 1}.{p}": (v - start[p]).float() for p, v in net.tensors().items()}
    return out


def main():
    here = pathlib.Path(__file__).resolve().parent
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=pathlib.Path, default=here.parent / "gocp/train/testdata")
    ap.add_argument("--check", action="store_true", help="write nothing; compare with the committed answers")
    args = ap.parse_args()
    torch.set_num_threads(1)
    out = {}
    for name in CASES:
        out |= answers(args.out, name)
    if args.check:
        as_committed("defences", load_file(args.out / "defences.safetensors"), out, 1e-6)
        return
    save_file(out, args.out / "defences.safetensors", {"generator": "bench/vectors_defences_torch.py", "torch": torch.__version__.split("+")[0]})


if __name__ == "__main__":
    main()
