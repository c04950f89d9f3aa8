"""Soft labels of every epoch and image, made beforehand and replayed with the batches that they are of.

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
from condense.files.checkpoints import Checkpoint
from condense.machine.progress import Progress
from condense.specs import Protocol
from condense.training.batches import Batch, batches
from condense.training.observers import Labeller
from condense.training.sets import TrainingSet

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

    def tensors(self) -> dict[str, np.ndarray]:
        """By the names in the file."""
        held = {
            "logits": self.logits,
            "draws": self.draws,
            "classes": self.classes,
            "rest": self.rest,
        }
        return {name: values for name, values in held.items() if values is not None}

    def nbytes(self) -> int:
        """The bytes of all of it."""
        return sum(values.nbytes for values in self.tensors().values())

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


def store(
    images: TrainingSet,
    protocol: Protocol,
    strategy: str,
    seed: int,
    labeller: Labeller,
    epochs: int,
    top: int | None = None,
    checkpoint: Checkpoint | None = None,
) -> Stored:
    """The labels that `labeller` gives the batches of so many epochs, those of the `top` largest classes of
    each image or (None) of all; goes on where `checkpoint` was saved. Raises UserError for labels beyond half
    precision."""
    checkpoint = checkpoint or Checkpoint(None, "")
    rows = _resume(checkpoint, images, epochs)
    done = len(rows["draws"])
    bar = Progress(f"labels of {images.name}", epochs, "epoch", start=done)
    for epoch in range(done, epochs):
        planned = list(batches(images, protocol, strategy, seed, STREAM, epoch))
        given = [labeller.logits(batch, batch.seen(images)[0]).float().cpu() for batch in planned]
        held = {"draws": drawn_sha256(planned), **_compact(torch.cat(given), top)}
        if not all(np.isfinite(held[name]).all() for name in ("logits", "rest") if name in held):
            raise UserError(f"{images.name}: some of its labels are too large for half precision")
        for name, values in held.items():
            rows.setdefault(name, []).append(values)
        bar.update(epoch + 1)
        if checkpoint.due() and epoch + 1 < epochs:
            checkpoint.save({name: np.stack(values) for name, values in rows.items()}, {"epochs": epoch + 1})
    bar.close()
    return Stored(**{name: np.stack(values) for name, values in rows.items()})


@dataclass(frozen=True)
class _Labelled:
    """How many epochs a checkpoint has the labels of."""

    epochs: int


def _resume(checkpoint: Checkpoint, images: TrainingSet, epochs: int) -> dict[str, list[np.ndarray]]:
    """By the names in the file what each epoch of the last checkpoint gave. Raises UserError if it is
    damaged."""
    loaded = checkpoint.load(_Labelled)
    if loaded is None:
        return {"draws": []}
    tensors, done = loaded[0], loaded[1].epochs
    checkpoint.check(
        0 < done < epochs
        and {"draws", "logits"} <= tensors.keys() <= {"draws", "logits", "classes", "rest"}
        and all(len(values) == done for values in tensors.values())
        and all(values.shape[1] == len(images) for name, values in tensors.items() if name != "draws"),
        "its labels are not those of its epochs",
    )
    return {name: list(values) for name, values in tensors.items()}


def _compact(logits: Tensor, top: int | None) -> dict[str, np.ndarray]:
    if top is None or top >= logits.shape[1]:
        return {"logits": logits.half().numpy()}
    held, classes = logits.topk(top, 1)
    others = logits.scatter(1, classes, float("-inf")).logsumexp(1)
    return {
        "logits": held.half().numpy(),
        "classes": classes.to(torch.int16).numpy(),
        "rest": others.half().numpy(),
    }


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


def averaged(
    images: TrainingSet,
    protocol: Protocol,
    strategy: str,
    seed: int,
    labeller: Labeller,
    epochs: int,
) -> Tensor:
    """One label an image (n, classes), float32: the mean logits over the epochs, of each image under its
    views and augmentations, unmixed."""
    unmixed = replace(protocol, cutmix=0.0, mixing=None)
    total: Tensor | None = None
    for epoch in range(epochs):
        for batch in batches(images, unmixed, strategy, seed, STREAM, epoch):
            given = labeller.logits(batch, batch.seen(images)[0]).double().cpu()
            if total is None:
                total = torch.zeros(len(images), given.shape[1], dtype=torch.float64)
            total[batch.indices] += given
    if total is None:
        raise ValueError("no epoch was asked for")
    return (total / epochs).float()


def as_stored(tensors: Mapping[str, np.ndarray]) -> Stored:
    """The labels among the tensors of a file."""
    return Stored(
        tensors["logits"], tensors["draws"], classes=tensors.get("classes"), rest=tensors.get("rest")
    )
