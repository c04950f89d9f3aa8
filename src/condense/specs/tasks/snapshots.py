"""The accuracy over the steps of a condensation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.tasks.base import ACCURACY, Metric, Task


@dataclass(frozen=True, kw_only=True)
class Snapshots(Task):
    """Test accuracy of networks trained on every snapshot of a set."""

    folder: ClassVar[str] = "snapshots"
    title: ClassVar[str] = "test accuracy over the steps of the condensation"
    metrics: ClassVar[Mapping[str, Metric]] = {"accuracy": ACCURACY}
    numerics: ClassVar[int | None] = None
    reads: ClassVar[Literal["synthetic", "snapshots", "recipe"]] = "snapshots"
    over_steps: ClassVar[bool] = True
    of_a_set: ClassVar[str] = "snapshots of a set"

    kind: Literal["snapshots"] = "snapshots"

    def sets_in(self, snapshots: int) -> int:
        return max(1, snapshots)
