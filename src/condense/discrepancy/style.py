"""Style: statistics of the feature maps of single images, whose class means are compared.

Each function takes maps (n, channels, h, w) and gives one row an image; none mixes images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from condense.config import UserError

_EPSILON = 1e-5  # of a variance that is divided by, as in AdaIN


def moments(maps: Tensor, spread: Literal["variance", "deviation"] = "variance") -> Tensor:
    """Spatial mean and (biased) variance or standard deviation of every channel: (n, c, h, w) -> (n, 2 c).

    Units: those of the maps, and for the variance their square. The gradient of the deviation of a constant
    map is 0.
    Source: ddm, eq. (4) and (5): the text calls sigma the variance; AdaIN, whose loss it follows, takes the
    deviation.
    """
    mean = maps.mean((2, 3))
    # Several times as fast as `var` where channels lie last
    variance = (maps - mean[..., None, None]).square().mean((2, 3))
    if spread == "deviation":
        constant = variance <= 0
        variance = torch.where(constant, 0, torch.where(constant, 1, variance).sqrt())
    return torch.cat([mean, variance], -1)


def drifted(maps: Tensor, towards: Tensor, ratio: float) -> Tensor:
    """`maps` with the style of each image drifted towards that of its partner in `towards`: (n, c, h, w),
    (n, c, h', w') -> (n, c, h, w).

    The mean and the variance of every channel become (1 - ratio) times their own plus `ratio` times the
    partner's; with 0 nothing changes, with 1 the style is the partner's. Both variances have 1e-5 added, so
    that a constant channel stays constant.
    Source: ddm, eq. (12) to (14).
    """
    of_maps, of_partners = moments(maps), moments(towards)
    mean, variance = of_maps[..., None, None].chunk(2, 1)
    drifted_mean, drifted_variance = ((1 - ratio) * of_maps + ratio * of_partners)[..., None, None].chunk(
        2, 1
    )
    return ((drifted_variance + _EPSILON) / (variance + _EPSILON)).sqrt() * (maps - mean) + drifted_mean


def gram(maps: Tensor) -> Tensor:
    """Gram matrix of the channels, summed over the places: (n, c, h, w) -> (n, c^2), divided by 2 h w c.

    With this factor the squared distance of two of them carries 1 / (4 (h w)^2 c^2). Units: those of the
    maps, squared.
    Source: ddm, eq. (6) and (7), where the factor stands outside the sum over layers but h, w and c are those
    of each.
    Cost: 2 c^2 h w operations an image.
    """
    flat = maps.flatten(2)
    return (flat @ flat.mT).flatten(1) / (2 * flat.shape[2] * flat.shape[1])


def attention(maps: Tensor, power: int = 1) -> Tensor:
    """Spatial attention, the sum over channels of |value| ** power, brought to length 1: (n, c, h, w) ->
    (n, h w).

    A map of zeros has the attention 0.
    Source: DataDAM (Sajedi et al. 2023), eq. (2): the paper has power 4, its authors' code 1.
    """
    sums = maps.abs().pow(power).sum(1).flatten(1) if power != 1 else maps.abs().sum(1).flatten(1)
    return torch.nn.functional.normalize(sums, dim=1)


def squared_distance(real: Tensor, synthetic: Tensor) -> Tensor:
    """Squared Euclidean distance of two class means: (..., k), (..., k) -> (...). Units: those of the
    statistic, squared."""
    return (real - synthetic).square().sum(-1)


def chosen(maps: Sequence[Tensor], layers: Sequence[int] | None) -> list[Tensor]:
    """The maps of the stages `layers`, counted from 1; None: all. Raises UserError for a stage that is not
    there."""
    if layers is None:
        return list(maps)
    if max(layers) > len(maps):
        raise UserError(
            f"layers: layer {max(layers)} is asked for, but the network has {len(maps)} stages; take layers "
            f"up to {len(maps)}"
        )
    return [maps[layer - 1] for layer in layers]


def raw_moments(maps: Sequence[Tensor]) -> Tensor:
    """Spatial mean of every channel of some layers, then of its square: maps (n, c_l, h, w) -> (n, 2 c), c
    channels in all.

    Their class means give `class_statistics`. Units: those of the maps, and their square.
    """
    flat = [layer.flatten(2) for layer in maps]
    return torch.cat([*(layer.mean(-1) for layer in flat), *(layer.square().mean(-1) for layer in flat)], -1)


def distance_of_statistics(real: Tensor, synthetic: Tensor) -> Tensor:
    """The distance of two classes in the means of their channels, plus that in the (biased) variances.

    Both are given as class means of `raw_moments`, (..., 2 c), (..., 2 c) -> (...). A mean or variance is
    that of a channel over all places of all images of the class. Units: those of the maps and their square,
    added up as they are.
    Source: per-class batch-norm statistics of WMDD (Liu et al. 2023): norms, not their squares; here one over
    all layers.
    """
    (mean, variance), (other_mean, other_variance) = _mean_and_variance(real), _mean_and_variance(synthetic)
    return torch.linalg.vector_norm(mean - other_mean, dim=-1) + torch.linalg.vector_norm(
        variance - other_variance, dim=-1
    )


def _mean_and_variance(moments: Tensor) -> tuple[Tensor, Tensor]:
    mean, square = moments.unflatten(-1, (2, -1)).unbind(-2)
    return mean, square - mean.square()
