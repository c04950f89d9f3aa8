"""CutMix: a box of every image of a batch is replaced by that of another one, and the label by a mixture in
the shares of their areas.

Source: Yun et al. 2019; the box as in the code of SRe2L, IDC and NCFM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor


def box(size: int, share: float, row: int, col: int) -> tuple[int, int, int, int]:
    """First row, first column, row and column behind the last of a box around a centre, clipped at the border
    of `size` pixels.

    Before that it covers 1 - `share` of the image.
    """
    side = int(size * (1 - share) ** 0.5)

    def inside(edge: int) -> int:
        return min(max(edge, 0), size)

    return inside(row - side // 2), inside(col - side // 2), inside(row + side // 2), inside(col + side // 2)


@dataclass(frozen=True)
class Mixture:
    """`other` (b,): whose box and label each image of a batch also has; `share` of its own; the box. None of
    them: unmixed."""

    other: Tensor | None = None
    share: float = 1.0
    edges: tuple[int, int, int, int] = (0, 0, 0, 0)

    def images(self, batch: Tensor) -> Tensor:
        """The mixed images (b, c, h, w)."""
        if self.other is None:
            return batch
        top, left, bottom, right = self.edges
        mixed = batch.clone()
        mixed[..., top:bottom, left:right] = batch[self.other.to(batch.device), :, top:bottom, left:right]
        return mixed

    def vectors(self, batch: Tensor) -> Tensor:
        """Vectors (b, ...) that belong to the images, such as soft labels, in the shares of both."""
        if self.other is None:
            return batch
        return self.share * batch + (1 - self.share) * batch[self.other.to(batch.device)]

    def loss(self, logits: Tensor, labels: Tensor, rows: slice = slice(None)) -> Tensor:
        """Mean cross-entropy of both labels in their shares: of a batch with labels (b,), or of the images in
        its `rows`."""
        loss = torch.nn.functional.cross_entropy(logits, labels[rows])
        if self.other is None:
            return loss
        others = labels[self.other.to(labels.device)][rows]
        return self.share * loss + (1 - self.share) * torch.nn.functional.cross_entropy(logits, others)


def happens(probability: float, generator: Generator) -> bool:
    """Whether a batch is mixed; where that is out of the question, nothing is drawn."""
    return probability != 0 and torch.rand((), generator=generator).item() < probability


def share_from(beta: float, generator: Generator) -> float:
    """A share from the Beta distribution (beta, beta): for 1 uniform in [0, 1)."""
    if beta == 1:
        return torch.rand((), generator=generator).item()
    return float(np.random.default_rng(int(torch.randint(1 << 62, (), generator=generator))).beta(beta, beta))


def others(count: int, generator: Generator) -> Tensor:
    """For each of `count` images of a batch the one that it is mixed with (count,)."""
    return torch.randperm(count, generator=generator)


def draw(probability: float, count: int, size: int, generator: Generator, beta: float = 1.0) -> Mixture:
    """A mixture for `count` images of `size` pixels, with this probability; `share_from` draws the share
    before the box is clipped."""
    if not happens(probability, generator):
        return Mixture()
    share = share_from(beta, generator)
    row, col = torch.randint(size, (2,), generator=generator).tolist()
    edges = box(size, share, row, col)
    area = (edges[2] - edges[0]) * (edges[3] - edges[1])
    return Mixture(others(count, generator), 1 - area / size**2, edges)
