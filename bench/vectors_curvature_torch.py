"""Golden vectors of curvature from PyTorch in float64, for `gocp compute ggnvp ihvp`.

    python bench/vectors_curvature_torch.py            writes gocp/nn/testdata/*.curvature.safetensors
    python bench/vectors_curvature_torch.py --check    recomputes them from what is committed

The ConvNets are those of bench/vectors_torch.py, whose models and inputs must be there; of a ResNet-18 of width 4
this script makes model and inputs too, as bench/vectors_networks_torch.py does. A file holds, of a mode of batch norm,
    ggnvp.*          G v, G = JᵀHJ of the summed loss: J the Jacobian of all logits, H the Hessian of the loss in them
    ihvp.ggn.*       (G/N + λI)⁻¹ v
    ihvp.hessian.*   (∇²Σl/N + λI)⁻¹ v, with a λ for which that is positive definite
    kfac.A.*, kfac.G.*   factors of weights, in evaluation mode: 1/N Σ over samples and positions of patches' outer products, and
                         1/NT Σ over samples, T positions and labels c of p_c times those of the outputs' gradients of l(x, c)
    kfac.*               of biases 1/N Σ p_c of the outer products of gradients, of batch norm's parameters of their squares
and both λ in its metadata. J is formed entire. The first system is solved by a dense factorisation of NK equations,
s = (v − Bᵀ(λI + BBᵀ)⁻¹Bv)/λ with BᵀB = G/N; the second by a dense one of |θ|, of the ResNet by conjugate gradients to 1e-12.
Of a tensor with more than ROWS numbers the first rows are kept.
"""

import argparse
import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import vectors_networks_torch as networks
import vectors_torch as convnets
from convnet_torch import ConvNet

RESNET = ("resnet18-w4", 41, dict(arch="resnet18", width=4, classes=10, shape=(3, 16, 15), stem="cifar"))
DAMPING = 0.05
ROWS = 1024
VERSION = "1"


def load(name, spec, out, build):
    with safe_open(out / f"{name}.model.safetensors", "pt") as f:
        mean, std = ([float(v) for v in f.metadata()[k].split(",")] for k in ("mean", "std"))
    net = build(spec, mean, std)
    net.load_state_dict(load_file(out / f"{name}.model.safetensors"), strict=False)
    return net.double(), load_file(out / f"{name}.in.safetensors")


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


class Curvature:
    """Of the mean loss over the inputs, as a function of the flat parameters."""

    def __init__(self, net, inputs):
        self.names, self.values = zip(*net.named_parameters())
        for p in self.values:
            p.requires_grad_(True)
        self.v = flat([inputs[f"v.{k}"].double() for k in self.names])
        logits = net(inputs["x"].double())
        self.n = len(logits)
        loss = F.cross_entropy(logits, inputs["y"].long(), reduction="sum")
        self.grad = flat(torch.autograd.grad(loss, self.values, create_graph=True))
        rows = [flat(torch.autograd.grad(z, self.values, retain_graph=True)) for z in logits.reshape(-1)]
        jacobian = torch.stack(rows).reshape(*logits.shape, -1)
        p = logits.detach().softmax(1)
        hessian = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        eigenvalues, vectors = torch.linalg.eigh(hessian)
        root = vectors * eigenvalues.clamp(min=0).sqrt()[:, None, :]
        self.b = torch.einsum("nkj,nkt->njt", root, jacobian).reshape(logits.numel(), -1) / self.n**0.5

    def ggn(self, damping):
        small = self.b @ self.b.T + damping * torch.eye(len(self.b), dtype=torch.float64)
        return (self.v - self.b.T @ torch.linalg.solve(small, self.b @ self.v)) / damping

    def hvp(self, v):
        return flat(torch.autograd.grad(self.grad, self.values, v, retain_graph=True)) / self.n

    def least(self):
        """The least eigenvalue of the Hessian, nearly: power iterations, the second time shifted by the largest."""
        found = []
        for shift in (0, None):
            v = torch.randn(len(self.v), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
            for _ in range(150):
                v = v / v.norm()
                w = self.hvp(v) - (found[0] * v if shift is None else 0)
                value, v = (v @ w).item(), w
            found.append(value)
        return min(found[0], found[1] + found[0])

    def dense(self, damping):
        h = torch.stack([self.hvp(e) for e in torch.eye(len(self.v), dtype=torch.float64)])
        return torch.linalg.solve((h + h.T) / 2 + damping * torch.eye(len(h), dtype=torch.float64), self.v)

    def conjugate(self, damping):
        x, r = torch.zeros_like(self.v), self.v.clone()
        p, rr = r.clone(), r @ r
        for _ in range(5000):
            q = self.hvp(p) + damping * p
            if p @ q <= 0:
                sys.exit(f"negative curvature with damping {damping:g}")
            alpha = rr / (p @ q)
            x, r = x + alpha * p, r - alpha * q
            old, rr = rr, r @ r
            if rr <= 1e-24 * (self.v @ self.v):
                return x
            p = r + rr / old * p
        sys.exit("no convergence")

    def split(self, prefix, vector, out):
        at = 0
        for k, p in zip(self.names, self.values):
            t = vector[at : at + p.numel()].reshape(p.shape)
            at += p.numel()
            out[f"{prefix}.{k}"] = first_rows(t)


def first_rows(t):
    return t[: max(1, min(len(t), ROWS * len(t) // t.numel()))].detach().float().contiguous()


def kfac(net, inputs, out):
    """Factors from the definition: unfolded patches, and one autograd call for each label."""
    seen = {}
    hooks = [m.register_forward_hook(lambda m, i, o, k=k: seen.update({k: (m, i[0], o)})) for k, m in net.named_modules()
             if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear, torch.nn.BatchNorm2d))]
    logits = net(inputs["x"].double())
    for h in hooks:
        h.remove()
    n, p = len(logits), logits.detach().softmax(1)
    outputs = [o for _, _, o in seen.values()]
    each = [torch.autograd.grad(F.cross_entropy(logits, torch.full((n,), c), reduction="sum"), outputs, retain_graph=True) for c in range(logits.shape[1])]
    for j, (k, (m, x, o)) in enumerate(seen.items()):
        grads = [(p[:, c], g[j]) for c, g in enumerate(each)]
        if isinstance(m, torch.nn.BatchNorm2d):
            y = (x - m.running_mean[:, None, None]) / (m.running_var[:, None, None] + m.eps).sqrt()
            out[f"kfac.{k}.weight"] = first_rows(sum(w @ (g * y).sum((2, 3)).square() for w, g in grads) / n)
            out[f"kfac.{k}.bias"] = first_rows(sum(w @ g.sum((2, 3)).square() for w, g in grads) / n)
            continue
        if isinstance(m, torch.nn.Conv2d):
            patches = F.unfold(x, m.kernel_size, padding=m.padding, stride=m.stride).transpose(1, 2).flatten(0, 1)
            rows = [(w, g.flatten(2).transpose(1, 2)) for w, g in grads]  # [n,T,K]
        else:
            patches, rows = x, [(w, g[:, None]) for w, g in grads]
        places = rows[0][1].shape[1]
        out[f"kfac.A.{k}.weight"] = first_rows(patches.T @ patches / n)
        out[f"kfac.G.{k}.weight"] = first_rows(sum(torch.einsum("n,nti,ntj->ij", w, g, g) for w, g in rows) / (n * places))
        if m.bias is not None:
            out[f"kfac.{k}.bias"] = first_rows(sum(torch.einsum("n,ni,nj->ij", w, g.sum(1), g.sum(1)) for w, g in rows) / n)


def answers(net, inputs, mode, damping=None):
    convnets.set_mode(net, mode)
    c = Curvature(net, inputs)
    if damping is None:
        damping = float(f"{2 * max(-c.least(), 0) + DAMPING:.2g}")
    out = {}
    c.split("ggnvp", c.b.T @ (c.b @ c.v) * c.n, out)
    c.split("ihvp.ggn", c.ggn(DAMPING), out)
    c.split("ihvp.hessian", (c.dense if len(c.v) < 5000 else c.conjugate)(damping), out)
    if mode == "eval":
        kfac(net, inputs, out)
    return out, damping


def cases(out):
    for name, (_, spec) in convnets.CASES.items():
        yield name, convnets.modes(spec), lambda: load(name, spec, out, lambda s, mean, std: ConvNet(**s, mean=mean, std=std))
    name, _, spec = RESNET
    yield name, networks.modes(spec), lambda: load(name, spec, out, lambda s, mean, std: networks.networks_torch.build(**s, mean=mean, std=std))


def resnet(out):
    name, seed, spec = RESNET
    net, inputs = networks.problem(seed, spec)
    about = {"generator": "bench/vectors_curvature_torch.py", "generator_version": VERSION, "case": name, "seed": str(seed), "torch": torch.__version__.split("+")[0]}
    save_file(net.tensors(), out / f"{name}.model.safetensors", {**net.metadata(), **about})
    save_file(inputs, out / f"{name}.in.safetensors", about)


def main():
    here = pathlib.Path(__file__).resolve().parent
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", type=pathlib.Path, default=here.parent / "gocp/nn/testdata")
    ap.add_argument("--check", action="store_true", help="write nothing; compare with the committed answers")
    args = ap.parse_args()
    torch.set_num_threads(1)
    if not args.check:
        resnet(args.out)
    for name, modes, read in cases(args.out):
        for mode in modes:
            file = args.out / f"{name}.{mode}.curvature.safetensors"
            if not args.check:
                tensors, damping = answers(*read(), mode)
                meta = {"generator": "bench/vectors_curvature_torch.py", "generator_version": VERSION, "case": name, "mode": mode,
                        "damping.ggn": f"{DAMPING:g}", "damping.hessian": f"{damping:g}", "torch": torch.__version__.split("+")[0]}
                save_file(tensors, file, meta)
                print(f"{name} {mode}: damping of the Hessian {damping:g}", flush=True)
                continue
            with safe_open(file, "pt") as f:
                damping = float(f.metadata()["damping.hessian"])
            old, (new, _) = load_file(file), answers(*read(), mode, damping)
            convnets.as_committed(f"{name} {mode}", old, new, 1e-6)


if __name__ == "__main__":
    main()
