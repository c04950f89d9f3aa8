"""A few real images of every class, to be shown beside synthetic ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from condense.files import check_dataset, read_dataset_header
from condense.files.artifacts import damaged
from condense.machine import seeds

if TYPE_CHECKING:
    from torch import Tensor

    from condense.data.dataset import Images

MOST_REAL = 500  # real images of a class that are compared with synthetic ones


def first_of_each_class(path: Path, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `most` images of each class in a prepared split: pixels (n, C, H, W) in [0, 1] and labels
    (n,).

    Reads only what it shows and needs no torch. Raises UserError if the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    header = read_dataset_header(path)
    starts = np.concatenate([[0], np.cumsum(header.counts)])
    try:
        with safe_open(path, framework="numpy") as file:
            images = file.get_slice("images")
            check_dataset(
                path,
                header,
                images.get_shape(),
                {"U8": "uint8"}.get(images.get_dtype(), images.get_dtype()),
                None,
            )
            by_class = [
                images[int(start) : int(min(start + most, end))]
                for start, end in zip(starts[:-1], starts[1:], strict=True)
            ]
    except SafetensorError as error:
        raise damaged(path, str(error)) from None
    labels = np.repeat(np.arange(len(by_class)), [len(pixels) for pixels in by_class])
    return np.concatenate(by_class).astype(np.float32) / 255, labels


def of_a_class(images: Images, label: int) -> Tensor:
    """At most `MOST_REAL` images of a class, normalised (n, C, H, W): always the same, drawn without
    replacement where there are more."""
    import torch

    chosen = torch.randperm(images.counts[label], generator=seeds.generator(0, "embedding-map", label))[
        :MOST_REAL
    ]
    return images.of_class(label, chosen.sort().values)
