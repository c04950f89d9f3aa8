"""The batches of an epoch: which images, and all that is drawn for them, before any of them is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from condense.augment import mixing, siamese
from condense.augment.cutmix import Mixture
from condense.machine import seeds
from condense.specs import HardLoss, Protocol
from condense.training import views
from condense.training.sets import TrainingSet


@dataclass(frozen=True)
class Batch:
    """The images at `indices` (b,), on the CPU, and what is done to them: views, the siamese augmentation, a
    mixture; on the device its labels, where they were stored."""

    indices: Tensor
    viewed: views.Drawn
    augmented: siamese.Draw
    mixture: Mixture
    labels: Tensor | None = None  # logits (b, classes) that came with it

    def seen(self, images: TrainingSet) -> list[Tensor]:
        """What the network is given of the set: images (b, c, h, w), and beside them those beside the set's,
        changed alike."""
        fetched = [fetch(self.indices) for fetch in (images.fetch, images.beside) if fetch is not None]
        changed = [
            siamese.apply(self.viewed.apply(batch, images.scaling), self.augmented) for batch in fetched
        ]
        return [self.mixture.images(batch) for batch in changed]


def batches(
    images: TrainingSet,
    protocol: Protocol,
    strategy: str,
    seed: int,
    name: tuple[str | int, ...],
    epoch: int,
) -> Iterator[Batch]:
    """The batches of an epoch under `protocol`; `strategy` is the augmentation of the dataset, `name`
    addresses the random streams of the training."""
    mixed_by = protocol.mixed_by
    strategy, mode = protocol.operations_of(strategy), "all" if protocol.augment == "all" else "one"
    order = torch.randperm(len(images), generator=seeds.generator(seed, *name, "order", epoch))
    viewing, augment, mixes = (
        seeds.generator(seed, *name, purpose, epoch)
        for purpose in ("views", "augment", mixed_by.name if mixed_by else "unmixed")
    )
    for indices in order.split(protocol.batch):
        count = len(indices)
        yield Batch(
            indices,
            views.draw(protocol.views, count, images.size, viewing),
            siamese.draw_each(strategy, images.size, count, augment, mode),
            mixing.draw(mixed_by, count, images.size, mixes),
        )


def unmixed(protocol: Protocol) -> Protocol:
    """A protocol whose batches are those of `protocol` without mixtures. It compares with classes alone,
    since a loss may say whose labels mixed images have."""
    return replace(protocol, cutmix=0.0, mixing=None, loss=HardLoss(), labels=None)


def unchanged(protocol: Protocol) -> Protocol:
    """The same without views and augmentation, too: images as the set has them."""
    return replace(unmixed(protocol), augment="none", siamese="", views=())
