"""Golden vectors from PyTorch in float64, for `gocp compute` and gocp/nn.

    python bench/vectors_torch.py            writes gocp/nn/testdata/*.safetensors
    python bench/vectors_torch.py --check    recomputes the answers from the committed models and inputs

For every case three kinds of file:
    CASE.model.safetensors   the model, float32, as gocp reads it
    CASE.in.safetensors      x, y, directions v.*, u, targets: what `gocp compute` reads
    CASE.MODE.safetensors    the answers of MODE (eval or train), float64 (the largest float32, for size)
The answers are computed in float64 from the float32 model and inputs. Every ReLU, every max pool
and every two logits of a sample keep a distance from their kink (MARGIN of the layer's root mean
square), found by descent on the inputs and parameters: then float32 and bfloat16 runs take the
same branches as float64, and a relative error bound means something.
"""

import argparse
import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from convnet_torch import ConvNet

CASES = {  # name: (seed, spec); odd and unequal sides on purpose
    "pool": (21, dict(width=4, classes=10, shape=(3, 12, 13))),
    "pool-bn": (22, dict(width=4, classes=7, shape=(3, 9, 9), batchnorm=True)),
    "stride": (13, dict(width=4, classes=10, shape=(1, 17, 15), stem="stride")),
    "stride-bn": (14, dict(width=4, classes=5, shape=(3, 12, 12), stem="stride", batchnorm=True)),
}
BATCH, TARGETS = 5, 3
MARGIN = 0.02
HINGE_MARGIN = 0.005
VERSION = "2"


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def margins(net, x):
    """Distances to the nearest kink, each relative to its layer's root mean square."""
    out = []

    def probe(kind, z):
        rms = z.detach().square().mean().sqrt()
        if kind == "relu":
            out.append((z.abs() / rms).flatten())
        else:
            top = F.unfold(z.flatten(0, 1)[:, None], 2, stride=2).topk(2, dim=1).values
            # A window that is all zero has no gradient at all, whichever tie wins.
            out.append(((top[:, 0] - top[:, 1]) / rms)[top[:, 0] > 0])

    z = net(x, probe).sort(1).values
    out.append(((z[:, 1:] - z[:, :-1]) / z.detach().square().mean().sqrt()).flatten())  # ranks in APS and RAPS
    return torch.cat(out)


def modes(spec):
    return ("eval", "train") if spec.get("batchnorm") else ("eval",)


def set_mode(net, mode):
    """train() without moving the running statistics: a pass must not change the model."""
    net.train(mode == "train")
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.momentum = 0.0


def problem(seed, spec):
    """(float32 net, inputs): random, then moved off the kinks."""
    gen = seeded(seed)
    channels = spec["shape"][0]
    net = ConvNet(**spec, mean=(0.47, 0.48, 0.45)[:channels], std=(0.25, 0.26, 0.24)[:channels])
    with torch.no_grad():
        for name, p in net.named_parameters():
            noise = torch.randn(p.shape, generator=gen)
            if name.startswith("bn"):
                p.copy_((1 if name.endswith("weight") else 0) + 0.3 * noise)
            elif p.ndim > 1:
                p.copy_(noise * (2 / p[0].numel()) ** 0.5 * (0.4 if name == "fc2.weight" else 1))
            else:
                p.copy_(0.1 * noise)
    x = torch.rand(BATCH + TARGETS, *spec["shape"], generator=gen)
    if spec.get("batchnorm"):
        net.train()
        for m in net.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.momentum = 1.0
        net(x[:BATCH])
        with torch.no_grad():
            for i in (1, 2, 3):
                bn = getattr(net, f"bn{i}")
                c = bn.running_mean.shape
                bn.running_mean += 0.2 * bn.running_var.sqrt() * torch.randn(c, generator=gen)
                bn.running_var *= 0.5 + torch.rand(c, generator=gen)
    inputs = {"u": torch.rand(BATCH, generator=gen)}
    for name, p in net.named_parameters():
        inputs[f"v.{name}"] = torch.randn(p.shape, generator=gen)
    set_mode(net, "eval")
    # Labels of high and middling probability: neither scores nor losses then saturate.
    order = net(x[:BATCH]).argsort(1, descending=True)
    inputs["y"] = order[torch.arange(BATCH), torch.tensor([0, 1, 0, 2, 3])]
    inputs.update(aims(net, x[BATCH:]))
    net.double()
    x = x.double().requires_grad_()
    opt = torch.optim.Adam([{"params": [x], "lr": 2e-3}, {"params": net.parameters(), "lr": 1e-3}])
    for step in range(4000):
        penalty = 0
        for mode in modes(spec):
            set_mode(net, mode)
            near = F.relu(1.5 * MARGIN - margins(net, x[:BATCH]))
            penalty = penalty + near.sum()
        set_mode(net, "eval")
        near = F.relu(1.5 * MARGIN - margins(net, x[BATCH:]))  # targets: evaluation only
        penalty = penalty + near.sum()
        for form in L2:
            _, args = hinges(form, net, {**inputs, "x": x[:BATCH], "target.x": x[BATCH:]})
            penalty = penalty + F.relu(1.5 * HINGE_MARGIN - args.abs()).sum()
        if penalty == 0:
            break
        opt.zero_grad()
        penalty.backward()
        opt.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    net.float()
    x = x.detach().float()
    for p in net.parameters():
        p.requires_grad_(False)
    inputs.update({"x": x[:BATCH].clone(), "target.x": x[BATCH:].clone()})
    return net, inputs


# The adversary's loss: which labels to add and to remove, and the threshold's rank.
MISCOVERAGE, RANK, BETA = "0.4", 4, 2.0  # rank ceil((5 + 1) * 0.6) among 5 calibration scores
L2 = {  # form: (score, margin of the hinge, bandwidth in ranks)
    "pairwise": ("hps", 0.3, None),
    "softquantile": ("aps", 0.25, 2.0),
}


SETTINGS = {
    "raps": "lambda=0.1 kreg=2",
    "sam": "rho=0.05 p=3",
    "l2": f"miscoverage={MISCOVERAGE} beta={BETA:g}",
    **{f"l2.{f}": f"score={k} margin={m:g}" + (f" bandwidth={h:g}" if h else "") for f, (k, m, h) in L2.items()},
}


def aims(net, x):
    """Pairs (target, label) to add and to remove, and the label to keep at each target (-1: none)."""
    order = net(x).argsort(1, descending=True)
    add = torch.tensor([[2, order[2, -1]], [0, order[0, 3]]])
    remove = torch.tensor([[0, order[0, 1]], [1, order[1, 0]]])
    return {"target.add": add, "target.remove": remove, "target.keep": torch.tensor([order[0, 0], -1, order[2, 1]])}


# Non-conformity scores of every label, and the two forms of l2 (spec/method.md 2 and 5).


def score(kind, logits, u, lam=0.1, kreg=2):
    p = logits.softmax(1)
    if kind == "hps":
        return 1 - p
    above = p[:, None, :] > p[:, :, None]
    s = (p[:, None, :] * above).sum(2) + u[:, None] * p
    if kind == "raps":
        rank = 1 + above.sum(2)
        s = s + lam * F.relu(rank - kreg)
    return s


def epanechnikov(t):
    t = t.clamp(-1, 1)
    return 0.5 + t * (0.75 - 0.25 * t * t)


def hinges(form, net, inputs):
    """The terms of l2 (pairs to add, to remove, labels to keep) and the arguments of its hinges. u is 1/2; ranks are fixed where autograd differentiates."""
    kind, margin, bandwidth = L2[form]
    half = lambda z: torch.full((len(z),), 0.5, dtype=z.dtype)
    logits = net(inputs["x"].double())
    s = score(kind, logits, half(logits)).gather(1, inputs["y"][:, None])[:, 0].sort().values
    z = net(inputs["target.x"].double())
    targets = score(kind, z, half(z))
    if form == "softquantile":
        i = torch.arange(1, len(s) + 1) - RANK
        w = epanechnikov((i + 0.5) / bandwidth) - epanechnikov((i - 0.5) / bandwidth)
        s = ((w / w.sum()) * s).sum()[None]
        above = below = s
    else:
        above, below = s[RANK - 1 :], s[:RANK]
    args = [targets[v, a] - above + margin for v, a in inputs["target.add"]]
    args += [below - targets[v, a] + margin for v, a in inputs["target.remove"]]
    terms = [F.relu(a).mean() for a in args]
    for v, a in enumerate(inputs["target.keep"].tolist()):
        if a >= 0:
            other = torch.cat([z[v, :a], z[v, a + 1 :]]).max()
            args.append((other - z[v, a] + BETA)[None])
            terms.append(F.relu(args[-1][0]) - BETA)
        else:
            terms.append(torch.zeros((), dtype=z.dtype))
    return torch.stack(terms), torch.cat(args + [s[1:] - s[:-1]])


def answers(net32, inputs, spec, mode):
    net = ConvNet(**spec, mean=net32.mean, std=net32.std)
    net.load_state_dict(net32.state_dict())
    net.double()
    set_mode(net, mode)
    names = [k for k, _ in net.named_parameters()]
    values = [p for _, p in net.named_parameters()]
    v = [inputs[f"v.{k}"].double() for k in names]
    x, y = inputs["x"].double().requires_grad_(), inputs["y"]
    out = {}

    logits = net(x)
    loss = F.cross_entropy(logits, y, reduction="none")
    out["logits"], out["loss"] = logits, loss
    grads = torch.autograd.grad(loss.sum(), values + [x], create_graph=True)
    for k, g in zip(names, grads):
        out[f"grad.{k}"] = g
    out["input_grad"] = grads[-1]
    inner = sum((a * b).sum() for a, b in zip(grads, v))
    second = torch.autograd.grad(inner, values + [x], retain_graph=True)
    for k, g in zip(names, second):
        out[f"hvp.{k}"] = g
    out["mixed"] = second[-1]
    each = [torch.autograd.grad(loss[i], values, retain_graph=True) for i in range(BATCH)]
    out["directional"] = torch.stack([sum((a * b).sum() for a, b in zip(g, v)) for g in each])
    if mode == "eval":  # in training mode samples share statistics: no gradient belongs to one sample
        for j, k in enumerate(names):
            out[f"persample.{k}"] = torch.stack([g[j] for g in each]).float()
        out["persample_sqnorm"] = torch.stack([sum(a.square().sum() for a in g) for g in each])
    for kind in ("hps", "aps", "raps"):
        out[f"scores.{kind}"] = score(kind, logits, inputs["u"].double())
    if mode == "eval":  # the adversary's loss looks at models as they predict
        for form in L2:
            terms, args = hinges(form, net, inputs)
            if args.abs().min() < HINGE_MARGIN:
                sys.exit(f"{form}: a hinge or a tie of scores at {args.abs().min():.2g}: another seed")
            out[f"l2.{form}"], out[f"l2_terms.{form}"] = terms.sum()[None], terms
            for k, g in zip(names, torch.autograd.grad(terms.sum(), values)):
                out[f"l2_grad.{form}.{k}"] = g.float()
    rho, p = 0.05, 3.0
    q = p / (p - 1)
    total = sum(g.abs().pow(q).sum() for g in grads[:-1])
    for k, g in zip(names, grads):
        out[f"sam.{k}"] = (rho * g.sign() * g.abs().pow(q - 1) / total ** (1 / p)).float()
    return {k: t.detach().contiguous() for k, t in out.items()}


def about(name):
    return {
        "generator": "bench/vectors_torch.py",
        "generator_version": VERSION,
        "case": name,
        "seed": str(CASES[name][0]),
        "torch": torch.__version__.split("+")[0],
    }


def generate(name, out):
    seed, spec = CASES[name]
    net, inputs = problem(seed, spec)
    save_file(net.tensors(), out / f"{name}.model.safetensors", {**net.metadata(), **about(name)})
    save_file(inputs, out / f"{name}.in.safetensors", about(name))
    for mode in modes(spec):
        set_mode(net, mode)
        worst = margins(net, inputs["x"]).min().item()
        if worst < MARGIN:
            sys.exit(f"{name} {mode}: a kink at {worst:.2g} of the root mean square, {MARGIN} is wanted: another seed")
        meta = {**about(name), "mode": mode, "margin": f"{worst:.4f}", **SETTINGS}
        save_file(answers(net, inputs, spec, mode), out / f"{name}.{mode}.safetensors", meta)
        print(f"{name} {mode}: smallest margin {worst:.4f}")


def as_committed(what, old, new, most):
    """Ends unless the tensors are the same ones, none further than `most` from the old in norm."""
    if set(old) != set(new):
        sys.exit(f"{what}: other tensors than the generator writes")
    for k, t in new.items():
        err = (old[k].double() - t.double()).norm() / max(t.double().norm(), 1e-300)
        if not err <= most:
            sys.exit(f"{what}: {k} differs by {err:.2g}")
    print(f"{what}: as committed")


def check(name, out):
    spec = CASES[name][1]
    with safe_open(out / f"{name}.model.safetensors", "pt") as f:
        mean, std = ([float(v) for v in f.metadata()[k].split(",")] for k in ("mean", "std"))
        net = ConvNet(**spec, mean=mean, std=std)
    net.load_state_dict(load_file(out / f"{name}.model.safetensors"), strict=False)
    inputs = load_file(out / f"{name}.in.safetensors")
    for mode in modes(spec):
        old, new = load_file(out / f"{name}.{mode}.safetensors"), answers(net, inputs, spec, mode)
        as_committed(f"{name} {mode}", old, new, 1e-7)


def main():
    here = pathlib.Path(__file__).resolve().parent
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=pathlib.Path, default=here.parent / "gocp/nn/testdata")
    ap.add_argument("--check", action="store_true", help="write nothing; compare with the committed answers")
    args = ap.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in CASES:
        (check if args.check else generate)(name, args.out)


if __name__ == "__main__":
    main()
