"""Soft labels made beforehand: of every epoch, a piece after the other, or one an image.

Labels of many epochs and classes outgrow the memory: what was made since the last piece is all that is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condense.config import UserError
from condense.files.artifacts import Shapes
from condense.files.checkpoints import Checkpoint
from condense.machine.progress import Progress
from condense.specs import Protocol
from condense.training import replay
from condense.training.batches import batches, unmixed
from condense.training.observers import Labeller
from condense.training.sets import TrainingSet

_HELD = 256 << 20  # bytes of a piece, beyond which it is written before its time


@dataclass(frozen=True)
class _Epochs:
    """Which epochs a piece has the labels of."""

    first: int
    end: int


class Pieces:
    """The labels of the epochs that are done: pieces in the parts of a checkpoint, and what is not yet in
    one."""

    def __init__(self, checkpoint: Checkpoint, shapes: Shapes):
        """`shapes`: of the labels of all epochs. Takes up the pieces of earlier starts. Raises UserError if
        one of them is damaged."""
        self._checkpoint, self._shapes = checkpoint, shapes
        self._held: dict[str, list[np.ndarray]] = {}
        self._written, self.done = 0, 0
        while (piece := self._read(self._written)) is not None:
            self._written, self.done = self._written + 1, self.done + len(piece["draws"])
        self._next = checkpoint.part(self._written)

    def _read(self, number: int) -> dict[str, np.ndarray] | None:
        """The piece of this number, unless there is none that goes on where those before it end."""
        part = self._checkpoint.part(number)
        found = part.load(_Epochs)
        if found is None or (number >= self._written and found[1].first != self.done):
            return None
        tensors, epochs = found
        whole = {
            name: (kind, [epochs.end - epochs.first, *shape[1:]])
            for name, (kind, shape) in self._shapes.items()
        }
        part.check(
            0 < epochs.end - epochs.first
            and epochs.end <= self._shapes["draws"][1][0]
            and {name: (str(values.dtype), list(values.shape)) for name, values in tensors.items()} == whole,
            "its labels are not those of its epochs",
        )
        return tensors

    def add(self, labels: dict[str, np.ndarray]) -> None:
        """The labels of the next epoch. Where it is time they are written; raises KeyboardInterrupt after
        that if a stop was asked for."""
        for name, values in labels.items():
            self._held.setdefault(name, []).append(values)
        self.done += 1
        held = sum(values.nbytes for rows in self._held.values() for values in rows)
        if self._next.due() or (self._next.path is not None and held > _HELD):
            first = self.done - len(self._held["draws"])
            self._next.save(self._stacked(), {"first": first, "end": self.done})
            self._held, self._written = {}, self._written + 1
            self._next = self._checkpoint.part(self._written)

    def _stacked(self) -> dict[str, np.ndarray]:
        return {name: np.stack(rows) for name, rows in self._held.items()}

    def __iter__(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """The first epoch of each piece, and its labels by the names in the file."""
        first = 0
        for number in range(self._written):
            piece = self._read(number)
            if piece is None:
                path = self._checkpoint.part(number).path
                raise UserError(f"{path}: was taken away while it was needed; run the same command again")
            yield first, piece
            first += len(piece["draws"])
        if self._held:
            yield first, self._stacked()


def label_epochs(
    images: TrainingSet,
    protocol: Protocol,
    strategy: str,
    seed: int,
    labeller: Labeller,
    shapes: Shapes,
    checkpoint: Checkpoint | None = None,
) -> Pieces:
    """What `labeller` gives the batches of every epoch, in the form of `shapes`, those of `shapes_of`; goes
    on where `checkpoint` was saved. Raises UserError for labels beyond half precision."""
    epochs = shapes["draws"][1][0]
    top = shapes["classes"][1][2] if "classes" in shapes else None
    pieces = Pieces(checkpoint or Checkpoint(None, ""), shapes)
    bar = Progress(f"labels of {images.name}", epochs, "epoch", start=pieces.done)
    for epoch in range(pieces.done, epochs):
        planned = list(batches(images, protocol, strategy, seed, replay.STREAM, epoch))
        given = [labeller.logits(batch, batch.seen(images)[0]).float().cpu() for batch in planned]
        held = {"draws": replay.drawn_sha256(planned), **_compact(torch.cat(given), top)}
        if not all(np.isfinite(held[name]).all() for name in ("logits", "rest") if name in held):
            raise UserError(f"{images.name}: some of its labels are too large for half precision")
        bar.update(epoch + 1)
        pieces.add(held)
    bar.close()
    return pieces


def shapes_of(epochs: int, images: int, classes: int, top: int | None = None) -> Shapes:
    """Types and shapes of the labels of so many epochs and images, all or the `top` largest of so many
    classes: those of `replay.Stored`."""
    draws = ("uint8", (epochs, replay.CHECKSUM))
    if top is None or top >= classes:
        return {"logits": ("float16", (epochs, images, classes)), "draws": draws}
    held = (epochs, images, top)
    return {
        "logits": ("float16", held),
        "classes": ("int16", held),
        "rest": ("float16", held[:2]),
        "draws": draws,
    }


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
    alone = unmixed(protocol)
    total: Tensor | None = None
    for epoch in range(epochs):
        for batch in batches(images, alone, strategy, seed, replay.STREAM, epoch):
            given = labeller.logits(batch, batch.seen(images)[0]).double().cpu()
            if total is None:
                total = torch.zeros(len(images), given.shape[1], dtype=torch.float64)
            total[batch.indices] += given
    if total is None:
        raise ValueError("no epoch was asked for")
    return (total / epochs).float()
