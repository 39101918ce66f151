"""What this GPU does at most, through PyTorch: a large copy on the device, large products.

ceilings.py OUT.json [--device cpu]: medians over repeats, on random data (zeros run faster). On a CPU
sizes are tiny: there it is rehearsed.
"""

import argparse
import json
import pathlib
import statistics

import torch

from timing import Clock


def main():
    ap = argparse.ArgumentParser(description="the ceilings of a GPU")
    ap.add_argument("out", type=pathlib.Path)
    ap.add_argument("--device", default="cuda")
    args = ap.parse_args()
    clock = Clock(args.device)
    median = lambda f: statistics.median(clock.steps(f, 0, 12))
    out = {"torch": torch.__version__} | clock.about()
    floats, n = (1 << 16, 64) if args.device == "cpu" else (min(1 << 30, clock.memory() // 16), 8192)
    source = torch.randn(floats, device=args.device)
    target = torch.empty_like(source)
    out["copy_tb_s"] = 2 * 4 * floats / median(lambda: target.copy_(source)) * 1e-9  # read and written
    del source, target
    for name, dtype, tf32 in (("bf16", torch.bfloat16, True), ("tf32", torch.float32, True), ("f32", torch.float32, False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(n, n, device=args.device).to(dtype) for _ in range(2))
        out[f"{name}_tflop_s"] = 2 * n**3 / median(lambda: a @ b) * 1e-9
    args.out.write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out))


if __name__ == "__main__":
    main()
