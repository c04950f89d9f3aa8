"""The accuracy of networks trained on a set: what most tables show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.tasks.base import ACCURACY, Metric, Task
from condense.specs.tasks.followed import Followed


@dataclass(frozen=True, kw_only=True)
class Accuracy(Task):
    """Test accuracy of networks trained on the set as it is, or on the whole training set."""

    # Its metrics are kept under this name, which they had before there were other tasks.
    folder: ClassVar[str] = "condense"
    title: ClassVar[str] = "test accuracy"
    metrics: ClassVar[Mapping[str, Metric]] = {"accuracy": ACCURACY}
    comparable: ClassVar[bool] = True
    numerics: ClassVar[int | None] = None
    remark: ClassVar[str | None] = ""
    answers: ClassVar[tuple[str, ...] | None] = ("condense", "transfer", "ablation")

    kind: Literal["accuracy"] = "accuracy"

    def followed(self, tests: int) -> Task:
        return Followed(tests=tests)
