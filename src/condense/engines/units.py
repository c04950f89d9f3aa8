"""In which units an optimiser moves images: normalised values, or pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from condense.config import unknown
from condense.data.dataset import Images


class Units(Protocol):
    """How images become the values that are moved, and back. `low`, `high`: where pixels of 0 and 1 lie,
    (c, 1, 1) or (1, 1, 1)."""

    low: Tensor
    high: Tensor

    def values(self, images: Tensor) -> Tensor:
        """Normalised images (..., c, h, w) as values."""

    def images(self, values: Tensor) -> Tensor:
        """Values as normalised images; differentiable."""


def channelwise(level: float, data: Images, device: torch.device) -> Tensor:
    """The normalised value of a pixel `level`, for every channel: (c,)."""
    constants = zip(data.mean, data.std, strict=True)
    return torch.tensor([(level - mean) / std for mean, std in constants], device=device)


class Normalised:
    """Normalised values themselves."""

    def __init__(self, data: Images, device: torch.device):
        self.low, self.high = (channelwise(level, data, device)[:, None, None] for level in (0.0, 1.0))

    def values(self, images: Tensor) -> Tensor:
        return images

    def images(self, values: Tensor) -> Tensor:
        return values


class Pixels:
    """Pixels, from 0 to 1 where they are not outside."""

    def __init__(self, data: Images, device: torch.device):
        self.data = data
        self.low, self.high = (torch.full((1, 1, 1), level, device=device) for level in (0.0, 1.0))

    def values(self, images: Tensor) -> Tensor:
        return self.data.denormalise(images)

    def images(self, values: Tensor) -> Tensor:
        return self.data.normalise(values)


UNITS: dict[str, type[Normalised] | type[Pixels]] = {"normalised": Normalised, "pixels": Pixels}


def units(name: str, data: Images, device: torch.device) -> Units:
    """The units called `name`. Raises UserError for a name that is none."""
    if name not in UNITS:
        raise unknown("units", name, UNITS, "optimised")
    return UNITS[name](data, device)


def grey(data: Images, device: torch.device) -> Sequence[float] | Tensor:
    """The normalised value of a pixel of 0.5, which fills up what a formation does not divide: (c,)."""
    return channelwise(0.5, data, device)


def eight_bit(images: Tensor, data: Images) -> Tensor:
    """Normalised images as the codes of SRe2L and RDED put them into a file of 8 bits a channel: of 256
    levels from 0 to 1 the one below. A value that is a level but for rounding stays."""
    levels = (data.denormalise(images) * 255 + 1e-3).floor().clamp(0, 255)
    return data.normalise(levels / 255)
