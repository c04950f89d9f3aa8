"""Synthetic sets as data sets that train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from condense.augment import formations
from condense.config import read
from condense.data.dataset import denormalise, normalise
from condense.files import read_set
from condense.specs import Decode


@dataclass(frozen=True, eq=False)
class SyntheticSet(Dataset):
    """A synthetic set ready for training: `images` (n, C, H, W) normalised float32, `labels` (n,) int64.

    Where the file stores formations these are decoded.

    `header` is what the file says of itself: dataset, method, ipc, arch, seed, key, classes, mean, std, recipe and so on.
    Two sets are equal if their images, labels and headers are, wherever their tensors lie.
    """

    images: Tensor
    labels: Tensor
    header: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SyntheticSet):
            return NotImplemented
        pairs = (self.images, other.images), (self.labels, other.labels)
        return self is other or (self.header == other.header and all(torch.equal(one.cpu(), two.cpu()) for one, two in pairs))

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


def decoded(pixels: np.ndarray, labels: np.ndarray, header: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Stored pixels (n, C, H, W) and labels (n,) as they train: normalised, and decoded as the header of their set says."""
    how = header.get("decode")
    images = normalise(torch.from_numpy(pixels), header["mean"], header["std"])
    found = torch.from_numpy(labels)
    if how is None:
        return images, found
    how = read(Decode, how, "decode")
    grey = [(0.5 - mean) / std for mean, std in zip(header["mean"], header["std"], strict=True)]
    return formations.decode(images, how, grey), found.repeat(how.factor**2)


def load_synthetic(path: str | Path) -> SyntheticSet:
    """The synthetic set in a file, normalised and checked. Raises UserError if the file is absent, damaged or of another kind."""
    tensors, header = read_set(Path(path))
    return SyntheticSet(*decoded(tensors["images"], tensors["labels"], header), header)
