"""Formations: a stored image holds factor x factor smaller ones, which are cut out and enlarged before they
are used.

Source: IDC (Kim et al. 2022), multi-formation, and IDM (Zhao et al. 2023), partition and expansion; with the
order of the cells in their authors' code: IDC takes them by rows, IDM 2 x 2 by columns and 3 x 3 by rows. The
decoded images of one cell lie together, cell after cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.specs import Decode


def cells(factor: int, order: str) -> list[tuple[int, int]]:
    """(row, column) of the cells in the order in which they are decoded."""
    row_by_row = [(row, col) for row in range(factor) for col in range(factor)]
    return row_by_row if order == "rows" else [(row, col) for col, row in row_by_row]


def decode(images: Tensor, how: Decode | None, fill: Sequence[float] | Tensor = (0.0,)) -> Tensor:
    """Stored images (..., n, c, h, w) as those of full size, (..., factor^2 n, c, h, w); differentiable.
    None: as they are.

    A side that `factor` does not divide is first made longer, on the right and below, with `fill`, a value a
    channel. Enlarged bilinearly, corners not aligned.
    """
    if how is None or how.factor == 1:
        return images
    height, width = images.shape[-2:]
    padded = _padded(images.flatten(0, -4), how.factor, fill)
    side_rows, side_cols = padded.shape[-2] // how.factor, padded.shape[-1] // how.factor
    cut = [
        padded[..., row * side_rows : (row + 1) * side_rows, col * side_cols : (col + 1) * side_cols]
        for row, col in cells(how.factor, how.order)
    ]
    large = F.interpolate(torch.cat(cut), size=(height, width), mode="bilinear", align_corners=False)
    # (cell, leading axes, n) -> (leading axes, cell, n)
    large = large.view(how.factor**2, -1, images.shape[-4], *images.shape[-3:]).transpose(0, 1)
    return large.reshape(*images.shape[:-4], -1, *images.shape[-3:])


def _padded(images: Tensor, factor: int, fill: Sequence[float] | Tensor) -> Tensor:
    rows, cols = (-side % factor for side in images.shape[-2:])
    if not rows and not cols:
        return images
    # One for all channels, or each its own
    values = torch.as_tensor(fill, dtype=images.dtype, device=images.device).view(-1, 1, 1)
    larger = values.expand(
        len(images), images.shape[1], images.shape[2] + rows, images.shape[3] + cols
    ).clone()
    larger[..., : images.shape[2], : images.shape[3]] = images
    return larger


def decode_all(images: Tensor, labels: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """IDC's 'multi': images (n, c, h, w) in [0, 1] decoded by every factor from 1 to `factor`, one after the
    other, with their labels."""
    decoded = [_decoded(images, labels, current_factor) for current_factor in range(1, factor + 1)]
    return torch.cat([images for images, _ in decoded]), torch.cat([labels for _, labels in decoded])


def decode_within(images: Tensor, labels: Tensor, factor: int, bound: int) -> tuple[Tensor, Tensor]:
    """IDC's 'bound': every image decoded once, the first ones by `factor`, later ones by less, so that at
    most `bound` come out.

    More come out only if there are more images than that.
    """
    decoded, left, room = [], len(images), bound - len(images)
    for current_factor in range(factor, 0, -1):
        count = left if current_factor == 1 else min(max(room, 0) // current_factor**2, left)
        start = len(images) - left
        if count:
            decoded.append(
                _decoded(images[start : start + count], labels[start : start + count], current_factor)
            )
        left -= count
        room = bound - sum(len(batch) for batch, _ in decoded) - left
    return torch.cat([images for images, _ in decoded]), torch.cat([labels for _, labels in decoded])


def _decoded(images: Tensor, labels: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    return decode(images, Decode(factor), fill=(0.5,) * images.shape[1]), labels.repeat(factor**2)


def mosaic(images: Tensor, how: Decode, mode: str = "bilinear") -> Tensor:
    """Real images (factor^2 n, c, h, w), cell after cell, made small and laid into n images (n, c, h, w).

    `mode`: 'bilinear' as IDM does it, 'nearest' as IDC does. A side that does not divide keeps its rest from
    the last cell made larger.
    """
    count, (height, width) = len(images) // how.factor**2, images.shape[-2:]
    rows, cols = (_edges(side, how.factor) for side in (height, width))
    canvas = images.new_empty(count, *images.shape[1:])
    for cell, (row, col) in enumerate(cells(how.factor, how.order)):
        size = (rows[row + 1] - rows[row], cols[col + 1] - cols[col])
        options = {"align_corners": False} if mode == "bilinear" else {}
        small = F.interpolate(images[cell * count : (cell + 1) * count], size=size, mode=mode, **options)
        canvas[..., rows[row] : rows[row + 1], cols[col] : cols[col + 1]] = small
    return canvas


def _edges(side: int, factor: int) -> list[int]:
    """Where cells begin and end. Where the side does not divide, the first ones are larger, as the padding of
    `decode` has it."""
    cell = -(-side // factor)
    return [min(index * cell, side) for index in range(factor + 1)]
