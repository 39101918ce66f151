"""Writes python.safetensors with the safetensors library (0.8.0, torch 2.15.0): every type that
package safetensors reads, a scalar, an empty tensor, special values. Run in this folder."""
import torch
from safetensors.torch import save_file

x = torch.tensor([0.0, -0.0, 1.5, -2.25, float("inf"), float("-inf"), 6.0e-8, 65504.0])
save_file(
    {
        "f64": x.double().reshape(2, 4),
        "f32": x.reshape(4, 2),
        "f16": x.half(),
        "bf16": x.bfloat16().reshape(2, 2, 2),
        "i64": torch.tensor([-(2**63), -1, 0, 2**63 - 1]),
        "i32": torch.tensor([-(2**31), 7], dtype=torch.int32),
        "u8": torch.arange(5, dtype=torch.uint8),
        "bool": torch.tensor([True, False, True]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "names/are \"free\" é": torch.tensor([1.0]),
    },
    "python.safetensors",
    metadata={"arch": "convnet width=32 <é> \"q\""},
)
