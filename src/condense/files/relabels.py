"""Reading soft labels of every epoch and image of a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.config import UserError
from condense.files.artifacts import damaged, read_tensors
from condense.files.headers import header_as
from condense.specs.common import at_least

if TYPE_CHECKING:
    import numpy as np

RELABELS = "stored_labels"  # the kind of such files
_CHECKSUM = 32  # bytes of SHA-256


@dataclass(frozen=True)
class RelabelsHeader:
    """Of soft labels of every epoch: of which set, who gave them, and what the batches were drawn by.

    `labelled_sha256`: the checksum of the set. `told`: a line on them.
    """

    dataset: str
    data_sha256: str
    labelled_sha256: str
    class_names: list[str]
    protocol: dict[str, Any]
    strategy: str
    seed: int
    told: str
    observers: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least({"seed": self.seed}, 0, 1 << 62)
        if not self.observers:
            raise UserError("it does not say who gave its labels")


def read_relabels(path: Path) -> tuple[dict[str, np.ndarray], RelabelsHeader]:
    """Soft labels and what their file says of itself, known and whole; the tensors are those of
    `training.replay.Stored`.

    Raises UserError as `read_tensors` does, and naming what does not fit.
    """
    tensors, header = read_tensors(path, RELABELS)
    return tensors, check_relabels(path, tensors, header)


def check_relabels(
    path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]
) -> RelabelsHeader:
    """What soft labels say of themselves. Raises UserError naming what does not fit."""
    import numpy as np

    known = header_as(RelabelsHeader, header, path)
    logits, draws, number = tensors.get("logits"), tensors.get("draws"), len(known.class_names)
    if logits is None or logits.dtype != np.float16 or logits.ndim != 3 or not logits.size:
        raise damaged(path, "it has no logits, float16 (epochs, images, classes)")
    if not np.isfinite(logits).all():
        raise damaged(path, "some of its logits are no numbers")
    if draws is None or draws.dtype != np.uint8 or draws.shape != (len(logits), _CHECKSUM):
        raise damaged(path, "it has no checksum of the draws of each epoch")
    classes, rest = tensors.get("classes"), tensors.get("rest")
    if (classes is None) != (rest is None):
        raise damaged(path, "it has classes without the rest of the probability, or this without those")
    if classes is None or rest is None:
        if logits.shape[2] != number:
            raise damaged(path, f"its logits are of {logits.shape[2]} classes, and it names {number}")
        return known
    if classes.dtype != np.int16 or classes.shape != logits.shape or logits.shape[2] >= number:
        raise damaged(path, "it does not have the class of each of its logits, fewer than there are")
    if not 0 <= classes.min() <= classes.max() < number:
        raise damaged(path, f"its classes are not all among its {number}")
    if (np.diff(np.sort(classes, 2), axis=2) == 0).any():
        raise damaged(path, "an image has two logits of one class")
    if rest.dtype != np.float16 or rest.shape != logits.shape[:2] or not np.isfinite(rest).all():
        raise damaged(path, "it does not have the rest of the probability of each image")
    return known
