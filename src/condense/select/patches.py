"""Real images cut into patches: random square crops, the one of each image and the images that a classifier
finds easiest, laid side by side.

Source: RDED (Sun et al. 2024), section 3.2, with the order and the padding of its authors' code. A low
cross-entropy is what the paper calls realism.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def square_boxes(count: int, size: int, least_area: float, generator: torch.Generator) -> Tensor:
    """`count` random squares within images of `size` pixels: int64 (count, 3), top, left and side in pixels,
    on the CPU.

    The area is uniform from `least_area` to 1, as a share of the image's, and the place uniform, as in
    torchvision's RandomResizedCrop with ratio 1.
    """
    area, down, right = torch.rand(3, count, generator=generator, dtype=torch.float64)
    side = (size * (least_area + (1 - least_area) * area).sqrt()).round().clamp(1, size)
    room = size - side + 1
    return torch.stack([(down * room).floor(), (right * room).floor(), side], 1).long()


def cropped(images: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Of each image (n, c, h, w) what lies in its box (n, 3), brought to `side` pixels a side, (n, c, side,
    side): bilinear, antialiased."""
    return torch.cat(
        [
            F.interpolate(
                image[None, :, top : top + length, left : left + length],
                size=(side, side),
                mode="bilinear",
                align_corners=False,
                antialias=True,
            )
            for image, (top, left, length) in zip(images, boxes.tolist(), strict=True)
        ]
    )


def padded(patches: Tensor, size: int) -> Tensor:
    """Patches (n, c, s, s) in the middle of images of `size` pixels that are 0 around them; where the rest is
    odd, one pixel nearer to the top and the left."""
    rest = size - patches.shape[-1]
    before, after = rest // 2, rest - rest // 2
    return F.pad(patches, (before, after, before, after))


def easiest(patches: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Of each image's patches (n, m, c, s, s) the one of the lowest loss (n, m), the first where several have
    it: the patches (n, c, s, s) and their losses (n,)."""
    best = losses.argmin(1)
    rows = torch.arange(len(losses), device=losses.device)
    return patches[rows, best], losses[rows, best]


def lowest(losses: Tensor, count: int) -> Tensor:
    """The places (count,) of the lowest of the losses (n,), in ascending order, the earlier first where they
    are equal."""
    return losses.sort(stable=True).indices[:count]


def stitched(patches: Tensor, factor: int) -> Tensor:
    """Patches (factor^2 n, c, s, s) laid into n images (n, c, factor s, factor s) of factor x factor cells,
    row by row: the k-th cells are the patches from k n to (k + 1) n."""
    channels, side = patches.shape[1], patches.shape[-1]
    cells = patches.view(factor, factor, -1, channels, side, side)
    return cells.permute(2, 3, 0, 4, 1, 5).reshape(-1, channels, factor * side, factor * side)
