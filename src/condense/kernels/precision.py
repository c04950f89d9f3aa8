"""In which type a network is computed, where a recipe or a protocol leaves it to the processor."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from condense import kernels
from condense.config import unknown

# Units that multiply matrices of bfloat16, on x86 and on Arm. Instructions for vectors of it alone
# (avx512_bf16) reach from half to twice the rate of float32, which has the way with a quarter of the products
# (`kernels.winograd`): bfloat16 is too coarse for that.
_UNITS = {"amx_bf16", "bf16"}


@cache
def processor_has_bfloat16() -> bool:
    """Whether this machine's CPU computes convolutions in bfloat16 faster than in float32."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = [
        line.split(":", 1)[1].split() for line in lines if line.split(":")[0].strip() in ("flags", "Features")
    ]
    return bool(flags) and bool(_UNITS & set(flags[0]))


def reduced(network: nn.Module, device: torch.device) -> torch.dtype:
    """The type for what may be computed in less than float32: bfloat16 if that is faster for `network` on
    `device`, else float32.

    On a CPU it is faster only with units for it, and with a kernel for the norms, which torch computes slowly
    in bfloat16.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    fast = processor_has_bfloat16() and kernels.state() == "compiled" and getattr(network, "fused", False)
    return torch.bfloat16 if fast else torch.float32


# What a recipe's `precision` computes in less than float32: the real side, which has no gradient, or both.
SIDES: dict[str, frozenset[str]] = {
    "fp32": frozenset(),
    "mixed": frozenset({"real"}),
    "bf16": frozenset({"real", "synthetic"}),
}


class Types:
    """The types in which `network` computes the sides of a step on `device`, as `precision` says. Raises
    UserError for another name.

    `used` holds the sides whose type was asked for: what nobody asks for is computed in float32.
    """

    def __init__(self, precision: str, network: nn.Module, device: torch.device):
        if precision not in SIDES:
            raise unknown("precision", precision, SIDES)
        self.precision, self._reduced = precision, reduced(network, device)
        self.used: dict[str, torch.dtype] = {}

    def of(self, side: str) -> torch.dtype:
        """The type of a side, "real" or "synthetic"."""
        self.used[side] = self._reduced if side in SIDES[self.precision] else torch.float32
        return self.used[side]

    def forgotten(self) -> set[str]:
        """The sides that `precision` speaks of and nobody asked for."""
        return set(SIDES[self.precision] - self.used.keys())

    def told(self) -> dict[str, str]:
        """The type of each side by name, as provenance."""
        return {
            side: str(self.used.get(side, torch.float32)).removeprefix("torch.")
            for side in ("real", "synthetic")
        }


def computed_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """Inside, layers are computed in `dtype`, bfloat16 or float32 (which changes nothing); parameters stay
    what they are."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


# Of a weight's rounding error, to the next; less or more left a greater error in embeddings of real images
_CARRIED = 0.7


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """`weight` in a smaller type, each window of a convolution with its rounding errors carried on along a
    winding path.

    Neighbouring pixels are alike, so errors of neighbouring weights that cancel leave a third less error in
    the mean embedding of many images than rounding each to the nearest; it is the error that no averaging
    removes.
    """
    if weight.ndim != 4:
        return weight.to(dtype)
    windows = weight.flatten(2)
    error = torch.zeros_like(windows[..., 0])
    result = torch.empty_like(windows, dtype=dtype)
    height, width = weight.shape[2:]
    for row in range(height):
        for col in range(width) if row % 2 == 0 else reversed(range(width)):
            index = row * width + col
            wanted = windows[..., index] + _CARRIED * error
            result[..., index] = wanted
            error = wanted - result[..., index]
    return result.view(weight.shape)
