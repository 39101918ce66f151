"""The same attack on victims of several frameworks: audits whose victims are trained by gocp and by the programs
of examples/victims, one after another, and a table of what came of them. bench/victims.sh runs it.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

here = pathlib.Path(__file__).resolve().parent
programs = here.parent / "examples" / "victims"
augment = ["--shift", "4", "--flip"]  # of the programs and, in rows that craft for it, of gocp
# Row: the program and its arguments (none: gocp trains the victims), flags of gocp audit.
rows = {
    "gocp": (None, []),
    "gocp, augmenting": (None, augment),
    "PyTorch": (["resnet_torch.py"], []),
    "PyTorch, augmenting; crafted without": (["resnet_torch.py", *augment], []),
    "PyTorch, augmenting; crafted for it": (["resnet_torch.py", *augment], augment),
    "random forest": (["forest_sklearn.py"], []),
    "JAX": (["convnet_jax.py"], []),
}

ap = argparse.ArgumentParser(description="one attack on victims of several frameworks; after -- come flags of gocp audit")
ap.add_argument("out", help="folder of the runs")
ap.add_argument("--gocp", required=True)
ap.add_argument("--only", nargs="+", choices=rows, metavar="ROW", help="of " + ", ".join(f'"{r}"' for r in rows))
ap.add_argument("--epochs", type=int, help="of the programs that have epochs")
ap.add_argument("--at-once", type=int, default=len(os.sched_getaffinity(0)), help="programs side by side, a thread each")
argv, flags = sys.argv[1:], []
if "--" in argv:
    argv, flags = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
args = ap.parse_args(argv)


def run(row):
    program, mine = rows[row]
    out = pathlib.Path(args.out) / row.replace("; ", "-").replace(", ", "-").replace(" ", "-")
    command = [args.gocp, "audit", "--out", str(out)]
    if out.exists():
        command += ["--resume"]
    else:
        command += mine + flags
        if program:
            words = [sys.executable, str(programs / program[0]), *program[1:]]
            if args.epochs and program[0] != "forest_sklearn.py":
                words += ["--epochs", str(args.epochs)]
            command += ["--victim-command", " ".join("'" + w.replace("'", "'\\''") + "'" for w in words)]
    if program:
        command += ["--victims-at-once", str(args.at_once)]
    print(f"\n== {row}: {' '.join(command)}", flush=True)
    if status := subprocess.run(command).returncode:
        sys.exit(status)
    return json.loads((out / "result.json").read_text())


def estimate(e):
    return f"{e['mean']:.2f} ± {e['se']:.2f}" if not isinstance(e["se"], str) else f"{e['mean']:.2f}"


results = {row: run(row) for row in args.only or rows}
print("\n| victims | benign size | attack | randun | reduction ratio, attack − randun | coverage | accuracy |\n|---|---|---|---|---|---|---|")
for row, r in results.items():
    s = r["summary"]
    by = {x["condition"]: x for x in s["rows"]}
    d = next(p for p in s["paired"] if p["quantity"] == "reduction" and (p["a"], p["b"]) == ("attack", "randun"))
    a = by["attack"]
    print(f"| {row} | {estimate(s['benign']['set_size'])} | {estimate(a['set_size'])} | {estimate(by['randun']['set_size'])} | {estimate(d)} "
          f"| {a['coverage']['mean']:.3f} | {a['accuracy']['mean']:.3f} |")
