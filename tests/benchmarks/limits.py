"""What this machine can do at most: arithmetic in a convolution and in a matrix product, memory bandwidth,
fresh memory."""

import time
from functools import partial

import torch
import torch.nn.functional as F


def waited(device):
    """Waits until a GPU has done all that it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def _best(function, device, rounds=7):
    function()
    times = []
    for _ in range(rounds):
        waited(device)
        began = time.perf_counter()
        function()
        waited(device)
        times.append(time.perf_counter() - began)
    return min(times)


def measured(device: str = "cpu") -> dict[str, float]:
    """GFLOP/s of a 3x3 convolution of 128 to 128 channels on 16 x 16 pixels and of a product of large square
    matrices; GB/s."""
    found, many = {}, 64 if device == "cpu" else 4096
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        maps = (
            torch.randn(many, 128, 16, 16, device=device)
            .to(dtype)
            .contiguous(memory_format=torch.channels_last)
        )
        weight = (
            torch.randn(128, 128, 3, 3, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
        )
        with torch.inference_mode():
            seconds = _best(partial(F.conv2d, maps, weight, padding=1), device)
        found[f"convolution_{name}_gflops"] = 2 * many * 256 * 128 * 128 * 9 / seconds / 1e9
        side = 1024 if device == "cpu" else 8192
        matrix = torch.randn(side, side, device=device).to(dtype)
        found[f"matrix_{name}_gflops"] = (
            2 * side**3 / _best(partial(torch.matmul, matrix, matrix), device) / 1e9
        )
    large = torch.randn(32 << 20, device=device)
    other = torch.empty_like(large)
    found["copy_gb_s"] = 2 * large.nbytes / _best(lambda: other.copy_(large), device) / 1e9
    if device == "cpu":
        found["fresh_memory_gb_s"] = (
            large.nbytes / _best(lambda: torch.empty(32 << 20).fill_(1.0), device, 3) / 1e9
        )
    return {name: round(value, 1) for name, value in found.items()}
