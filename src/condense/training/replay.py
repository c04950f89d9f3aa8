"""Soft labels of every epoch and image, replayed with the batches that they are of (`storing` makes them).

Source: fast knowledge distillation (Shen and Xing 2022), as SRe2L stores its labels: logits in half
precision for each image of each epoch, as it is seen under the crops, flips and mixtures of its batch. What
was drawn is not held number by number: it follows from a seed, and a checksum of every epoch tells draws that
differ.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from condense.augment import siamese
from condense.config import UserError
from condense.specs import Protocol
from condense.training.batches import Batch, batches
from condense.training.sets import TrainingSet

CHECKSUM = 32  # bytes of a checksum of draws
STREAM = ("labels",)  # the random streams of the batches that stored labels are of


@dataclass(frozen=True)
class Stored:
    """The labels of some epochs as a file holds them, image by image in the order of its batches.

    `logits` float16 (epochs, n, k): of all classes, or of the `classes` int16 (epochs, n, k) of the k
    largest; then `rest` float16 (epochs, n) is the logarithm of the sum of the exponentials of all others.
    `draws` uint8 (epochs, 32): checksums of what was drawn.
    """

    logits: np.ndarray
    draws: np.ndarray
    classes: np.ndarray | None = None
    rest: np.ndarray | None = None

    def of_epoch(self, epoch: int, number: int) -> Tensor:
        """Logits (n, number) float32 of the images of an epoch, for so many classes. Those that are not held
        share what is left of the probability."""
        logits = torch.from_numpy(self.logits[epoch]).float()
        if self.classes is None or self.rest is None:
            return logits
        others = torch.from_numpy(self.rest[epoch]).float() - math.log(number - logits.shape[1])
        whole = others[:, None].expand(-1, number).clone()
        return whole.scatter_(1, torch.from_numpy(self.classes[epoch]).long(), logits)


def drawn_sha256(planned: list[Batch]) -> np.ndarray:
    """The checksum (32,) uint8 of all that was drawn for the batches of an epoch."""
    total = hashlib.sha256()
    for batch in planned:
        total.update(batch.indices.numpy().tobytes())
        for draws in batch.viewed.draws:
            for name in sorted(draws):
                total.update(draws[name].numpy().tobytes())
        drawn: siamese.Draw | None = batch.augmented
        while drawn is not None:
            total.update(drawn.operation.encode())
            for name in sorted(drawn.parameters):
                total.update(drawn.parameters[name].numpy().tobytes())
            drawn = drawn.then
        mixture = batch.mixture
        total.update(repr((mixture.share, mixture.edges)).encode())
        if mixture.other is not None:
            total.update(mixture.other.numpy().tobytes())
    return np.frombuffer(total.digest(), np.uint8)


class Replay:
    """Gives batches and labels as they were stored: the same for every network and seed."""

    def __init__(self, stored: Stored, strategy: str, seed: int, classes: int, name: str):
        """`strategy` and `seed`: those of the batches; `name`: what messages call the file."""
        self.stored, self.strategy, self.seed, self.classes, self.name = (
            stored,
            strategy,
            seed,
            classes,
            name,
        )

    def batches(
        self,
        images: TrainingSet,
        protocol: Protocol,
        strategy: str,
        seed: int,
        name: tuple[str | int, ...],
        epoch: int,
    ) -> Iterator[Batch]:
        """The batches of an epoch, each with its labels. Raises UserError where they are not those that were
        labelled, of another set or drawn otherwise."""
        if epoch >= len(self.stored.logits) or len(images) != self.stored.logits.shape[1]:
            held = "{} epochs of {} images".format(*self.stored.logits.shape[:2])
            raise UserError(
                f"{self.name}: holds the labels of {held}, and epoch {epoch + 1} of {len(images)} images is "
                "trained; make them for this set and protocol (`condense relabel --help`)"
            )
        planned = list(batches(images, protocol, self.strategy, self.seed, STREAM, epoch))
        if not np.array_equal(drawn_sha256(planned), self.stored.draws[epoch]):
            raise UserError(
                f"{self.name}: other batches were labelled than those drawn here, by another version or under"
                " other settings; make the labels anew (`condense relabel --help`)"
            )
        labels = self.stored.of_epoch(epoch, self.classes).to(images.labels.device)
        parts = labels.split([len(batch.indices) for batch in planned])
        for batch, part in zip(planned, parts, strict=True):
            yield replace(batch, labels=part)

    def logits(self, batch: Batch, seen: Tensor) -> Tensor:
        """Those that came with the batch. Raises ValueError for a batch that is not from here."""
        if batch.labels is None:
            raise ValueError("a batch without stored labels was to be labelled by them")
        return batch.labels


def as_stored(tensors: Mapping[str, np.ndarray]) -> Stored:
    """The labels among the tensors of a file."""
    return Stored(
        tensors["logits"], tensors["draws"], classes=tensors.get("classes"), rest=tensors.get("rest")
    )
