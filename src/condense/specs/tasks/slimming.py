"""The accuracy of networks trained on a set, as channels are taken out of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.common import at_least
from condense.specs.tasks.base import ACCURACY, Metric, Task


def _tenths() -> list[int]:
    return list(range(0, 100, 10))


@dataclass(frozen=True, kw_only=True)
class Slimming(Task):
    """Networks are trained on the set with an L1 penalty on the scales of their batch norms, lose the
    channels of the smallest scales, and are trained on the set once more: their test accuracy.

    `percents`: of all channels, how many are taken out, each time from the network as it was trained.
    `penalty`: of the scales, in the first training alone; 0 for none. `tuning`: of the second training, as a
    share of the protocol's epochs.
    """

    folder: ClassVar[str] = "slimming"
    title: ClassVar[str] = "test accuracy as channels of small scale are taken out of the network"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": Metric(ACCURACY.title, unit="%", least=0.0, most=100.0),
        "pruned_accuracy": Metric(
            "test accuracy before the second training", unit="%", least=0.0, most=100.0
        ),
        "removed_parameters": Metric("parameters taken out", unit="%", least=0.0, most=100.0),
        "removed_channels": Metric("channels taken out", unit="%", least=0.0, most=100.0),
    }
    numerics: ClassVar[int | None] = 1
    over_steps: ClassVar[bool] = True
    steps_are: ClassVar[Literal["steps", "classes", "grid", "networks", "percents"]] = "percents"
    unstored: ClassVar[str] = "trains each network on the set twice"
    together: ClassVar[bool] = False  # those without the channels of one have no shape in common
    answers: ClassVar[tuple[str, ...] | None] = ("slimming",)

    percents: list[int] = field(default_factory=_tenths)
    penalty: float = 1e-4
    tuning: float = 1.0
    kind: Literal["slimming"] = "slimming"

    def __post_init__(self) -> None:
        if not self.percents or self.percents != sorted(set(self.percents)):
            raise UserError(f"percents: ascending whole numbers are needed, found {self.percents}")
        for percent in self.percents:
            at_least({"percents": percent}, 0, 99)
        if not 0 <= self.penalty <= 1:
            raise UserError(f"penalty: must lie from 0 to 1, found {self.penalty:g}")
        if not 0 < self.tuning <= 100:
            raise UserError(f"tuning: must lie above 0, and be at most 100, found {self.tuning:g}")

    @property
    def explained(self) -> str:
        times = f"{self.tuning:g} times " if self.tuning != 1 else ""
        return (
            f"Trained on the set alone, with an L1 penalty of {self.penalty:g} on the scales of batch norms; "
            "of all channels those of the smallest scales are taken out, and the network is trained on the "
            f"set for {times}as many epochs again."
        )

    @property
    def passes(self) -> float:
        """The second trainings are of networks whose convolutions have fewer channels on both sides."""
        left = [(1 - percent / 100) ** 2 for percent in self.percents]
        return (1 + self.tuning * sum(left)) / self.trainings(False)

    def trainings(self, whole: bool) -> int:
        """The first one, and one for every share of channels."""
        return 1 + len(self.percents)

    @property
    def test_passes(self) -> int:
        """Before the second training and after it."""
        return 2
