"""Reading soft labels of every epoch and image of a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.config import UserError
from condense.files.artifacts import damaged, read_header
from condense.files.headers import header_as
from condense.files.mapped import map_arrays
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
    `training.replay.Stored`, mapped: they may be larger than the memory.

    Raises UserError as `map_arrays` does, and naming what does not fit.
    """
    tensors, header = map_arrays(path, RELABELS)
    return tensors, check_relabels(path, tensors, header)


def read_relabels_header(path: Path) -> tuple[RelabelsHeader, dict[str, Any]]:
    """What a file with soft labels says of itself, as a record and as it stands there. Raises UserError as
    `read_header` does, and naming what does not fit."""
    header = read_header(path, RELABELS)
    return header_as(RelabelsHeader, header, path), header


def check_relabels(
    path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]
) -> RelabelsHeader:
    """What soft labels say of themselves. Raises UserError naming what does not fit."""
    import numpy as np

    known = header_as(RelabelsHeader, header, path)
    logits, draws, number = tensors.get("logits"), tensors.get("draws"), len(known.class_names)
    if logits is None or logits.dtype != np.float16 or logits.ndim != 3 or not logits.size:
        raise damaged(path, "it has no logits, float16 (epochs, images, classes)")
    if draws is None or draws.dtype != np.uint8 or draws.shape != (len(logits), _CHECKSUM):
        raise damaged(path, "it has no checksum of the draws of each epoch")
    classes, rest = tensors.get("classes"), tensors.get("rest")
    if (classes is None) != (rest is None):
        raise damaged(path, "it has classes without the rest of the probability, or this without those")
    if classes is None and logits.shape[2] != number:
        raise damaged(path, f"its logits are of {logits.shape[2]} classes, and it names {number}")
    if classes is not None and (
        classes.dtype != np.int16 or classes.shape != logits.shape or logits.shape[2] >= number
    ):
        raise damaged(path, "it does not have the class of each of its logits, fewer than there are")
    if rest is not None and (rest.dtype != np.float16 or rest.shape != logits.shape[:2]):
        raise damaged(path, "it does not have the rest of the probability of each image")
    for epoch in range(len(logits)):  # one at a time: all of them may be larger than the memory
        _check_epoch(path, logits[epoch], number, classes, rest, epoch)
    return known


def _check_epoch(
    path: Path,
    logits: np.ndarray,
    number: int,
    classes: np.ndarray | None,
    rest: np.ndarray | None,
    epoch: int,
) -> None:
    """Raises UserError where the values of an epoch cannot be what they should be."""
    import numpy as np

    if not np.isfinite(logits).all():
        raise damaged(path, "some of its logits are no numbers")
    if rest is not None and not np.isfinite(rest[epoch]).all():
        raise damaged(path, "some of the rest of its probabilities are no numbers")
    if classes is not None:
        of_image = np.sort(classes[epoch], 1)
        if not 0 <= of_image.min() <= of_image.max() < number:
            raise damaged(path, f"its classes are not all among its {number}")
        if (np.diff(of_image, axis=1) == 0).any():
            raise damaged(path, "an image has two logits of one class")
