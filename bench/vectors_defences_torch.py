"""Golden vectors of defences of training from PyTorch in float64, for gocp/train.

    python bench/vectors_defences_torch.py            writes gocp/train/testdata/defences.safetensors
    python bench/vectors_defences_torch.py --check    recomputes it

Each case is three steps (of DP-SGD six) of SGD with a defence, written here from the papers' equations, on the models and with the draws
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
    "poisoning": (False, "poisoning", dict(ball=16 / 255, steps=5)),
    "poisoning-bn": (True, "poisoning", dict(ball=8 / 255, steps=2)),
    "epic": (False, "epic", dict(fraction=0.4)),
    "private": (False, "private", dict(clip=1.3, lot=8)),
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
        self.batch, self.aug, self.cut, self.partner, self.own, self.paste, self.noise, self.start = map(draw, ("batch", "aug", "cut", "partner", "own", "paste", "noise", "start"))
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


def flat(grads):
    return torch.cat([g.flatten() for g in grads])


def poisoning(net, step, opt, ball, steps):
    """Geiping et al. 2021: signed Adam on the cosine of the poisons' gradient and the targets' under a fake label."""
    x, _, _ = step.copy(0)
    half = len(x) // 2
    poisons, targets, labels = x[:half], x[half:], step.y[:half]
    counts = torch.bincount(labels)
    fake = torch.full((len(targets),), counts.argmax().item())  # the smallest of equal ones
    parameters = list(net.parameters())
    net.eval()
    wanted = flat(torch.autograd.grad(F.cross_entropy(net(targets), fake, reduction="sum"), parameters))
    delta = step.start.permute(0, 3, 1, 2).double().clone().requires_grad_()
    adam = torch.optim.Adam([delta], lr=0.1 * ball)
    for _ in range(steps):
        grad = flat(torch.autograd.grad(F.cross_entropy(net(poisons + delta), labels, reduction="sum"), parameters, create_graph=True))
        (-F.cosine_similarity(wanted, grad, dim=0, eps=0)).backward(inputs=[delta])
        delta.grad.sign_()
        adam.step()
        adam.zero_grad()
        with torch.no_grad():
            delta.clamp_(-ball, ball)
            delta.copy_((poisons + delta).clamp(0, 1) - poisons)
    net.train()
    F.cross_entropy(net(torch.cat([(poisons + delta).detach(), targets])), step.y).backward()


DEFENCES = {"maxup": maxup, "augment": augment, "sam": sam, "poisoning": poisoning}


def medoids(rows, k):
    """Greedy facility location by its definition: each of all rows is tried each time."""
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    similar = distances.max() - distances
    chosen, covered = [], torch.zeros(len(rows), dtype=rows.dtype)
    for _ in range(k):
        gains = torch.maximum(similar, covered[:, None]).sum(0) - covered.sum()
        gains[chosen] = -1
        chosen.append(gains.argmax().item())
        covered = torch.maximum(covered, similar[:, chosen[-1]])
    return chosen, distances


def epic(folder, name, net, opt, fraction):
    """Yang et al. 2022: before the second and the third epoch medoids that stand for themselves alone are dropped."""
    data = load_file(folder / "defences.in.safetensors")
    x, y = data["images"].permute(0, 3, 1, 2).double() / 255, data["labels"].long()
    kept = list(range(len(y)))
    for epoch in range(3):
        if epoch > 0:
            net.eval()
            with torch.no_grad():
                proxies = net(x).softmax(1) - F.one_hot(y, 4)
            net.train()
            gone = []
            for c in range(4):
                members = [i for i in kept if y[i] == c]
                if not members:
                    continue
                chosen, distances = medoids(proxies[members], -(-round(1000 * fraction) * len(members) // 1000))
                nearest = distances[:, sorted(chosen)].argmin(1)
                alone = [members[m] for j, m in enumerate(sorted(chosen)) if (nearest == j).sum() == 1]
                gone += alone if len(alone) < len(members) else []
            kept = [i for i in kept if i not in gone]
        order = [kept[i] for i in data[f"{name}.order.{len(kept)}"][epoch].tolist()]  # numbers of those that are left
        opt.zero_grad()
        F.cross_entropy(net(x[order]), y[order]).backward()
        opt.step()
        yield epoch + 1
    print(f"{name}: {len(y) - len(kept)} of {len(y)} dropped")


def private(folder, name, net, opt, clip, lot):
    """Abadi et al. 2016, algorithm 1, sample by sample."""
    data = load_file(folder / "defences.in.safetensors")
    x, y = data["images"].permute(0, 3, 1, 2).double() / 255, data["labels"].long()
    names, parameters = zip(*net.named_parameters())
    cut = whole = 0
    for step, marks in enumerate(data[f"{name}.in"]):
        total = [data[f"{name}.noise.{k}"][step].double() for k in names]
        for i in marks.nonzero().flatten().tolist():
            grads = torch.autograd.grad(F.cross_entropy(net(x[i : i + 1]), y[i : i + 1]), parameters)
            weight = min(1, clip / flat(grads).norm().item())
            cut, whole = cut + (weight < 1), whole + (weight == 1)
            total = [t + weight * g for t, g in zip(total, grads)]
        for p, t in zip(parameters, total):
            p.grad = t / lot
        opt.step()
        if step % 2:
            yield step // 2 + 1
    print(f"{name}: {cut} gradients cut, {whole} not")


EPOCHS = {"epic": epic, "private": private}


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
    if defence in EPOCHS:
        for epoch in EPOCHS[defence](folder, name, net, opt, **settings):
            if epoch != 2:
                out |= {f"{name}.{epoch}.{p}": (v - start[p]).float() for p, v in net.tensors().items()}
        return out
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
