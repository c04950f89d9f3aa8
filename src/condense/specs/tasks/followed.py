"""The accuracy at the end of the training, and the best of several test passes over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.common import at_least
from condense.specs.tasks.base import ACCURACY, Metric, Task


@dataclass(frozen=True, kw_only=True)
class Followed(Task):
    """Test accuracy of networks trained on the set, at the end, and the best of so many test passes evenly
    spread over the epochs.

    The last pass is that at the end. The best one chooses its epoch by the test images: it tells how far the
    numbers of codes that quote it lie above others, and nothing is chosen by it here.
    """

    folder: ClassVar[str] = "followed"
    title: ClassVar[str] = "test accuracy at the end, and the best of several test passes"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": ACCURACY,
        "best_accuracy": Metric("best test accuracy of several passes", unit="%", least=0.0, most=100.0),
    }
    comparable: ClassVar[bool] = True
    best: ClassVar[str] = "best_accuracy"
    numerics: ClassVar[int | None] = 1
    remark: ClassVar[str | None] = ""
    answers: ClassVar[tuple[str, ...] | None] = ("condense", "transfer", "ablation")

    tests: int
    kind: Literal["followed"] = "followed"

    def __post_init__(self) -> None:
        at_least({"tests": self.tests}, 1, 10_000)

    @property
    def test_passes(self) -> int:
        return self.tests
