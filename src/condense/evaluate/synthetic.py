"""Synthetic sets as data sets that train."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from condense.artifacts import read_set
from condense.data.dataset import denormalise, normalise


@dataclass(frozen=True)
class SyntheticSet(Dataset):
    """A synthetic set ready for training: `images` (n, C, H, W) normalised float32, `labels` (n,) int64.

    `header` is what the file says of itself: dataset, method, ipc, arch, seed, key, classes, mean, std, recipe and so on.
    """

    images: Tensor
    labels: Tensor
    header: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @property
    def pixels(self) -> Tensor:
        """The images in pixel space, [0, 1] where they are not outside it: they are not clipped."""
        return denormalise(self.images, self.header["mean"], self.header["std"])


def load_synthetic(path: str | Path) -> SyntheticSet:
    """The synthetic set in a file, normalised and checked. Raises UserError if the file is absent, damaged or of another kind."""
    tensors, header = read_set(Path(path))
    images = normalise(torch.from_numpy(tensors["images"]), header["mean"], header["std"])
    return SyntheticSet(images, torch.from_numpy(tensors["labels"]), header)
