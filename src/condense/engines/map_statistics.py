"""Statistics of feature maps, computed in the pass that embeds the images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from condense.models.base import Network


@dataclass(frozen=True)
class Statistic:
    """Something of the feature maps of each image, of which terms compare the means of classes.

    `function` takes the maps (n, channels, h, w) of all stages and gives (n, k). `pooled`: maps behind the
    pooling of their stage, or before it. `name` says what it is: equal names mean equal statistics.
    """

    name: str
    function: Callable[[list[Tensor]], Tensor] = field(compare=False)
    pooled: bool = True


def with_statistics(
    network: Network, images: Tensor, wanted: tuple[Statistic, ...]
) -> tuple[Tensor, dict[Statistic, Tensor]]:
    """Embeddings (n, d) and the value (n, k), at least float32, of every statistic of images (n, ...)."""
    embedding, behind, before = network.embed_with_maps(
        images, before=not all(statistic.pooled for statistic in wanted)
    )
    behind, before = (
        [layer.to(torch.promote_types(layer.dtype, torch.float32)) for layer in maps]
        for maps in (behind, before)
    )
    return embedding, {
        statistic: statistic.function(behind if statistic.pooled else before) for statistic in wanted
    }


class ClassMeans:
    """Means of statistics over the images of each class, which come class by class in parts. `weights` (C, B)
    of the images."""

    def __init__(self, weights: Tensor):
        self.weights, self.batch, self.seen = weights.flatten(), weights.shape[1], 0
        self.classes = len(weights)
        self.by_statistic: dict[Statistic, Tensor] = {}

    def add(self, values: dict[Statistic, Tensor], count: int) -> None:
        """The values (n, k) of the next `count` images."""
        images = torch.arange(self.seen, self.seen + count, device=self.weights.device)
        first, last = self.seen // self.batch, (self.seen + count - 1) // self.batch
        # Of the images in the mean of each class that they belong to
        weights = self.weights.new_zeros(last - first + 1, count)
        weights[images // self.batch - first, images - self.seen] = self.weights[
            self.seen : self.seen + count
        ]
        for statistic, value in values.items():
            if statistic not in self.by_statistic:
                self.by_statistic[statistic] = value.new_zeros(self.classes, value.shape[1])
            self.by_statistic[statistic][first : last + 1] += weights.to(value.dtype) @ value
        self.seen += count
