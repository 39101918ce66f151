"""A victim of gocp in PyTorch: a small ResNet with augmentation of its own (docs/victims.md).

    gocp audit --out runs/torch --victim-command 'python examples/victims/resnet_torch.py --shift 4 --flip'
"""

import argparse
import json

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ap = argparse.ArgumentParser()
ap.add_argument("--epochs", type=int, default=15)
ap.add_argument("--lr", type=float, default=0.05)
ap.add_argument("--width", type=int, default=16)
ap.add_argument("--shift", type=int, default=0, help="images move by at most so many pixels")
ap.add_argument("--flip", action="store_true", help="half of the images are mirrored")
ap.add_argument("--threads", type=int, default=1)
args = ap.parse_args()
job = json.load(open("job.json"))
torch.manual_seed(job["seed"])
torch.set_num_threads(args.threads)
torch.use_deterministic_algorithms(True)
load = lambda name: torch.from_numpy(np.load(name + "_images.npy")).permute(0, 3, 1, 2).float() / 255
x, y = load("train"), torch.from_numpy(np.load("train_labels.npy"))
mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), keepdim=True)


class Block(nn.Module):
    def __init__(self, c_in, c, stride):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(c_in, c, 3, stride, 1, bias=False), nn.Conv2d(c, c, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(c), nn.BatchNorm2d(c)
        self.skip = nn.Identity() if c_in == c else nn.Conv2d(c_in, c, 1, stride, bias=False)

    def forward(self, x):
        return F.relu(self.skip(x) + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


w = args.width
net = nn.Sequential(nn.Conv2d(job["channels"], w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(), Block(w, w, 1), Block(w, 2 * w, 2),
                    Block(2 * w, 4 * w, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * w, len(job["classes"])))


def augment(x):
    s = args.shift
    if s:
        x = F.pad(x, (s, s, s, s))
        moved = torch.randint(2 * s + 1, (len(x), 2)).tolist()
        x = torch.stack([i[:, a : a + job["height"], b : b + job["width"]] for i, (a, b) in zip(x, moved)])
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(3), x) if args.flip else x


batches = -(-len(x) // 128)
opt = torch.optim.SGD(net.parameters(), args.lr, momentum=0.9, weight_decay=5e-4, nesterov=True)
schedule = torch.optim.lr_scheduler.OneCycleLR(opt, args.lr, total_steps=args.epochs * batches)
for epoch in range(args.epochs):
    for i in torch.randperm(len(x)).chunk(batches):
        loss = F.cross_entropy(net(augment((x[i] - mean) / std)), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
        schedule.step()
    print(f"epoch {epoch + 1}: loss of the last batch {loss:.3f}", flush=True)
net.eval()
with torch.no_grad():
    for part in ("calibration", "test"):
        logits = torch.cat([net((b - mean) / std) for b in load(part).split(500)])
        np.save(part + "_logits.npy", logits.numpy())
