"""PyTorch's side of `make bench-peers`: the four passes, each in every form worth trying.

A *form* is one way to run the pass: double backward or jvp of grad, NCHW or channels_last, eager
or compiled, one at a time or one a core side by side. best() times all forms and returns the
fastest, so that gocp is held against PyTorch at its best.
"""

import contextlib
import itertools
import multiprocessing
import sys
import threading
import time
import warnings

import torch
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F

import networks_torch
from convnet_torch import ConvNet

CASES = {
    "28x28x1-w32": dict(width=32, shape=(1, 28, 28), stem="pool"),
    "32x32x3-w64": dict(width=64, shape=(3, 32, 32), stem="pool"),
    "32x32x3-w16-stride": dict(width=16, shape=(3, 32, 32), stem="stride"),
}
LARGE = {"resnet18-w64": dict(arch="resnet18", width=64, shape=(3, 32, 32), stem="cifar")}  # for GPUs
PASSES = ("craft", "hvp", "ggn", "train", "norms")
BATCH = 128


class Problem:
    """A model, a batch and a direction, in one memory format, on a device. Batch norm has running statistics."""

    def __init__(self, case, channels_last, autocast, device="cpu", batch=BATCH):
        torch.manual_seed(1)
        spec = CASES.get(case) or LARGE[case]
        self.device = device
        self.net = (networks_torch.build if "arch" in spec else ConvNet)(classes=10, **spec).to(device).eval()
        self.x = torch.rand(batch, *spec["shape"], device=device)
        self.y = torch.randint(0, 10, (batch,), device=device)
        if channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
            self.x = self.x.contiguous(memory_format=torch.channels_last)
        self.autocast = autocast
        self.params = dict(self.net.named_parameters())
        self.v = {k: torch.randn_like(p) for k, p in self.params.items()}

    def amp(self):
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.autocast else contextlib.nullcontext()

    def loss(self, params, x, y):
        with self.amp():
            return F.cross_entropy(functional_call(self.net, params, (x,)).float(), y, reduction="sum")


def cosine_direction(g, u):
    """d cos(u, g) / dg, per parameter: the v of the mixed derivative."""
    dot = sum((a * b).sum() for a, b in zip(g, u))
    nu = sum(a.square().sum() for a in u).sqrt()
    ng = sum(a.square().sum() for a in g).sqrt()
    return [b / (nu * ng) - a * (dot / (nu * ng**3)) for a, b in zip(g, u)]


def sign_adam(state, gradient, radius=16 / 255, lr=0.1 * 16 / 255):
    s = gradient.sign()
    state["t"] += 1
    state["m"].mul_(0.9).add_(s, alpha=0.1)
    state["s"].mul_(0.999).addcmul_(s, s, value=0.001)
    step = (state["m"] / (1 - 0.9 ** state["t"])) / ((state["s"] / (1 - 0.999 ** state["t"])).sqrt() + 1e-8)
    d = (state["delta"] - lr * step).clamp_(-radius, radius)
    state["delta"] = (state["base"] + d).clamp_(0, 1) - state["base"]


def craft(p, how):
    """One first-order crafting step: gradient sum, cosine, mixed derivative, signed Adam."""
    state = dict(base=p.x, delta=torch.zeros_like(p.x), m=torch.zeros_like(p.x), s=torch.zeros_like(p.x), t=0)
    names, values = list(p.params), list(p.params.values())
    u = [p.v[k] for k in names]
    frozen = {k: t.detach() for k, t in p.params.items()}

    def double_backward():
        x = (state["base"] + state["delta"]).requires_grad_()
        g = torch.autograd.grad(p.loss(p.params, x, p.y), values, create_graph=True)
        dot = sum((a * b).sum() for a, b in zip(g, u))
        cos = dot / (sum(a.square().sum() for a in g).sqrt() * sum(a.square().sum() for a in u).sqrt())
        sign_adam(state, torch.autograd.grad(cos, x)[0])

    def jvp_of_grad():
        x = state["base"] + state["delta"]
        g = grad(p.loss)(frozen, x, p.y)
        v = dict(zip(names, cosine_direction([g[k] for k in names], u)))
        inner = lambda q: grad(p.loss, argnums=1)(q, x, p.y)
        sign_adam(state, jvp(inner, (frozen,), (v,))[1])

    return {"double backward": double_backward, "jvp of grad": jvp_of_grad}[how]


def hvp(p, how):
    values = list(p.params.values())
    frozen = {k: t.detach() for k, t in p.params.items()}

    def double_backward():
        g = torch.autograd.grad(p.loss(p.params, p.x, p.y), values, create_graph=True)
        torch.autograd.grad(g, values, grad_outputs=list(p.v.values()))

    def jvp_of_grad():
        jvp(lambda q: grad(p.loss)(q, p.x, p.y), (frozen,), (p.v,))

    return {"double backward": double_backward, "jvp of grad": jvp_of_grad}[how]


def ggn(p, how):
    """The Gauss-Newton matrix of the summed loss times v: J v, the loss's Hessian in the logits, and back."""
    names, values = list(p.params), list(p.params.values())
    frozen, v = {k: t.detach() for k, t in p.params.items()}, [p.v[k] for k in names]

    def logits(params):
        with p.amp():
            return functional_call(p.net, params, (p.x,)).float()

    def outer(z, zdot):
        q = z.softmax(1)
        return q * (zdot - (q * zdot).sum(1, keepdim=True))

    def jvp_vjp():
        z, back, zdot = *torch.func.vjp(logits, frozen), jvp(logits, (frozen,), (p.v,))[1]
        back(outer(z, zdot))

    def double_backward():  # J v as the derivative of Jᵀu in u, as BackPACK and curvlinops have it
        z = logits(p.params)
        u = torch.zeros_like(z, requires_grad=True)
        g = torch.autograd.grad(z, values, grad_outputs=u, create_graph=True)
        zdot = torch.autograd.grad(g, u, grad_outputs=v, retain_graph=True)[0]
        torch.autograd.grad(z, values, grad_outputs=outer(z.detach(), zdot))

    return {"jvp and vjp": jvp_vjp, "double backward": double_backward}[how]


def train(p, how):
    fused = how.startswith("fused")
    opt = torch.optim.SGD(p.net.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4, fused=fused, foreach=not fused)
    p.net.train()
    net = torch.compile(p.net) if how.endswith("compiled") else p.net

    def step():
        with p.amp():
            loss = F.cross_entropy(net(p.x).float(), p.y)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()

    return step


def norms(p, how):
    frozen = {k: t.detach() for k, t in p.params.items()}
    chunk = {"vmap(grad)": None, "vmap(grad), chunks of 16": 16}.get(how, 0)

    def one(params, x, y):
        return p.loss(params, x[None], y[None])

    def functional():
        g = vmap(grad(one), in_dims=(None, 0, 0), chunk_size=chunk)(frozen, p.x, p.y)
        return sum(t.flatten(1).square().sum(1) for t in g.values())

    def loop():
        out = []
        for i in range(len(p.x)):
            g = torch.autograd.grad(p.loss(p.params, p.x[i : i + 1], p.y[i : i + 1]), list(p.params.values()))
            out.append(sum(t.square().sum() for t in g))
        return torch.stack(out)

    return loop if how == "loop" else functional


HOWS = {
    "craft": (craft, ("double backward", "jvp of grad")),
    "hvp": (hvp, ("double backward", "jvp of grad")),
    "ggn": (ggn, ("double backward", "jvp and vjp")),
    "train": (train, ("fused", "foreach")),
    "norms": (norms, ("vmap(grad)", "vmap(grad), chunks of 16")),
}


def forms(what, cpus, beside, compiled=False):
    """(how, channels_last, threads, beside): one at a time on all cores or one, or one a core side by side."""
    hows = HOWS[what][1]
    if what == "train" and compiled:
        hows += ("fused, compiled",)
    threads = (1,) if beside > 1 else sorted({1, cpus})
    return [form + (beside,) for form in itertools.product(hows, (False, True), threads)]


def label(form):
    how, channels_last, threads, beside = form
    return f"{how}, {'channels_last' if channels_last else 'NCHW'}, {beside}×{threads} thread{'s' if threads > 1 else ''}"


def time_steps(what, case, form, autocast, seconds, least, hopeless, wait):
    """Times of steps in milliseconds, and the processor time of one. With several side by side, a step's
    own time is shared among them. A form whose second step takes more than hopeless is timed no more."""
    how, channels_last, threads, beside = form
    torch.set_num_threads(threads)
    step = HOWS[what][0](Problem(case, channels_last, autocast), how)
    step()
    begin, cpu = time.perf_counter(), time.process_time()
    step()
    warm = (time.perf_counter() - begin) * 1e3 / beside
    wait()
    if warm > hopeless:
        return [warm], (time.process_time() - cpu) * 1e3
    out, begin, cpu = [], time.perf_counter(), time.process_time()
    while len(out) < least or time.perf_counter() - begin < seconds:
        t = time.perf_counter()
        step()
        out.append((time.perf_counter() - t) * 1e3 / beside)
    return out, (time.process_time() - cpu) * 1e3 / len(out)


HOPELESS = 3  # times the best so far
UNSUPPORTED = (RuntimeError, NotImplementedError)


def serve(pipe, start):
    """A process of its own: forward mode and PyTorch's threads do not mix with others in one process."""
    warnings.filterwarnings("ignore")
    while task := pipe.recv():
        try:
            pipe.send(time_steps(*task, start.wait))
        except UNSUPPORTED as err:
            start.abort()
            pipe.send(err)
        except threading.BrokenBarrierError:
            pipe.send(([], 0.0))


class Crew:
    """beside processes that run one form at the same time, or this process alone."""

    def __init__(self, beside):
        self.workers = []
        if beside == 1:
            return
        context = multiprocessing.get_context("spawn")
        self.start = context.Barrier(beside)
        for _ in range(beside):
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, self.start), daemon=True)
            process.start()
            self.workers.append((process, ours))

    def measure(self, what, case, form, autocast, seconds, least=3, hopeless=float("inf")):
        if not self.workers:
            return time_steps(what, case, form, autocast, seconds, least, hopeless, lambda: None)
        self.start.reset()
        for _, pipe in self.workers:
            pipe.send((what, case, form, autocast, seconds, least, hopeless))
        parts = [pipe.recv() for _, pipe in self.workers]
        for part in parts:
            if isinstance(part, Exception):
                raise part
        return [t for times, _ in parts for t in times], sum(cpu for _, cpu in parts) / len(parts)

    def close(self):
        for process, pipe in self.workers:
            pipe.send(None)
            process.join()


def best(crew, what, case, cpus, autocast, seconds, compiled=False, say=lambda text: None):
    """(form, {label: ms}) of the fastest form: by its fastest step, which a busy moment does not change."""
    table, winner = {}, None
    for form in forms(what, cpus, max(1, len(crew.workers)), compiled):
        try:
            hopeless = HOPELESS * table[label(winner)] if winner else float("inf")
            ms = min(crew.measure(what, case, form, autocast, seconds, 2, hopeless)[0])
        except UNSUPPORTED as err:
            say(f"  {label(form)}: {str(err).splitlines()[0][:100]}")
            continue
        say(f"  {label(form)}: {ms:.1f} ms")
        table[label(form)] = ms
        if winner is None or ms < table[label(winner)]:
            winner = form
    return winner, table


if __name__ == "__main__":  # PyTorch alone
    warnings.filterwarnings("ignore")
    cpus = torch.get_num_threads()
    for beside in sorted({1, cpus}):
        crew = Crew(beside)
        for case, what, autocast in itertools.product(CASES, PASSES, (False, True)):
            print(f"{case} {what} {'bf16 autocast' if autocast else 'f32'}", flush=True)
            best(crew, what, case, cpus, autocast, 0.5, "--compile" in sys.argv, lambda t: print(t, flush=True))
        crew.close()
