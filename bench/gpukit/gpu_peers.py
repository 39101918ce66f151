"""gocp beside PyTorch on one GPU: the passes of bench/peers_torch.py, alternately, most valuable first.

PyTorch's best form is found first, in bfloat16 autocast and in float32 with TF32 products: double
backward or jvp of grad, NCHW or channels_last, eager or recorded as a CUDA graph. With --compiled the
rows that are there get torch.compile as well, with what was best for each: compiling takes a minute of
which the other rows would have use. A form that PyTorch refuses is noted and left out. Then rounds
alternate both sides; a round's figure is the median of its steps by device events (PyTorch) or until the
stream is done (gocp), a ratio PyTorch's over gocp's in the same round. Rows are written as they come:
peers.json, peers.md. --device cpu rehearses all that but the times.
"""

import argparse
import contextlib
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import time
import warnings

here = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]
warnings.filterwarnings("ignore")

import torch

import peers_torch
from timing import Clock

NAMES = {"craft": "crafting step", "hvp": "Hessian-vector product", "ggn": "Gauss–Newton product", "train": "training step", "norms": "per-sample norms"}
SIDES = (("bf16", "bf16", True), ("f32", "tf32", False))  # name, gocp's precision, autocast
PLAN = [
    ("craft", "resnet18-w64", 256), ("hvp", "resnet18-w64", 256), ("craft", "32x32x3-w64", 128), ("hvp", "32x32x3-w64", 128),
    ("ggn", "resnet18-w64", 256), ("train", "resnet18-w64", 256), ("train", "32x32x3-w64", 128), ("norms", "32x32x3-w64", 128), ("norms", "resnet18-w64", 128), ("ggn", "32x32x3-w64", 128),
] + [(what, case, 128) for case in ("28x28x1-w32", "32x32x3-w16-stride") for what in peers_torch.PASSES]  # fmt: skip


class Torch:
    """PyTorch's side."""

    def __init__(self, args):
        self.clock, self.args = Clock(args.device), args

    def build(self, what, case, batch, form, autocast):
        how, channels_last, way = form
        problem = peers_torch.Problem(case, channels_last, autocast, self.args.device, batch)
        if way == "compiled":
            return self.compiled(problem, what, how)
        step = peers_torch.HOWS[what][0](problem, how)
        return self.clock.recorded(step) if way == "graph" else step

    def compiled(self, problem, what, how):
        """The pass with its differentiable part compiled."""
        compile_ = lambda f: torch.compile(f, dynamic=False, backend=self.args.backend)
        if what == "train":
            problem.net = compile_(problem.net)
            return peers_torch.HOWS[what][0](problem, how)
        if how.startswith("jvp") or what in ("ggn", "norms"):  # the whole step
            return compile_(peers_torch.HOWS[what][0](problem, how))
        problem.loss = compile_(problem.loss)  # double backward does not go through a step compiled whole
        return peers_torch.HOWS[what][0](problem, how)

    def timed(self, what, case, batch, form, autocast, table):
        """(ms, form, step), or None if PyTorch refuses; what it said is in the table."""
        name = f"{form[0]}, {'channels_last' if form[1] else 'NCHW'}, {form[2]}"
        try:
            step = self.build(what, case, batch, form, autocast)
            table[name] = statistics.median(self.clock.steps(step, 0.03, 3))
            return table[name], name, form, step
        except Exception as err:  # whatever this PyTorch does not do; torch._dynamo has errors of its own
            said = str(err).strip().splitlines() or [type(err).__name__]
            table[name] = said[0][:120]
            self.clock.sync()
            return None

    def best(self, what, case, batch, autocast):
        table, winner = {}, None
        for form in itertools.product(peers_torch.HOWS[what][1], (False, True), ("eager", "graph")):
            found = self.timed(what, case, batch, form, autocast, table)
            if found and (winner is None or found[0] < winner[0]):
                winner = found
        return winner, table


def gocp(args, what, case, batch, precision, beside=1):
    done = subprocess.run(
        [args.gocp, "bench", "passes", "--json", "--shape", case, "--pass", what, "--batch", str(batch), "--precision", precision, "--beside", str(beside), "--seconds", str(args.seconds)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    row = json.loads(done.stdout)[0]
    if row["wrong"]:
        raise RuntimeError(f"{what} {case} {precision}: the result's check fails: error {row['error']:.1e}")
    return row


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def rounds(args, peer, winner, what, case, batch, precision):
    theirs, ours = [], []
    for _ in range(args.rounds):
        theirs.append(statistics.median(peer.clock.steps(winner[3], args.seconds, 5)))
        ours.append(gocp(args, what, case, batch, precision))
    medians = [r["median_ms"] for r in ours]
    return {
        "form": winner[1], "how": list(winner[2]),
        "torch_ms": spread(theirs), "gocp_ms": spread(medians), "gocp_precision": precision,
        "ratio": spread([a / b for a, b in zip(theirs, medians)]),
        "gocp_tflop_s": statistics.median(r["gflop_s"] for r in ours) * 1e-3,
        "error": max(r["error"] for r in ours),
    }  # fmt: skip


def streams(args, side, what, case, batch):
    """How many streams fill the chip: a step's time where several run side by side."""
    ms = {n: gocp(args, what, case, batch, side["gocp_precision"], n)["median_ms"] for n in args.beside}
    side["beside_ms"] = ms
    side["poisons_s_of_250_steps"] = batch / (min(ms.values()) * 1e-3 * 250)


def markdown(result, ceilings):
    show = lambda r: f"{r['median']:.2f} ({r['min']:.2f}–{r['max']:.2f})"
    lines = ["| network | batch | pass | precision | PyTorch ms | its form | gocp ms | ratio | TFLOP/s | of the ceiling | error |", "|---" * 11 + "|"]
    for row in result["rows"]:
        for name, precision, _ in SIDES:
            if r := row.get(name):
                top = ceilings.get(f"{precision}_tflop_s")
                share = f"{r['gocp_tflop_s'] / top:.1%}" if top else "-"
                lines.append(
                    f"| {row['case']} | {row['batch']} | {NAMES[row['pass']]} | {precision} | {r['torch_ms']['median']:.3f} | {r['form']} | "
                    f"{r['gocp_ms']['median']:.3f} | {show(r['ratio'])} | {r['gocp_tflop_s']:.1f} | {share} | {r['error']:.1e} |"
                )
    m = result["machine"]
    lines += ["", f"{m['name']}, PyTorch {m['torch']}; {m['rounds']} rounds; ratio: PyTorch's time over gocp's, median (smallest–largest round)."]
    for row in result["rows"]:
        for name, _, _ in SIDES:
            if "beside_ms" in row.get(name, {}):
                ms = ", ".join(f"{n}: {t:.3f}" for n, t in row[name]["beside_ms"].items())
                lines.append(f"{row['case']}, batch {row['batch']}, {name}: ms a crafting step by streams side by side: {ms}; {row[name]['poisons_s_of_250_steps']:.0f} poisons a second of 250 steps.")
    return "\n".join(lines) + "\n"


class Results:
    """peers.json and peers.md, written after each row."""

    def __init__(self, args, clock):
        self.out, self.ceilings, self.failed = args.out, {}, False
        with contextlib.suppress(OSError, TypeError, ValueError):
            self.ceilings = json.loads(args.ceilings.read_text())
        version = json.loads(subprocess.run([args.gocp, "version", "--json"], capture_output=True, text=True, check=True).stdout)
        self.all = {"machine": clock.about() | {"torch": torch.__version__, "rounds": args.rounds, "gocp": version, "ceilings": self.ceilings}, "rows": []}
        if args.compiled:
            self.all = json.loads((self.out / "peers.json").read_text())

    def write(self):
        (self.out / "peers.json").write_text(json.dumps(self.all, indent=1) + "\n")
        (self.out / "peers.md").write_text(markdown(self.all, self.ceilings))

    @contextlib.contextmanager
    def noted(self, *what):
        """A failure is printed, and the next row comes."""
        try:
            yield
        except RuntimeError as err:
            print(*what, err, flush=True)
            self.failed = True


def eager(args, peer, results, enough):
    for what, case, batch in args.plan:
        row = {"pass": what, "case": case, "batch": batch}
        results.all["rows"].append(row)
        for name, precision, autocast in SIDES:
            if enough():
                print(f"no time is left for {case} {what} {name} and what comes after", flush=True)
                return
            with results.noted(case, what, name):
                winner, row[f"torch_{name}_forms"] = peer.best(what, case, batch, autocast)
                if winner is None:  # functional transforms do not go with autocast everywhere: what it said is in peers.json
                    print(case, what, name, "PyTorch refuses every form", flush=True)
                    results.write()
                    continue
                row[name] = rounds(args, peer, winner, what, case, batch, precision)
                if what == "craft" and name == "bf16":
                    streams(args, row[name], what, case, batch)
                print(case, what, name, json.dumps(row[name]["ratio"]), flush=True)
            results.write()
            winner = None
            peer.clock.free()


def compiled(args, peer, results, enough):
    for row in results.all["rows"]:
        for name, precision, autocast in SIDES:
            if name not in row or any("compiled" in form for form in row[f"torch_{name}_forms"]):
                continue
            if enough():
                print(f"no time is left to compile {row['case']} {row['pass']} {name} and what comes after", flush=True)
                return
            what, case, batch = row["pass"], row["case"], row["batch"]
            how, channels_last, _ = row[name]["how"]
            with results.noted(case, what, name):
                table = row[f"torch_{name}_forms"]
                found = peer.timed(what, case, batch, (how, channels_last, "compiled"), autocast, table)
                if found and found[0] < row[name]["torch_ms"]["median"]:
                    more = {k: row[name][k] for k in ("beside_ms", "poisons_s_of_250_steps") if k in row[name]}
                    row[name] = rounds(args, peer, found, what, case, batch, precision) | more
                print(case, what, name, list(table.items())[-1], json.dumps(row[name]["ratio"]), flush=True)
            results.write()
            found = None
            peer.clock.free()


def main():
    ap = argparse.ArgumentParser(description="gocp beside PyTorch on a GPU")
    ap.add_argument("--gocp", required=True)
    ap.add_argument("--out", type=pathlib.Path, required=True)
    ap.add_argument("--ceilings", type=pathlib.Path)
    ap.add_argument("--for", dest="budget", type=float, default=240, metavar="SECONDS")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=0.2)
    ap.add_argument("--compiled", action="store_true", help="torch.compile for the rows of OUT/peers.json")
    ap.add_argument("--backend", default="inductor", help="of torch.compile")
    ap.add_argument("--device", default="cuda")
    ap.add_argument("--beside", type=int, nargs="+", default=[1, 2, 4, 8])
    ap.add_argument("--plan", nargs="+", help="rows as pass:case:batch", type=lambda t: (t.split(":")[0], t.split(":")[1], int(t.split(":")[2])), default=PLAN)
    args = ap.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    peer, begin = Torch(args), time.monotonic()
    results = Results(args, peer.clock)
    (compiled if args.compiled else eager)(args, peer, results, lambda: time.monotonic() - begin > args.budget)
    sys.exit(results.failed)


if __name__ == "__main__":
    main()
