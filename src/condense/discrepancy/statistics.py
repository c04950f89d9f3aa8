"""How far the statistics of synthetic images in a layer are from those of the real ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.kernels.context import Context

PATCH = 4  # pixels a side of the places of a map that have statistics of their own
# Of a layer: a mean and a variance of every channel, (c,) each, and, where its places have some too, of every
# patch, (p,) each
Moments = tuple[Tensor, ...]


def channel_moments(maps: Tensor) -> Moments:
    """Mean and biased variance of every channel over the images and places of a batch: (n, c, h, w) -> (c,),
    (c,)."""
    return _ChannelMoments.apply(maps)


class _ChannelMoments(torch.autograd.Function):
    """Several times as fast as `mean` and `var` with their gradients where channels lie last."""

    @staticmethod
    def forward(ctx: Context, maps: Tensor) -> tuple[Tensor, Tensor]:
        mean = maps.mean((0, 2, 3))
        ctx.save_for_backward(maps, mean)
        return mean, (maps - mean[:, None, None]).square_().mean((0, 2, 3))

    @staticmethod
    def backward(ctx: Context, of_mean: Tensor, of_variance: Tensor) -> Tensor:
        maps, mean = ctx.saved_tensors
        count = maps.numel() // maps.shape[1]
        factor = of_variance * (2 / count)
        return torch.addcmul((of_mean / count - factor * mean)[:, None, None], maps, factor[:, None, None])


def _patches(maps: Tensor) -> Tensor:
    """What lies in each patch of a map, enlarged to multiples of its sides: (n, c, h, w) -> (n, p, c, 16),
    row by row."""
    height, width = (-(-side // PATCH) * PATCH for side in maps.shape[2:])
    if (height, width) != tuple(maps.shape[2:]):
        maps = F.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
    cells = maps.unflatten(3, (width // PATCH, PATCH)).unflatten(2, (height // PATCH, PATCH))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(4).flatten(1, 2)


def moments(maps: Tensor, patches: bool) -> Moments:
    """Of a batch (n, c, h, w): means and variances of its channels and, with `patches`, of its patches of
    4 x 4 places, over images, channels and places: (c,), (c,), (p,), (p,).

    Source: G-VBSM (Shao et al. 2023), section 3.2, as its authors' code.
    """
    if not patches:
        return channel_moments(maps)
    cells = _patches(maps)
    return *channel_moments(maps), cells.mean((0, 2, 3)), cells.var((0, 2, 3), correction=0)


def moments_of_each(maps: Tensor, patches: bool) -> Moments:
    """The same of every image by itself: (n, c), (n, c), (n, p), (n, p).

    The mean of their variances over images is less than the variance over all of them, by that of their
    means. Source: EDC (2024), as its authors' code gathers the statistics of classes.
    """
    channels = maps.mean((2, 3)), maps.var((2, 3), correction=0)
    if not patches:
        return channels
    cells = _patches(maps)
    return *channels, cells.mean((2, 3)), cells.var((2, 3), correction=0)


def moments_of_labels(of_classes: Moments, labels: Tensor) -> Moments:
    """What images of these classes should have together, the mean over `labels` (n,) of the moments of their
    classes: (C, k) each -> (k,) each."""
    return tuple(each[labels].mean(0) for each in of_classes)


def running_mean(before: Moments, found: Moments, momentum: float) -> Moments:
    """`momentum` of the mean so far and the rest of what was found, with the whole gradient of the latter.

    Source: G-VBSM (2023), section 3.2; EDC (2024), as its authors' code.
    """
    mixed = [old * momentum + (1 - momentum) * new.detach() for old, new in zip(before, found, strict=True)]
    return tuple(mean + (new - new.detach()) for mean, new in zip(mixed, found, strict=True))


def moment_gap(found: Moments, wanted: Moments) -> Tensor:
    """|variance - variance'| + |mean - mean'|, Euclidean lengths over the channels, and those of the patches
    where there are some: () from moments as `moments` gives them.

    Not squared, so the gradient does not shrink near the optimum; it is 0 where both agree.
    Source: SRe2L (Yin et al. 2023), eq. (7), as its authors' code.
    """
    lengths = [torch.linalg.vector_norm(other - one) for one, other in zip(found, wanted, strict=True)]
    (mean, variance), patches = lengths[:2], lengths[2:]
    return sum(patches, variance + mean)


def category_gap(found: Moments, wanted: Moments, of_labels: Moments, share: float) -> Tensor:
    """The gap to the moments of all real images, and for `share` of it that to those of the classes: ().

    Source: EDC (2024), eq. (5), with share = 1 - alpha.
    """
    return (1 - share) * moment_gap(found, wanted) + share * moment_gap(found, of_labels)


def class_gaps(maps: Tensor, labels: Tensor, of_classes: Moments, patches: bool) -> Tensor:
    """The gaps of the classes in `labels` (n,), weighted by their shares of the images: () from what a layer
    is given (n, c, h, w) and the moments (C, k) of all classes.

    Source: EDC (2024), eq. (5), Form (2) as it is printed.
    """
    total = maps.new_zeros(())
    for label in labels.unique().tolist():
        chosen = labels == label
        wanted = tuple(each[label] for each in of_classes)
        total = total + chosen.sum() / len(labels) * moment_gap(moments(maps[chosen], patches), wanted)
    return total


def layered_gap(found: Sequence[Moments], wanted: Sequence[Moments], first: float) -> Tensor:
    """The sum over the layers of a network, in its order, of their gaps, that of the first one `first` times:
    ()."""
    return weighted([moment_gap(one, other) for one, other in zip(found, wanted, strict=True)], first)


def weighted(gaps: Sequence[Tensor], first: float) -> Tensor:
    """The sum of the gaps of layers, that of the first one `first` times: ()."""
    return first * gaps[0] + sum(gaps[1:], torch.zeros_like(gaps[0]))
