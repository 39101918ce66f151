"""gocp beside PyTorch: `make bench-peers`.

For every network and pass: PyTorch's fastest form is found, then PyTorch and gocp run alternately,
a round of each, in one process tree; the ratio of their medians is taken in each round. Printed is
the median ratio with its smallest and largest round. Two arrangements: one step at a time on all
cores, and one a core side by side (time per step, all steps counted).
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import warnings

warnings.filterwarnings("ignore")
here = pathlib.Path(__file__).resolve().parent

import torch

import peers_torch

# What gocp is meant to reach against PyTorch in float32: (f32, bf16).
GOALS = {"craft": (2.0, 3.5), "hvp": (1.8, 3.0), "ggn": (3.0, 3.0), "train": (1.5, 2.5), "norms": (30.0, 30.0)}
NAMES = {"craft": "crafting step", "hvp": "Hessian-vector product", "ggn": "Gauss–Newton product", "train": "training step", "norms": "per-sample norms"}


def gocp(args, what, case, precision, beside, seconds):
    cmd = [args.gocp, "bench", "passes", "--json", "--shape", case, "--pass", what, "--precision", precision]
    cmd += ["--beside", str(beside), "--seconds", str(seconds)]
    done = subprocess.run(cmd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(cmd)}: {done.stderr.strip()}")
    row = json.loads(done.stdout)[0]
    if row["wrong"]:
        sys.exit(f"{what} {case} {precision}: the result's check fails: error {row['error']:.1e}")
    return row


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(args, crew, what, case, beside, cpus, say):
    sides = {}
    for name, autocast in (("torch_f32", False), ("torch_bf16", True)):
        form, table = peers_torch.best(crew, what, case, cpus, autocast, args.search, args.compile, say)
        sides[name] = {"form": peers_torch.label(form), "forms_ms": table}
        sides[name]["run"] = lambda form=form, autocast=autocast: crew.measure(what, case, form, autocast, args.seconds)
    rows = []
    for precision in ("f32", "bf16"):
        def run(precision=precision):
            rows.append(gocp(args, what, case, precision, beside, args.seconds))
            return rows[-1]["times_ms"], rows[-1]["cpu_ms"]
        sides[f"gocp_{precision}"] = {"run": run}
    for side in sides.values():
        side.update(ms=[], cpu=[])
    for _ in range(args.rounds):
        for side in ("torch_f32", "gocp_f32", "torch_bf16", "gocp_bf16"):
            times, cpu = sides[side]["run"]()
            sides[side]["ms"].append(statistics.median(times))
            sides[side]["cpu"].append(cpu)
    out = {"pass": what, "case": case, "batch": peers_torch.BATCH, "beside": beside, "threads": max(1, cpus // beside)}
    for name, side in sides.items():
        out[name] = {**{k: v for k, v in side.items() if k != "run"}, **spread(side["ms"]), "cpu_median": statistics.median(side["cpu"])}
    for precision in ("f32", "bf16"):
        mine = [r for r in rows if r["precision"] == precision]
        for key in ("conv_share", "conv_gflop_s", "gflop_s", "error"):
            out[f"gocp_{precision}"][key] = statistics.median(r[key] for r in mine)
        out[f"gocp_{precision}"]["gflop"] = mine[0]["gflop"]
        ratio = lambda a, b, key="ms": spread([x / y for x, y in zip(sides[a][key], sides[b][key])])
        out[f"ratio_{precision}"] = ratio("torch_f32", f"gocp_{precision}")
        out[f"cpu_ratio_{precision}"] = ratio("torch_f32", f"gocp_{precision}", "cpu")
    out["ratio_bf16_both"] = ratio("torch_bf16", "gocp_bf16")
    out["goal"] = dict(zip(("f32", "bf16"), GOALS[what]))
    return out


def markdown(result):
    show = lambda r: f"{r['median']:.2f} ({r['min']:.2f}–{r['max']:.2f})"
    lines = []
    for beside in sorted({r["beside"] for r in result["rows"]}):
        rows = [r for r in result["rows"] if r["beside"] == beside]
        kind = f"{beside} side by side, {rows[0]['threads']} core each: ms per step, all steps counted" if beside > 1 else "one step at a time, all cores: ms"
        lines += ["", f"**{kind}**", ""]
        lines += ["| network, batch 128 | pass | PyTorch f32 | its form | gocp f32 | ratio | gocp bf16 | ratio | goals | PyTorch bf16 | ratio to gocp bf16 | ratio of processor time f32, bf16 | convolutions' share f32, bf16 | their GFLOP/s f32, bf16 |"]
        lines += ["|---" * 14 + "|"]
        for r in rows:
            f, b = r["gocp_f32"], r["gocp_bf16"]
            lines.append(
                f"| {r['case']} | {NAMES[r['pass']]} | {r['torch_f32']['median']:.1f} | {r['torch_f32']['form']} | {f['median']:.1f} | "
                f"{show(r['ratio_f32'])} | {b['median']:.1f} | {show(r['ratio_bf16'])} | {r['goal']['f32']:g}, {r['goal']['bf16']:g} | "
                f"{r['torch_bf16']['median']:.1f} | {show(r['ratio_bf16_both'])} | "
                f"{r['cpu_ratio_f32']['median']:.2f}, {r['cpu_ratio_bf16']['median']:.2f} | "
                f"{f['conv_share']:.0%}, {b['conv_share']:.0%} | {f['conv_gflop_s']:.0f}, {b['conv_gflop_s']:.0f} |"
            )
    m = result["machine"]
    lines += ["", f"{m['cpu']}, {m['cores']} cores; PyTorch {m['torch']}; {m['rounds']} rounds; ratios are PyTorch's time over gocp's, median (smallest–largest round)."]
    return "\n".join(lines).strip() + "\n"


def cpu_name():
    with contextlib.suppress(OSError):
        for line in open("/proc/cpuinfo"):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def main():
    ap = argparse.ArgumentParser(description="gocp beside PyTorch")
    ap.add_argument("--gocp", default=str(here.parent / "bin/gocp"))
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--seconds", type=float, default=0.7, help="of each side in a round")
    ap.add_argument("--search", type=float, default=0.4, help="seconds for each form of PyTorch in the search for the best")
    ap.add_argument("--cases", nargs="+", default=list(peers_torch.CASES), choices=peers_torch.CASES)
    ap.add_argument("--passes", nargs="+", default=list(peers_torch.PASSES), choices=peers_torch.PASSES)
    ap.add_argument("--beside", nargs="+", type=int, help="arrangements (default: 1, and one a core)")
    ap.add_argument("--compile", action="store_true", help="also try torch.compile for training (slow to start)")
    ap.add_argument("--out", type=pathlib.Path, default=here.parent / "runs/peers", help="folder for peers.json and peers.md")
    args = ap.parse_args()
    cpus = len(os.sched_getaffinity(0))
    say = lambda text: print(text, file=sys.stderr, flush=True)
    machine = {"cpu": cpu_name(), "cores": cpus, "torch": torch.__version__, "rounds": args.rounds, "load_before": os.getloadavg()[0]}
    machine["gocp"] = json.loads(subprocess.run([args.gocp, "version", "--json"], capture_output=True, text=True, check=True).stdout)
    result = {"machine": machine, "rows": []}
    args.out.mkdir(parents=True, exist_ok=True)
    for beside in args.beside or sorted({1, cpus}):
        crew = peers_torch.Crew(beside)
        for case in args.cases:
            for what in args.passes:
                say(f"{case}, {NAMES[what]}, {beside} at once")
                r = compare(args, crew, what, case, beside, cpus, say)
                say(f"  gocp f32 {r['gocp_f32']['median']:.1f} ms: ratio {r['ratio_f32']['median']:.2f}; bf16 {r['gocp_bf16']['median']:.1f} ms: {r['ratio_bf16']['median']:.2f}")
                result["rows"].append(r)
                (args.out / "peers.json").write_text(json.dumps(result, indent=2) + "\n")
        crew.close()
    text = markdown(result)
    (args.out / "peers.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
