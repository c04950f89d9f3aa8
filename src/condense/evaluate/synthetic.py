"""Synthetic sets as data sets that train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from condense.augment import formations
from condense.config import read
from condense.data.dataset import denormalise, normalise
from condense.files import SOFT_LABELS, carried, read_set
from condense.machine.runtime import note
from condense.specs import Decode, Protocol
from condense.training.sets import Targets, TrainingSet, tensor_set
from condense.training.views import Scaling


@dataclass(frozen=True, eq=False)
class SyntheticSet(Dataset):
    """A synthetic set ready for training: `images` (n, C, H, W) normalised float32, `labels` (n,) int64.

    Where the file stores formations these are decoded. `soft_labels` (n, classes) float32, if the set has
    any: probabilities or logits, as `header["soft_labels"]` says. `further`: what else its method keeps, by
    name, as the file holds it.

    `header` is what the file says of itself: dataset, method, ipc, arch, seed, key, classes, mean, std,
    recipe and so on. Two sets are equal if their tensors and headers are, wherever these lie.
    """

    images: Tensor
    labels: Tensor
    header: dict[str, Any]
    soft_labels: Tensor | None = None
    further: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SyntheticSet):
            return NotImplemented
        mine, theirs = self._tensors(), other._tensors()
        same = mine.keys() == theirs.keys() and all(
            torch.equal(mine[name].cpu(), theirs[name].cpu()) for name in mine
        )
        return self is other or (self.header == other.header and same)

    def _tensors(self) -> dict[str, Tensor]:
        soft = {} if self.soft_labels is None else {SOFT_LABELS: self.soft_labels}
        return {**self.further, **soft, "images": self.images, "labels": self.labels}

    def __hash__(self) -> int:
        return hash((self.header.get("content_sha256"), len(self.labels)))

    @property
    def class_names(self) -> list[str]:
        """What the labels are called."""
        return self.header["class_names"]

    @property
    def pixels(self) -> Tensor:
        """The images in pixel space, [0, 1] where they are not outside it: they are not clipped."""
        return denormalise(self.images, self.header["mean"], self.header["std"])


def decoded(pixels: np.ndarray, labels: np.ndarray, header: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Stored pixels (n, C, H, W) and labels (n,) as they train: normalised, and decoded as the header of
    their set says."""
    images, classes = (
        normalise(torch.from_numpy(pixels), header["mean"], header["std"]),
        torch.from_numpy(labels),
    )
    how = _decoding(header)
    if how is None:
        return images, classes
    grey = [(0.5 - mean) / std for mean, std in zip(header["mean"], header["std"], strict=True)]
    return formations.decode(images, how, grey), classes.repeat(how.factor**2)


def decoded_pixels(pixels: np.ndarray, how: Decode) -> np.ndarray:
    """The images (m, C, H, W) in pixel space of stored formations (n, C, H, W), as `decoded` orders them."""
    return formations.decode(torch.from_numpy(pixels), how, (0.5,) * pixels.shape[1]).numpy()


def targets(tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> Targets | None:
    """The soft labels (n, classes) of a set's images as they train, repeated as its labels are; None if it
    has none."""
    if SOFT_LABELS not in tensors:
        return None
    how, values = _decoding(header), torch.from_numpy(tensors[SOFT_LABELS])
    return Targets(values if how is None else values.repeat(how.factor**2, 1), header[SOFT_LABELS])


def training_set(
    tensors: Mapping[str, np.ndarray], header: Mapping[str, Any], device: torch.device, name: str
) -> TrainingSet:
    """A set, as `read_set` gives it, ready for training on the device; `name` is what messages call it."""
    images, labels = (tensor.to(device) for tensor in decoded(tensors["images"], tensors["labels"], header))
    soft = targets(tensors, header)
    scaling = Scaling(tuple(header["mean"]), tuple(header["std"]))
    return tensor_set(images, labels, soft and replace(soft, values=soft.values.to(device)), name, scaling)


def labels_used(protocol: Protocol, header: Mapping[str, Any], name: str) -> dict[str, str]:
    """What the metrics say of the labels where there are soft ones: which its networks learned from. Says so
    if not from those of a set that has some."""
    if SOFT_LABELS not in header:
        return {"labels": protocol.loss.labels} if protocol.labels else {}
    if protocol.labels:
        note(
            f"{name} has soft labels, of which the protocol '{protocol.name}' makes no use: it takes those "
            f"of '{protocol.labels.name}'"
        )
    if protocol.loss.labels == "hard":
        loss = f"its loss '{protocol.loss.name}' compares with the classes alone"
        note(f"{name} has soft labels, of which the protocol '{protocol.name}' makes no use: {loss}")
    return {"labels": protocol.loss.labels}


def _decoding(header: Mapping[str, Any]) -> Decode | None:
    how = header.get("decode")
    return None if how is None else read(Decode, how, "decode")


def load_synthetic(path: str | Path) -> SyntheticSet:
    """The synthetic set in a file, normalised and checked. Raises UserError if the file is absent, damaged or
    of another kind."""
    tensors, header = read_set(Path(path))
    soft = targets(tensors, header)
    further = {
        name: torch.from_numpy(values) for name, values in carried(tensors).items() if name != SOFT_LABELS
    }
    pictured = decoded(tensors["images"], tensors["labels"], header)
    return SyntheticSet(*pictured, header, None if soft is None else soft.values, further)
