"""A few real images of every class, to be shown beside synthetic ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from condense.artifacts import damaged, read_header


def first_of_each_class(path: Path, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `most` images of each class in a prepared split: pixels (n, C, H, W) in [0, 1] and labels (n,).

    Reads only what it shows and needs no torch. Raises UserError if the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    header = read_header(path, "dataset")
    starts = np.concatenate([[0], np.cumsum(header["counts"])])
    try:
        with safe_open(path, framework="numpy") as file:
            images = file.get_slice("images")
            parts = [images[int(start) : int(min(start + most, end))] for start, end in zip(starts[:-1], starts[1:], strict=True)]
    except SafetensorError as error:
        raise damaged(path, str(error)) from None
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.concatenate(parts).astype(np.float32) / 255, labels
