"""Does gocp train networks as well as PyTorch does, with the same recipe on the same images?

    bench/accuracy.sh DATA [--seeds 5] [--train 2000] [--networks resnet18-w16 …]

DATA is what gocp reads, such as cifar10. Takes the first --train and --test images of each split, the same
number of every class, and trains each network with each seed by both, alternately: gocp train, and
PyTorch with its own SGD, schedulers and initialisation (networks_torch.py). Weights, orders and augmentations are
drawn by each side for itself. Prints the mean test accuracies, each with its standard error over seeds, and
their difference beside its own. What is done is kept in --runs, so an interrupted comparison goes on.
"""

import argparse
import glob
import json
import os
import subprocess
import tempfile
import time

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch.nn import functional as F
from torch.optim import lr_scheduler

from networks_torch import build

NETWORKS = {
    "resnet18-w16": dict(arch="resnet18", width=16, stem="cifar"),
    "mobilenet_v2-w16": dict(arch="mobilenet_v2", width=16, stem="cifar"),
    "vgg16-bn-w16": dict(arch="vgg16", width=16, stem="cifar", batchnorm=True),
}
LR, WARMUP, MOMENTUM, DECAY, SHIFT = 0.05, 1, 0.9, 5e-4, 4
CHUNK = 250  # test images at a time

ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
ap.add_argument("data")
ap.add_argument("--gocp", default="../bin/gocp")
ap.add_argument("--runs", default="accuracy.jsonl", help="what is done, a line each")
ap.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
ap.add_argument("--seeds", type=int, default=5)
ap.add_argument("--train", type=int, default=2000)
ap.add_argument("--test", type=int, default=5000)
ap.add_argument("--epochs", type=int, default=10)
ap.add_argument("--batch", type=int, default=64)
args = ap.parse_args()
torch.set_num_threads(1)


def gocp(*words):
    subprocess.run([args.gocp, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def part(z, split, n):
    """The first images of a split, the same number of every class, in the order of the split."""
    y = z[split + "_labels"]
    rows = np.sort(np.concatenate([np.flatnonzero(y == c)[: n // len(z["classes"])] for c in range(len(z["classes"]))]))
    return z[split + "_images"][rows], y[rows]


def by_gocp(folder, spec, seed):
    model, out = os.path.join(folder, "m.safetensors"), os.path.join(folder, "out.safetensors")
    if os.path.exists(model):
        os.remove(model)
    network = ["--arch", spec["arch"], "--width", spec["width"], "--stem", spec["stem"]] + ["--batchnorm"] * spec.get("batchnorm", False)
    begin = os.times().children_user
    gocp("train", "--data", os.path.join(folder, "part.npz"), "--out", model, "--seed", seed, *network, "--epochs", args.epochs, "--batch", args.batch, "--lr", LR,
         "--schedule", "cosine", "--warmup", WARMUP, "--momentum", MOMENTUM, "--nesterov", "--weight-decay", DECAY, "--shift", SHIFT, "--pad", "reflect", "--flip",
         "--threads", 1, "--device", "cpu", "--quiet")  # fmt: skip
    seconds = os.times().children_user - begin
    logits = []
    for file in sorted(glob.glob(os.path.join(folder, "test-*.safetensors"))):
        gocp("compute", "--model", model, "--in", file, "--out", out, "--device", "cpu", "logits")
        logits.append(load_file(out)["logits"])
    return np.concatenate(logits), seconds


def torchvision_start(net, arch):
    """torchvision's own beginning of the layers that networks_torch.py leaves to PyTorch."""
    if not arch.startswith("resnet"):
        for m in net.modules():
            if isinstance(m, torch.nn.Linear):
                torch.nn.init.normal_(m.weight, 0, 0.01)
                torch.nn.init.zeros_(m.bias)


def augmented(x):
    """RandomCrop(padding=SHIFT, padding_mode="reflect") and RandomHorizontalFlip, drawn image by image."""
    n, _, h, w = x.shape
    padded = F.pad(x, [SHIFT] * 4, mode="reflect")
    at, flip = torch.randint(0, 2 * SHIFT + 1, (2, n)), torch.rand(n) < 0.5
    crops = [padded[i, :, at[0, i] : at[0, i] + h, at[1, i] : at[1, i] + w] for i in range(n)]
    return torch.stack([c.flip(2) if f else c for c, f in zip(crops, flip)])


def by_torch(train, test, spec, seed):
    torch.manual_seed(seed)
    x, y = torch.from_numpy(train[0]).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(train[1]).long()
    mean, std = x.mean((0, 2, 3)).tolist(), x.std((0, 2, 3)).tolist()
    net = build(**spec, classes=int(y.max()) + 1, shape=x.shape[1:], mean=mean, std=std)
    torchvision_start(net, spec["arch"])
    net = net.to(memory_format=torch.channels_last)
    opt = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True)
    steps, begin = -(-len(x) // args.batch), time.process_time()
    warm = WARMUP * steps
    rates = lr_scheduler.SequentialLR(opt, [lr_scheduler.LinearLR(opt, 1 / warm, 1, warm - 1), lr_scheduler.CosineAnnealingLR(opt, args.epochs * steps - warm)], [warm])
    net.train()
    for _ in range(args.epochs):
        for i in torch.randperm(len(x)).split(args.batch):
            opt.zero_grad()
            F.cross_entropy(net(augmented(x[i]).contiguous(memory_format=torch.channels_last)), y[i]).backward()
            opt.step()
            rates.step()
    seconds = time.process_time() - begin
    net.eval()
    with torch.no_grad():
        return np.concatenate([net(x).numpy() for x in torch.from_numpy(test).split(CHUNK)]), seconds


def estimate(v):
    return np.mean(v), np.std(v, ddof=1) / len(v) ** 0.5 if len(v) > 1 else float("nan")


def table(done):
    print(f"\n{'network':<18}{'seeds':>6}{'gocp':>18}{'PyTorch':>18}{'difference':>20}{'z':>7}")
    for name in args.networks:
        sides = [[r["accuracy"] for r in done if r["network"] == name and r["side"] == side] for side in ("gocp", "torch")]
        if not all(sides):
            continue
        (a, ea), (b, eb) = map(estimate, sides)
        e = (ea * ea + eb * eb) ** 0.5
        print(f"{name:<18}{min(map(len, sides)):>6}{a:>10.4f} ± {ea:.4f}{b:>10.4f} ± {eb:.4f}{a - b:>+12.4f} ± {e:.4f}{(a - b) / e:>+7.1f}")
    print(flush=True)


def main():
    settings = dict(data=args.data, train=args.train, test=args.test, epochs=args.epochs, batch=args.batch, lr=LR)
    done = []
    if os.path.exists(args.runs):
        with open(args.runs) as f:
            done = [r for r in map(json.loads, f) if r["settings"] == settings]
    with tempfile.TemporaryDirectory() as folder:
        whole = os.path.join(folder, "whole.npz")
        gocp("data", "export", args.data, "--out", whole)
        with np.load(whole) as z:
            train, test = part(z, "train", args.train), part(z, "test", args.test)
            np.savez(os.path.join(folder, "part.npz"), classes=z["classes"], train_images=train[0], train_labels=train[1], test_images=test[0], test_labels=test[1])
        os.remove(whole)
        pixels = np.ascontiguousarray(test[0].transpose(0, 3, 1, 2)).astype(np.float32) / 255
        for i in range(0, len(pixels), CHUNK):
            save_file({"x": pixels[i : i + CHUNK]}, os.path.join(folder, f"test-{i:08}.safetensors"))
        print(f"{args.data}: {len(train[1])} training and {len(test[1])} test images; {args.epochs} epochs, batch {args.batch}, rate {LR}, cosine after {WARMUP} epoch of warm-up, "
              f"Nesterov {MOMENTUM}, weight decay {DECAY}, crop of ±{SHIFT} with reflection, flip; PyTorch {torch.__version__}", flush=True)  # fmt: skip
        for name in args.networks:
            for seed in range(args.seeds):
                for side in ("gocp", "torch"):
                    if any(r["network"] == name and r["side"] == side and r["seed"] == seed for r in done):
                        continue
                    spec = NETWORKS[name]
                    logits, seconds = by_gocp(folder, spec, seed) if side == "gocp" else by_torch(train, pixels, spec, seed)
                    r = dict(settings=settings, network=name, side=side, seed=seed, accuracy=float((logits.argmax(1) == test[1]).mean()), processor_seconds=round(seconds, 1))
                    done.append(r)
                    with open(args.runs, "a") as f:
                        f.write(json.dumps(r) + "\n")
                    print(f"{name} seed {seed} {side}: accuracy {r['accuracy']:.4f}, {seconds:.0f} s of processor time", flush=True)
            table(done)


main()
