"""How far the statistics of synthetic images in a layer are from those of the real ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Moments = tuple[Tensor, Tensor]  # a mean and a variance of every channel, (c,) each


def channel_moments(maps: Tensor) -> Moments:
    """Mean and biased variance of every channel over the images and places of a batch: (n, c, h, w) -> (c,),
    (c,)."""
    return maps.mean((0, 2, 3)), maps.var((0, 2, 3), correction=0)


def moment_gap(found: Moments, wanted: Moments) -> Tensor:
    """|variance - variance'| + |mean - mean'|, Euclidean lengths over the channels: (c,) each -> ().

    Not squared, so the gradient does not shrink near the optimum; it is 0 where both agree.
    Source: SRe2L (Yin et al. 2023), eq. (7), as its authors' code.
    """
    (mean, variance), (wanted_mean, wanted_variance) = found, wanted
    return torch.linalg.vector_norm(wanted_variance - variance) + torch.linalg.vector_norm(wanted_mean - mean)


def layered_gap(found: Sequence[Moments], wanted: Sequence[Moments], first: float) -> Tensor:
    """The sum over the layers of a network, in its order, of their gaps, that of the first one `first` times:
    ()."""
    gaps = [moment_gap(moments, others) for moments, others in zip(found, wanted, strict=True)]
    return first * gaps[0] + sum(gaps[1:], torch.zeros_like(gaps[0]))
