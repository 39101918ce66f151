"""gocp beside PyTorch on one GPU: every pass of bench/peers_torch.py, alternately.

PyTorch's best form is found first, in float32 with TF32 products and in bfloat16 autocast: double
backward or jvp of grad, NCHW or channels_last, eager, compiled, or recorded as a CUDA graph. A form
that PyTorch refuses is noted and left out. Then rounds alternate both sides; a round's figure is the
median of its steps by device events (PyTorch) or until the stream is done (gocp), a ratio PyTorch's over
gocp's in the same round. Rows are written as they come: peers.json, peers.md.
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

NAMES = {"craft": "crafting step", "hvp": "Hessian-vector product", "ggn": "Gauss–Newton product", "train": "training step", "norms": "per-sample norms"}
SIDES = (("f32", "tf32", False), ("bf16", "bf16", True))  # name, gocp's precision, autocast


def compiled(problem, what, how):
    """The pass with its differentiable part compiled."""
    if what == "train":
        return peers_torch.HOWS[what][0](problem, how + ", compiled")
    loss = problem.loss
    problem.loss = torch.compile(loss, dynamic=False)
    step = peers_torch.HOWS[what][0](problem, how)
    # Double backward goes through compiled code only if the whole step is compiled with it.
    return torch.compile(step, dynamic=False) if how == "jvp of grad" else step


def graphed(step):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def build(what, case, form, autocast):
    how, channels_last, way = form
    problem = peers_torch.Problem(case, channels_last, autocast, "cuda")
    if way == "compiled":
        return compiled(problem, what, how)
    step = peers_torch.HOWS[what][0](problem, how)
    return graphed(step) if way == "graph" else step


def steps_ms(step, seconds, least=5):
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    out, begin = [], time.perf_counter()
    while len(out) < least or time.perf_counter() - begin < seconds:
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        step()
        b.record()
        torch.cuda.synchronize()
        out.append(a.elapsed_time(b))
    return out


def best(what, case, autocast, compile_too):
    table, winner = {}, None
    ways = ("eager", "graph") + (("compiled",) if compile_too else ())
    for form in itertools.product(peers_torch.HOWS[what][1], (False, True), ways):
        name = f"{form[0]}, {'channels_last' if form[1] else 'NCHW'}, {form[2]}"
        try:
            step = build(what, case, form, autocast)
            table[name] = statistics.median(steps_ms(step, 0.05))
        except Exception as err:  # whatever this PyTorch does not do; torch._dynamo has errors of its own
            table[name] = str(err).strip().splitlines()[0][:120] if str(err).strip() else type(err).__name__
            torch.cuda.synchronize()
            continue
        if winner is None or table[name] < winner[0]:
            winner = (table[name], name, form, step)
    return winner, table


def gocp(binary, what, case, precision, seconds, beside=1):
    done = subprocess.run(
        [binary, "bench", "passes", "--json", "--shape", case, "--pass", what, "--precision", precision, "--beside", str(beside), "--seconds", str(seconds)],
        capture_output=True, text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    row = json.loads(done.stdout)[0]
    if row["wrong"]:
        raise RuntimeError(f"{what} {case} {precision}: the result's check fails: error {row['error']:.1e}")
    return row


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(args, what, case):
    row = {"pass": what, "case": case, "batch": peers_torch.BATCH}
    for name, precision, autocast in SIDES:
        winner, table = best(what, case, autocast, args.compile)
        row[f"torch_{name}_forms"] = table
        if winner is None:
            continue
        theirs, ours = [], []
        for _ in range(args.rounds):
            theirs.append(statistics.median(steps_ms(winner[3], args.seconds)))
            ours.append(gocp(args.gocp, what, case, precision, args.seconds))
        medians = [r["median_ms"] for r in ours]
        row[name] = {
            "form": winner[1],
            "torch_ms": spread(theirs), "gocp_ms": spread(medians), "gocp_precision": precision,
            "ratio": spread([a / b for a, b in zip(theirs, medians)]),
            "gocp_tflop_s": statistics.median(r["gflop_s"] for r in ours) * 1e-3,
            "error": max(r["error"] for r in ours),
        }
        if what == "craft":
            row[name]["poisons_s_of_250_steps"] = peers_torch.BATCH / (row[name]["gocp_ms"]["median"] * 1e-3 * 250)
            row[name]["beside_ms"] = {n: gocp(args.gocp, what, case, precision, args.seconds, n)["median_ms"] for n in (1, 2, 4, 8)}
        del winner
        torch.cuda.empty_cache()
    return row


def markdown(result, ceilings):
    show = lambda r: f"{r['median']:.2f} ({r['min']:.2f}–{r['max']:.2f})"
    lines = ["| network | pass | precision | PyTorch ms | its form | gocp ms | ratio | TFLOP/s | of the ceiling |", "|---" * 9 + "|"]
    for row in result["rows"]:
        for name, precision, _ in SIDES:
            if r := row.get(name):
                top = ceilings.get(f"{precision}_tflop_s")
                share = f"{r['gocp_tflop_s'] / top:.1%}" if top else "-"
                lines.append(
                    f"| {row['case']} | {NAMES[row['pass']]} | {precision} | {r['torch_ms']['median']:.3f} | {r['form']} | "
                    f"{r['gocp_ms']['median']:.3f} | {show(r['ratio'])} | {r['gocp_tflop_s']:.1f} | {share} |"
                )
    m = result["machine"]
    lines += ["", f"{m['gpu']}, driver and versions in peers.json; PyTorch {m['torch']}; {m['rounds']} rounds; ratio: PyTorch's time over gocp's, median (smallest–largest round)."]
    return "\n".join(lines) + "\n"


def main():
    ap = argparse.ArgumentParser(description="gocp beside PyTorch on a GPU")
    ap.add_argument("--gocp", required=True)
    ap.add_argument("--out", type=pathlib.Path, required=True)
    ap.add_argument("--ceilings", type=pathlib.Path)
    ap.add_argument("--minutes", type=float, default=5)
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--seconds", type=float, default=0.2)
    ap.add_argument("--no-compile", dest="compile", action="store_false")
    args = ap.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    ceilings = {}
    with contextlib.suppress(OSError, TypeError, ValueError):
        ceilings = json.loads(args.ceilings.read_text())
    version = json.loads(subprocess.run([args.gocp, "version", "--json"], capture_output=True, text=True, check=True).stdout)
    result = {"machine": {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "rounds": args.rounds, "gocp": version, "ceilings": ceilings}, "rows": []}
    begin, failed = time.monotonic(), False
    for what, case in itertools.product(peers_torch.PASSES, peers_torch.CASES):
        if time.monotonic() - begin > 60 * args.minutes:
            print(f"no time is left for {case} {what} and what comes after", flush=True)
            break
        try:
            result["rows"].append(compare(args, what, case))
        except RuntimeError as err:
            print(f"{case} {what}: {err}", flush=True)
            failed = True
            continue
        (args.out / "peers.json").write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "peers.md").write_text(markdown(result, ceilings))
        print(case, what, json.dumps({k: v.get("ratio") for k, v in result["rows"][-1].items() if isinstance(v, dict) and "ratio" in v}), flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
