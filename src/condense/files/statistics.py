"""Reading what the layers of a classifier are given for the real images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condense.config import UserError
from condense.files.artifacts import damaged, read_tensors
from condense.files.headers import header_as
from condense.files.states import check_numbers

if TYPE_CHECKING:
    import numpy as np

MOMENTS = ("mean", "variance", "patch_mean", "patch_variance")  # of a layer; the last two of convolutions
_SIZES = MOMENTS[1::2]  # those that are no less than 0


@dataclass(frozen=True)
class StatisticsHeader:
    """Of what the layers of an observer are given: which images went through it, how, and the kinds of the
    layers, in the order in which the network has them.

    `observer_sha256`: the checksum of the observer's file.
    """

    dataset: str
    data_sha256: str
    class_names: list[str]
    observer_sha256: str
    arch: str
    options: dict[str, Any]
    protocol: str
    strategy: str
    seed: int
    key: str
    layers: list[str]

    def __post_init__(self) -> None:
        if not self.layers or not self.class_names:
            raise UserError("it names no layers or no classes")

    def moments_of(self, number: int) -> tuple[str, ...]:
        """The names of what is known of a layer."""
        return MOMENTS if self.layers[number] == "Conv2d" else MOMENTS[:2]


def read_statistics(path: Path) -> tuple[dict[str, np.ndarray], StatisticsHeader]:
    """The moments of every layer, `NUMBER.all.NAME` (k,) and `NUMBER.classes.NAME` (C, k), and what their
    file says of itself.

    Raises UserError as `read_tensors` does, and naming what does not fit.
    """
    tensors, header = read_tensors(path, "statistics")
    return tensors, check_statistics(path, tensors, header)


def check_statistics(
    path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]
) -> StatisticsHeader:
    """What statistics of layers say of themselves. Raises UserError naming what does not fit."""
    import numpy as np

    known = header_as(StatisticsHeader, header, path)
    classes = len(known.class_names)
    wanted = [(number, name) for number in range(len(known.layers)) for name in known.moments_of(number)]
    if tensors.keys() != {f"{number}.{of}.{name}" for number, name in wanted for of in ("all", "classes")}:
        raise damaged(path, "it does not have the moments of its layers, or has others")
    for number, name in wanted:
        of_all, of_classes = (tensors[f"{number}.{of}.{name}"] for of in ("all", "classes"))
        if of_all.ndim != 1 or of_classes.shape != (classes, *of_all.shape) or not of_all.size:
            raise damaged(path, f"its '{name}' of layer {number} is not that of all and of {classes} classes")
        if {of_all.dtype, of_classes.dtype} != {np.dtype(np.float32)}:
            raise damaged(path, f"its '{name}' of layer {number} is not in float32")
        if name in _SIZES and min(of_all.min(), of_classes.min()) < 0:
            raise damaged(path, f"its '{name}' of layer {number} is negative somewhere")
    check_numbers(path, tensors)
    return known
