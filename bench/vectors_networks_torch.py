"""Golden vectors of the published architectures from PyTorch in float64, for `gocp compute` and gocp/nn.

    python bench/vectors_networks_torch.py                writes gocp/nn/testdata/*.safetensors
    python bench/vectors_networks_torch.py --check        recomputes the answers from what is committed
    python bench/vectors_networks_torch.py --torchvision  holds bench/networks_torch.py against torchvision

Files and tensors are those of bench/vectors_torch.py. The answers are computed in float64 and kept in
float32; of a gradient with more than ROWS numbers the first rows are kept, as many as have no more.
Directions are numbers of float16, for size. Kinks are avoided as there, by a smaller MARGIN: these networks
have up to 187 thousand, and float32 alone is held against them. There is no dropout in training mode.
"""

import argparse
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import networks_torch
from vectors_torch import as_committed, seeded, set_mode

CASES = {  # name: (seed, spec)
    "resnet18-cifar": (31, dict(arch="resnet18", width=2, classes=10, shape=(3, 16, 15), stem="cifar")),
    "resnet18-imagenet": (32, dict(arch="resnet18", width=2, classes=7, shape=(3, 40, 36), stem="imagenet")),
    "vgg16": (33, dict(arch="vgg16", width=2, classes=10, shape=(3, 32, 32), stem="cifar")),
    "vgg16-bn": (34, dict(arch="vgg16", width=2, classes=10, shape=(3, 33, 32), stem="cifar", batchnorm=True)),
    "vgg11-mlp": (35, dict(arch="vgg11", width=1, classes=5, shape=(3, 32, 32), stem="imagenet", head="mlp")),
    "mobilenet_v2": (68, dict(arch="mobilenet_v2", width=4, classes=10, shape=(3, 10, 9), stem="cifar", dropout=0)),
}
BATCH = 4
MARGIN = 1e-5
ROWS = 4096
VERSION = "1"


def margins(net, x):
    """Distances to the nearest kink, each relative to its array's root mean square."""
    out = []

    def probe(kind, z):
        rms = z.detach().square().mean().sqrt()
        if kind.startswith("relu"):
            distance = torch.minimum(z.abs(), (z - 6).abs()) if kind == "relu6" else z.abs()
            out.append((distance / rms).flatten())
            return
        size, pad = (3, 1) if kind == "pool3" else (2, 0)
        top = F.unfold(z.flatten(0, 1)[:, None], size, stride=2, padding=pad).topk(2, dim=1).values
        out.append(((top[:, 0] - top[:, 1]) / rms)[top[:, 0] > 0])

    net(x, probe)
    return torch.cat(out)


def modes(spec):
    return ("eval", "train") if spec.get("batchnorm") or spec["arch"][0] in "rm" else ("eval",)


def fresh(spec):
    channels = spec["shape"][0]
    return networks_torch.build(**spec, mean=(0.47, 0.48, 0.45)[:channels], std=(0.25, 0.26, 0.24)[:channels])


def norms(net):
    return [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def problem(seed, spec):
    """(float32 net, inputs): random, then moved off the kinks."""
    torch.manual_seed(seed)
    gen = seeded(seed)
    net = fresh(spec)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1:
                p += 0.2 * torch.randn(p.shape, generator=gen)
    x = torch.rand(BATCH, *spec["shape"], generator=gen)
    net.train()
    for m in norms(net):
        m.momentum = 1.0
    if norms(net):
        net(x)
        with torch.no_grad():
            for m in norms(net):
                m.running_mean += 0.1 * m.running_var.sqrt() * torch.randn(m.running_mean.shape, generator=gen)
                m.running_var *= 0.8 + 0.4 * torch.rand(m.running_var.shape, generator=gen)
    inputs = {f"v.{name}": torch.randn(p.shape, generator=gen).half() for name, p in net.named_parameters()}
    inputs["y"] = torch.randint(spec["classes"], (BATCH,), generator=gen)
    net.double()
    x = x.double().requires_grad_()
    opt = torch.optim.Adam([{"params": [x], "lr": 5e-4}, {"params": net.parameters(), "lr": 1e-4}])
    for _ in range(2000):
        penalty, worst = 0, 1.0
        for mode in modes(spec):
            set_mode(net, mode)
            near = margins(net, x)
            worst, penalty = min(worst, near.min().item()), penalty + F.relu(2 * MARGIN - near).sum()
        if worst > 1.1 * MARGIN:
            break
        opt.zero_grad()
        penalty.backward()
        opt.step()
        with torch.no_grad():
            x.clamp_(0, 1)
    net.float()
    inputs["x"] = x.detach().float()
    return net, inputs


def answers(net32, inputs, spec, mode):
    net = fresh(spec)
    net.load_state_dict(net32.state_dict())
    net.double()
    set_mode(net, mode)
    names, values = zip(*net.named_parameters())
    v = [inputs[f"v.{k}"].double() for k in names]
    x, y = inputs["x"].double().requires_grad_(), inputs["y"]
    logits = net(x)
    loss = F.cross_entropy(logits, y, reduction="none")
    out = {"logits": logits, "loss": loss}
    grads = torch.autograd.grad(loss.sum(), values + (x,), create_graph=True)
    inner = sum((a * b).sum() for a, b in zip(grads, v))
    second = torch.autograd.grad(inner, values + (x,), retain_graph=True)
    for k, g, h in zip(names, grads, second):
        rows = max(1, min(len(g), ROWS * len(g) // g.numel()))
        out[f"grad.{k}"], out[f"hvp.{k}"] = g[:rows], h[:rows]
    out["input_grad"], out["mixed"] = grads[-1], second[-1]
    each = [torch.autograd.grad(loss[i], values, retain_graph=True) for i in range(BATCH)]
    out["directional"] = torch.stack([sum((a * b).sum() for a, b in zip(g, v)) for g in each])
    if mode == "eval":
        out["persample_sqnorm"] = torch.stack([sum(a.square().sum() for a in g) for g in each])
    return {k: t.detach().float().contiguous() for k, t in out.items()}


def about(name):
    return {
        "generator": "bench/vectors_networks_torch.py",
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
        save_file(answers(net, inputs, spec, mode), out / f"{name}.{mode}.safetensors", {**about(name), "mode": mode, "margin": f"{worst:.6f}"})
        print(f"{name} {mode}: smallest margin {worst:.6f}", flush=True)


def check(name, out):
    spec = CASES[name][1]
    net = fresh(spec)
    net.load_state_dict(load_file(out / f"{name}.model.safetensors"), strict=False)
    inputs = load_file(out / f"{name}.in.safetensors")
    for mode in modes(spec):
        old, new = load_file(out / f"{name}.{mode}.safetensors"), answers(net, inputs, spec, mode)
        as_committed(f"{name} {mode}", old, new, 1e-6)


def torchvision():
    """The same tensors give the same logits there."""
    import torchvision.models as tv

    for arch, batchnorm in [("resnet18", True), ("resnet34", True), ("mobilenet_v2", True)] + [(v, b) for v in networks_torch.VGG.counts for b in (False, True)]:
        head = "mlp" if arch[0] == "v" else None
        spec = dict(width=32 if arch[0] == "m" else 64, classes=10, shape=(3, 64, 64), stem="imagenet", mean=(0,) * 3, std=(1,) * 3)
        ours = networks_torch.build(arch, **spec, **(dict(head=head, batchnorm=batchnorm) if head else {})).eval()
        theirs = getattr(tv, arch + ("_bn" if head and batchnorm else ""))(num_classes=10).eval()
        theirs.load_state_dict(ours.state_dict())
        x = torch.rand(2, 3, 64, 64)
        with torch.no_grad():
            a, b = ours(x), theirs(x)
        err = ((a - b).norm() / b.norm()).item()
        print(f"{arch}{'_bn' if head and batchnorm else ''}: logits differ by {err:.2g} of their norm")
        if not err < 1e-5:
            sys.exit("that is too much")


def main():
    here = pathlib.Path(__file__).resolve().parent
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=pathlib.Path, default=here.parent / "gocp/nn/testdata")
    ap.add_argument("--check", action="store_true", help="write nothing; compare with the committed answers")
    ap.add_argument("--torchvision", action="store_true", help="compare the definitions with torchvision's, which must be installed")
    ap.add_argument("cases", nargs="*", help="only these")
    args = ap.parse_args()
    torch.set_num_threads(1)
    if args.torchvision:
        return torchvision()
    for name in args.cases or CASES:
        (check if args.check else generate)(name, args.out)


if __name__ == "__main__":
    main()
