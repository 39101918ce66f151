"""Are the poisons real outside gocp? PyTorch trains victims of its own, TorchCP calibrates them.

    gocp data export RUN --out victims.npz
    python bench/victims_torch.py victims.npz [--json out.json]

For every group of targets and every arm (attack, randun, …) it trains --victims models on the
training set with that arm's poisons in place; models of one group share their seeds across arms.
Reference models see clean data. It prints the set size reduction ratio (|C_benign| - |C_victim|) /
|C_benign| of each arm and its paired difference to RandUn, mean ± standard error over groups.
"""

import argparse
import json
import multiprocessing
import os

import numpy as np
import torch
from torch.nn import functional as F
from torchcp.classification.predictor import SplitPredictor
from torchcp.classification.score import LAC

from convnet_torch import ConvNet

ap = argparse.ArgumentParser(description="victims trained by PyTorch, calibrated by TorchCP")
ap.add_argument("npz")
ap.add_argument("--json")
ap.add_argument("--arms", help="only these, such as attack,randun")
ap.add_argument("--victims", type=int, default=2)
ap.add_argument("--references", type=int, default=3)
ap.add_argument("--groups", type=int, help="only the first so many")
ap.add_argument("--width", type=int, default=16)
ap.add_argument("--stem", default="stride")
ap.add_argument("--batchnorm", action="store_true")
ap.add_argument("--epochs", type=int, default=20)
ap.add_argument("--lr", type=float, default=0.01)
ap.add_argument("--alpha", type=float, default=0.1)
ap.add_argument("--seed", type=int, default=100)
ap.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="models trained side by side, a thread each")
args = ap.parse_args()
torch.set_num_threads(1)
z = np.load(args.npz)
pixels = lambda name: torch.from_numpy(z[name]).permute(0, 3, 1, 2).float() / 255
labels = lambda name: torch.from_numpy(z[name])
train_x, train_y, test_x, test_y = pixels("train_images"), labels("train_labels"), pixels("test_images"), labels("test_labels")
cal = [(pixels("calibration_images"), labels("calibration_labels"))]
targets, group = pixels("target_images"), z["target_group"]


def victim(seed, arm=None, g=0):
    """Set sizes on all targets, coverage and accuracy of a model trained with arm's poisons of group g."""
    torch.manual_seed(seed)
    x, y = train_x, train_y
    if arm:
        begin, end = z[f"poison_{arm}_begin"][g : g + 2]
        x, y, at = x.clone(), y.clone(), z[f"poison_{arm}_index"][begin:end]
        x[at], y[at] = pixels(f"poison_{arm}")[begin:end], labels(f"poison_{arm}_labels")[begin:end]
    mean, std = train_x.mean((0, 2, 3)).tolist(), train_x.std((0, 2, 3)).tolist()
    net = ConvNet(args.width, len(z["classes"]), x.shape[1:], args.batchnorm, args.stem, mean, std)
    net = net.to(memory_format=torch.channels_last)
    opt = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    net.train()
    for _ in range(args.epochs):
        for i in torch.randperm(len(x)).split(128):
            opt.zero_grad()
            F.cross_entropy(net(x[i].contiguous(memory_format=torch.channels_last)), y[i]).backward()
            opt.step()
    cp = SplitPredictor(LAC(), net, alpha=args.alpha)
    cp.calibrate(cal)
    with torch.no_grad():
        hit = net(test_x).argmax(1).eq(test_y).float().mean().item()
        covered = cp.predict(test_x)[torch.arange(len(test_y)), test_y].float().mean().item()
        return cp.predict(targets).sum(1).double().numpy(), covered, hit


def estimate(v):
    return {"mean": float(np.mean(v)), "se": float(np.std(v, ddof=1) / len(v) ** 0.5) if len(v) > 1 else float("nan"), "n": len(v)}


groups = range(args.groups or int(group.max()) + 1)
arms = args.arms.split(",") if args.arms else z["arms"].tolist()
runs = {arm: [] for arm in arms}
pool = multiprocessing.get_context("fork").Pool(args.workers)
references = [pool.apply_async(victim, (args.seed + i,)) for i in range(args.references)]
jobs = [[[pool.apply_async(victim, (args.seed + 1000 * (g + 1) + i, arm, g)) for i in range(args.victims)] for arm in arms] for g in groups]
benign = np.mean([r.get()[0] for r in references], axis=0)
before = np.array([benign[group == g].mean() for g in groups])
for g in groups:
    for arm, job in zip(arms, jobs[g]):
        runs[arm].append([r.get() for r in job])
    print(f"group {g}: sizes", ", ".join(f"{arm} {[int(r[0][group == g].sum()) for r in runs[arm][-1]]}" for arm in arms), flush=True)
out, ratio = {"torch": torch.__version__, "benign_size": estimate(before)}, {}
for arm in arms:
    size = np.array([np.mean([r[0][group == g] for r in rs]) for g, rs in zip(groups, runs[arm])])
    ratio[arm] = 1 - size / before
    out[arm] = {"size": estimate(size), "reduction": estimate(ratio[arm])}
    out[arm].update({k: estimate([np.mean([r[j] for r in rs]) for rs in runs[arm]]) for j, k in ((1, "coverage"), (2, "accuracy"))})
    print(arm, ", ".join(f"{k} {v['mean']:.3f} ± {v['se']:.3f}" for k, v in out[arm].items()))
for arm in [a for a in arms if a != "randun" and "randun" in arms]:
    d = out[f"{arm}_minus_randun"] = estimate(ratio[arm] - ratio["randun"])
    print(f"{arm} - randun, reduction ratio, paired: {d['mean']:.3f} ± {d['se']:.3f} ({d['n']} groups)")
if args.json:
    with open(args.json, "w") as f:
        json.dump(out, f, indent=2)
