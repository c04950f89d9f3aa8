"""What this machine can do at most: arithmetic in a convolution and in a matrix product, memory bandwidth, fresh memory."""

import time
from functools import partial

import torch
import torch.nn.functional as F


def _best(function, rounds=7):
    function()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def measured() -> dict[str, float]:
    """GFLOP/s of a 3x3 convolution of 128 to 128 channels on 16 x 16 pixels and of a product of 1024-square matrices; GB/s."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        maps = torch.randn(64, 128, 16, 16).to(dtype).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(128, 128, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            found[f"convolution_{name}_gflops"] = 2 * 64 * 256 * 128 * 128 * 9 / _best(partial(F.conv2d, maps, weight, padding=1)) / 1e9
        matrix = torch.randn(1024, 1024).to(dtype)
        found[f"matrix_{name}_gflops"] = 2 * 1024**3 / _best(partial(torch.matmul, matrix, matrix)) / 1e9
    large = torch.randn(32 << 20)
    other = torch.empty_like(large)
    found["copy_gb_s"] = 2 * large.nbytes / _best(lambda: other.copy_(large)) / 1e9
    found["fresh_memory_gb_s"] = large.nbytes / _best(lambda: torch.empty(32 << 20).fill_(1.0), 3) / 1e9
    return {name: round(value, 1) for name, value in found.items()}
