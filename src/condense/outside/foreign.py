"""What a file of another program holds, before anything of it is decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# The names that images and labels have in other programs' files, the likeliest first
IMAGES = (
    *("images", "image_syn", "images_syn", "syn_images", "image", "img", "imgs", "x", "x_syn", "pixels"),
    *("data", "samples"),
)
LABELS = (
    *("labels", "label_syn", "labels_syn", "syn_labels", "label", "targets", "target", "y", "y_syn"),
    *("classes", "soft_labels"),
)


@dataclass(frozen=True)
class Foreign:
    """A set as its file has it.

    `images`: numbers of any type and layout. `labels`: (N,) or soft ones (N, classes), None if the file has
    none. `names`: what the numbers of the labels are called, from 0 on. `coding`: that of the numbers,
    where the form leaves no choice. `soft` (N, classes) of the kind `soft_kind`: soft labels that stand
    beside the labels. `method`: by which the set was made. `form` and `called` (the names of images and
    labels in it) are for messages and for the origin. `decode`: how formations are cut, where the file says
    so.
    """

    images: np.ndarray
    labels: np.ndarray | None
    form: str
    called: tuple[str, str] = ("", "")
    names: list[str] | None = None
    coding: str | None = None
    soft_kind: str | None = None
    decode: dict[str, Any] | None = None
    soft: np.ndarray | None = None
    method: str | None = None


def shape_of(array: np.ndarray) -> str:
    """Type and shape for messages, as 'float32 10 x 3 x 32 x 32'."""
    return f"{array.dtype} {' x '.join(map(str, array.shape)) or 'number'}"
