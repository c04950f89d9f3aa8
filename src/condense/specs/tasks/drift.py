"""The accuracy of networks whose training images drift in style."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from condense.config import UserError
from condense.specs.common import at_least
from condense.specs.tasks.base import ACCURACY, Metric, Task


@dataclass(frozen=True, kw_only=True)
class Drift(Task):
    """Test accuracy of networks that train on a set with the style of its images drifted, inside the network,
    towards another's.

    `ratio`: how far, from 0, not at all, to 1. `stage`: of the network, counted from 1, whose maps drift.
    """

    folder: ClassVar[str] = "drift"
    title: ClassVar[str] = "test accuracy where the style of the training images drifts"
    metrics: ClassVar[Mapping[str, Metric]] = {"accuracy": ACCURACY}
    numerics: ClassVar[int | None] = 1
    further: ClassVar[Mapping[str, str]] = {"style": "the set towards whose style the images drift"}
    told_as: ClassVar[Mapping[str, str]] = {"style": "towards"}
    of_a_set: ClassVar[str] = "set to drift"
    unobserved: ClassVar[str] = "its images drift after they were labelled"
    together: ClassVar[bool] = False

    ratio: float
    stage: int
    kind: Literal["drift"] = "drift"

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise UserError(f"ratio: must lie between 0 and 1, found {self.ratio}")
        at_least({"stage": self.stage}, 1, 1000)

    @property
    def passes(self) -> float:
        """Both images of a pair, the one only as far as its style is taken: at most twice the work."""
        return 2

    def key_parts(self, further: Mapping[str, str]) -> list[Any]:
        """In the form that its keys have had since before tasks had classes."""
        return [further["style"], self.ratio, self.stage, self.numerics]
