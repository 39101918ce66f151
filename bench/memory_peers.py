"""Peak memory of a training step and of a crafting step, gocp beside PyTorch, and of crafting beside its
number of poisons. Each figure is a process of its own that runs two steps: its VmHWM less what it had
resident before there was a model (PyTorch imported, a convolution done; gocp's device open). One thread,
float32, batch 128, 32 × 32 images in 10 classes, batch norm, PyTorch eager and the smaller of NCHW and
channels_last.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
BATCH = 128
# Goals: gocp's peak over PyTorch's, where there is one.
CASES = [
    ("resnet18", 64, "cifar", {"train": 0.8, "craft": 0.5}),
    ("resnet18", 16, "cifar", {}),
    ("vgg16", 64, "cifar", {}),
    ("mobilenet_v2", 32, "cifar", {}),
]
GROWTH = [("convnet", 32, "pool"), ("resnet18", 16, "cifar")]
POISONS, MANY, MOST = 256, 4096, 1.10
PIXELS = 32 * 32 * 3 * (3 * 4 + 1) + 64  # what a poison keeps: δ, two moments, the clean image; label and the like


def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1])


def torch_child(what, arch, width, stem, channels_last):
    """PyTorch's side, in a process of its own."""
    import torch
    from torch.nn import functional as F

    import networks_torch
    from peers_torch import sign_adam

    torch.set_num_threads(1)
    F.conv2d(torch.rand(1, 16, 8, 8), torch.rand(16, 16, 3, 3))
    before = status("VmRSS")
    net = networks_torch.build(arch, width=width, classes=10, shape=(3, 32, 32), stem=stem, batchnorm=True)
    x, y = torch.rand(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    if what == "train":
        net.train()
        sgd = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
        for _ in range(2):
            sgd.zero_grad()
            F.cross_entropy(net(x), y).backward()
            sgd.step()
    else:
        net.eval()
        values = list(net.parameters())
        u = [torch.randn_like(p) for p in values]
        state = dict(base=x, delta=torch.zeros_like(x), m=torch.zeros_like(x), s=torch.zeros_like(x), t=0)
        for _ in range(2):
            moved = (state["base"] + state["delta"]).requires_grad_()
            g = torch.autograd.grad(F.cross_entropy(net(moved), y, reduction="sum"), values, create_graph=True)
            dot = sum((a * b).sum() for a, b in zip(g, u))
            cos = dot / (sum(a.square().sum() for a in g).sqrt() * sum(a.square().sum() for a in u).sqrt())
            sign_adam(state, torch.autograd.grad(cos, moved)[0])
            del g, dot, cos
    print(before, status("VmHWM"), 0)


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=HERE, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        return None, done.stderr.strip().splitlines()[-1]
    before, peak, arrays, *note = done.stdout.split(maxsplit=3)
    return (int(peak) - int(before)) / 1024, (int(arrays) << 10, " ".join(note).strip())


def torch_peak(what, arch, width, stem):
    figures = []
    for form in ("nchw", "channels_last"):
        mib, error = run([sys.executable, __file__, "--child", what, arch, width, stem, form])
        if mib is None:
            sys.exit(f"PyTorch, {what} {arch}: {error}")
        figures.append((mib, form))
    return min(figures)


def gocp(args, what, arch, width, stem, n, limit=0):
    return run([args.gocp, "-pass", what, "-arch", arch, "-width", width, "-stem", stem, "-batchnorm", "-batch", n, "-memory", int(limit)])


def least_limit(args, arch, width, stem):
    """The least --memory that a batch is crafted in, as crafting says it when it is given less, and 1 MiB for its rounding."""
    _, error = gocp(args, "craft", arch, width, stem, BATCH, 1)
    number, unit = re.search(r"at least ([\d.]+) ([MG]iB)", error).groups()
    return int((float(number) + (1 if unit == "MiB" else 2**-7)) * {"MiB": 1 << 20, "GiB": 1 << 30}[unit])


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--gocp", default=str(HERE.parent / "bin" / "memory"), help="bench/memory, built")
    p.add_argument("--only", help="an architecture")
    p.add_argument("--out", help="write figures as JSON")
    p.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.child:
        what, arch, width, stem, form = args.child
        return torch_child(what, arch, int(width), stem, form == "channels_last")
    rows = []
    print(f"Peak beyond the start, MiB, batch {BATCH}\n\n| step | gocp | PyTorch | ratio | goal |\n|---|---|---|---|---|")
    for arch, width, stem, goals in CASES:
        if args.only not in (None, arch):
            continue
        for what, least in ("train", False), ("craft", False), ("craft", True):
            name = f"{what} {arch} w {width}" + ", least memory" * least
            mine, error = gocp(args, what, arch, width, stem, BATCH, least and least_limit(args, arch, width, stem))
            if mine is None:
                sys.exit(f"gocp, {name}: {error}")
            if not least:
                theirs, form = torch_peak(what, arch, width, stem)
            goal = goals.get(what)
            rows.append(dict(name=name, gocp=mine, torch=theirs, form=form, ratio=mine / theirs, goal=goal))
            print(f"| {name} | {mine:.0f} | {theirs:.0f} ({form}) | {mine / theirs:.2f} | {goal or ''} |", flush=True)
    print(f"\nCrafting, {MANY} poisons beside {POISONS}, with a limit of {MOST:.2f} times their arrays' memory, or the least it takes\n")
    print(f"| network | {POISONS}, MiB | {MANY}, MiB | ratio | goal | what crafting said |\n|---|---|---|---|---|---|")
    for arch, width, stem in GROWTH:
        if args.only not in (None, arch):
            continue
        few, about = gocp(args, "craft", arch, width, stem, POISONS)
        if few is None:
            sys.exit(f"gocp, {arch}: {about}")
        limit, many = max(int(about[0] * MOST), about[0] + (MANY - POISONS) * PIXELS), None
        while many is None:  # what a second chunk needs once, the parameters' gradient
            many, about = gocp(args, "craft", arch, width, stem, MANY, limit)
            if many is None and "--memory" not in about:
                sys.exit(f"gocp, {arch}: {about}")
            limit += 16 << 20
        note = about[1]
        rows.append(dict(name=f"{arch} w {width}, {MANY} poisons", few=few, many=many, ratio=many / few, goal=MOST, note=note))
        print(f"| {arch} w {width} | {few:.0f} | {many:.0f} | {many / few:.2f} | {MOST:.2f} | {note} |", flush=True)
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
