"""How far networks trained on a set are as sure as they are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.common import at_least
from condense.specs.tasks.base import ACCURACY, Metric, Task


@dataclass(frozen=True, kw_only=True)
class Calibration(Task):
    """Accuracy, calibration error, negative log-likelihood and Brier score of networks trained on the set, on
    the test images.

    `bins`: into how many bins of equal width the calibration error sorts the confidences.
    """

    folder: ClassVar[str] = "calibration"
    title: ClassVar[str] = "whether networks are as sure as they are right"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": ACCURACY,
        "calibration_error": Metric(
            "expected calibration error", unit="%", better="lower", least=0.0, most=100.0
        ),
        "negative_log_likelihood": Metric("negative log-likelihood", unit="nats", better="lower", least=0.0),
        "brier_score": Metric("Brier score", better="lower", least=0.0, most=2.0),
    }
    comparable: ClassVar[bool] = True
    numerics: ClassVar[int | None] = 1

    bins: int = 15
    kind: Literal["calibration"] = "calibration"

    def __post_init__(self) -> None:
        at_least({"bins": self.bins}, 1, 10_000)
