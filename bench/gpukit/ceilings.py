"""What this GPU does at most, through PyTorch: a large copy on the device, large products.

ceilings.py OUT.json: medians over repeats by device events, on random data (zeros run faster).
"""

import json
import statistics
import sys

import torch


def median_ms(f, repeats=12):
    for _ in range(3):
        f()
    times = []
    for _ in range(repeats):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        f()
        b.record()
        torch.cuda.synchronize()
        times.append(a.elapsed_time(b))
    return statistics.median(times)


def main(path):
    props = torch.cuda.get_device_properties(0)
    floats = min(1 << 30, props.total_memory // 16)
    source = torch.randn(floats, device="cuda")
    target = torch.empty_like(source)
    out = {"name": props.name, "multiprocessors": props.multi_processor_count, "torch": torch.__version__}
    out["copy_tb_s"] = 2 * 4 * floats / median_ms(lambda: target.copy_(source)) * 1e-9  # read and written
    del source, target
    n = 8192
    for name, dtype, tf32 in (("bf16", torch.bfloat16, True), ("tf32", torch.float32, True), ("f32", torch.float32, False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(n, n, device="cuda").to(dtype) for _ in range(2))
        out[f"{name}_tflop_s"] = 2 * n**3 / median_ms(lambda: a @ b) * 1e-9
    with open(path, "w") as f:
        json.dump(out, f, indent=1)
    print(json.dumps(out))


if __name__ == "__main__":
    main(sys.argv[1])
