"""What is known of the pixels of images beforehand: neighbours are alike, values are small."""

from __future__ import annotations

import torch
from torch import Tensor


def _differences(images: Tensor) -> list[Tensor]:
    """Of neighbours, (n, c, h, w): side by side, one above the other, and along both diagonals."""
    return [
        images[..., :-1] - images[..., 1:],
        images[..., :-1, :] - images[..., 1:, :],
        images[..., 1:, :-1] - images[..., :-1, 1:],
        images[..., :-1, :-1] - images[..., 1:, 1:],
    ]


def variation_by_sizes(images: Tensor) -> Tensor:
    """The sum over the four directions of the mean size of a difference: (n, c, h, w) -> ().

    Source: SRe2L (Yin et al. 2023), eq. (5), as its authors' code.
    """
    return torch.stack([difference.abs().mean() for difference in _differences(images)]).sum()


def variation_by_lengths(images: Tensor) -> Tensor:
    """The sum over the four directions of the Euclidean length of all differences: (n, c, h, w) -> ().

    Source: as of `variation_by_sizes`.
    """
    return torch.stack([torch.linalg.vector_norm(part) for part in _differences(images)]).sum()


def length(images: Tensor) -> Tensor:
    """The mean Euclidean length of an image: (n, c, h, w) -> (). Source: as of `variation_by_sizes`."""
    return torch.linalg.vector_norm(images.flatten(1), dim=1).mean()
