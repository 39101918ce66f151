"""Golden vectors of unrolled training from PyTorch in float64, for the attack metapoison.

    python bench/vectors_lookahead_torch.py            writes gocp/attack/testdata/*.lookahead.safetensors
    python bench/vectors_lookahead_torch.py --check    recomputes them from what is committed

Networks and inputs are those of bench/vectors_torch.py and vectors_curvature_torch.py, which must be there. From the model's
parameters and a momentum buffer of MOMENT·v, K steps of SGD are unrolled by autograd with create_graph, in training mode. Step k is on images
(3k + i) mod N, i < BATCH, of the N inputs without the last TARGETS. After each step the cross entropy of these targets with
the labels y + 1 mod classes is taken in evaluation mode, with the model's own running statistics. A file holds for each
setting the mean of these over steps, `<setting>.loss`, and its gradient with respect to the images, `<setting>.dx`.
The learning rate, in the metadata, is one of RATES for which no ReLU is so near to its kink that float32 would see its other side.
"""

import argparse
import pathlib

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.func import functional_call
from torch.nn import functional as F

import vectors_curvature_torch as curvature
import vectors_torch as convnets

BATCH, TARGETS, MOMENT, DECAY = 4, 2, 0.01, 0.01
RATES = [r / 1000 for r in range(50, 10, -2)]
SETTINGS = {f"k{k}.{name}": (k, *how) for k in (1, 2, 5) for name, how in {"plain": (0.0, False), "momentum": (0.9, False), "nesterov": (0.9, True)}.items()}
NAMES = ("stride", "stride-bn", "pool-bn", "resnet18-w4")
VERSION = "1"


def unrolled(net, inputs, rate, steps, momentum, nesterov):
    convnets.set_mode(net, "eval")
    theta = {k: p.detach().clone().requires_grad_(True) for k, p in net.named_parameters()}
    buffers = {k: b.detach().clone() for k, b in net.named_buffers()}
    m = {k: MOMENT * inputs[f"v.{k}"].double() for k in theta}
    x, y = inputs["x"].double()[:-TARGETS].requires_grad_(True), inputs["y"].long()
    classes = net(inputs["x"].double()).shape[1]
    wrong = (y[-TARGETS:] + 1) % classes
    total = 0
    for k in range(steps):
        index = [(3 * k + i) % len(x) for i in range(BATCH)]
        convnets.set_mode(net, "train")
        scratch = {n: b.clone() for n, b in buffers.items()}
        loss = F.cross_entropy(functional_call(net, (theta, scratch), (x[index],)), y[:-TARGETS][index])
        grads = torch.autograd.grad(loss, tuple(theta.values()), create_graph=True)
        for (name, p), g in zip(list(theta.items()), grads):
            d = g + DECAY * p
            m[name] = momentum * m[name] + d
            theta[name] = p - rate * (d + momentum * m[name] if nesterov else m[name])
        convnets.set_mode(net, "eval")
        logits = functional_call(net, (theta, buffers), (inputs["x"].double()[-TARGETS:],))
        total = total + F.cross_entropy(logits, wrong, reduction="sum") / steps
    return total.detach().reshape(1), torch.autograd.grad(total, x)[0]


def answers(net, inputs, rate):
    out = {}
    for name, setting in SETTINGS.items():
        loss, dx = unrolled(net, inputs, rate, *setting)
        out[f"{name}.loss"], out[f"{name}.dx"] = loss.float(), dx.float().contiguous()
    return out


def smooth(net, inputs, rate):
    """Whether rounding to float32 leaves every ReLU on its side: the gradient jumps where one changes it."""
    old = answers(net, inputs, rate)
    for seed in range(4):
        noise = torch.randn(inputs["x"].shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        new = answers(net, {**inputs, "x": inputs["x"].double() * (1 + 3e-7 * noise)}, rate)
        if any((new[k] - old[k]).norm() > 1e-4 * old[k].norm() for k in old):
            return False
    return True


def main():
    here = pathlib.Path(__file__).resolve().parent
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=pathlib.Path, default=here.parent / "gocp/attack/testdata")
    ap.add_argument("--check", action="store_true", help="write nothing; compare with the committed answers")
    args = ap.parse_args()
    torch.set_num_threads(1)
    for name, _, load in curvature.cases(here.parent / "gocp/nn/testdata"):
        if name not in NAMES:
            continue
        file = args.out / f"{name}.lookahead.safetensors"
        net, inputs = load()
        if args.check:
            with safe_open(file, "pt") as f:
                rate = float(f.metadata()["lr"])
            convnets.as_committed(name, load_file(file), answers(net, inputs, rate), 1e-6)
            continue
        rate = next(r for r in RATES if smooth(net, inputs, r))
        print(f"{name}: learning rate {rate:g}", flush=True)
        args.out.mkdir(exist_ok=True)
        save_file(answers(net, inputs, rate), file, {"generator": "bench/vectors_lookahead_torch.py", "generator_version": VERSION, "case": name, "batch": str(BATCH), "targets": str(TARGETS),
                              "moment": f"{MOMENT:g}", "lr": f"{rate:g}", "weight_decay": f"{DECAY:g}", "torch": torch.__version__.split("+")[0]})


if __name__ == "__main__":
    main()
