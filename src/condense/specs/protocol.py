"""How networks are trained and judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from condense.config import UserError
from condense.specs.common import Optimizer, Source, at_least, check_groups, check_name, cut_to


@dataclass(frozen=True)
class Schedule:
    """Learning rate over epochs. `dc`: the rate drops by `factor`, and momentum restarts, after epoch N/2 + 1 of 0..N.

    `step`: times `factor` at each fraction of the epochs in `at`. `constant`: unchanged.
    """

    kind: Literal["dc", "step", "constant"]
    at: list[float] = field(default_factory=list)
    factor: float = 0.1

    def __post_init__(self) -> None:
        if not all(0 <= place <= 1 for place in self.at) or self.at != sorted(self.at):
            raise UserError(f"schedule: at: ascending fractions of the epochs, from 0 to 1, are needed; found {self.at}")
        if not 0 < self.factor <= 1:
            raise UserError(f"schedule: factor: must lie in (0, 1], found {self.factor:g}")


@dataclass(frozen=True)
class Protocol:
    """How a network is trained and judged. See `params/protocols/`."""

    name: str
    title: str
    source: Source
    epochs: int
    batch: int
    optimizer: Optimizer
    schedule: Schedule
    augment: Literal["dataset", "all", "none"] = "dataset"  # one operation of the dataset's a batch, or all in IDC's way
    siamese: str = ""  # of which operations, joined by '_', as far as the dataset has them; empty: of all that it has
    cutmix: float = 0.0  # probability with which a batch gets boxes of itself in another order, and labels in their shares
    precision: Literal["fp32", "mixed"] = "mixed"  # mixed: layers in bfloat16, weights, their steps and the logits in float32
    least_updates: int = 0  # on a small set the epochs are raised until there are so many updates

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if not 0 <= self.cutmix <= 1:
            raise UserError(f"cutmix: a probability is needed, found {self.cutmix}")
        check_groups(self.siamese, "siamese")
        if self.epochs < 1 or self.batch < 1 or self.least_updates < 0:
            raise UserError("epochs and batch must be at least 1, least_updates not negative")
        at_least({"epochs": self.epochs, "batch": self.batch, "least_updates": self.least_updates}, 0)

    def operations_of(self, strategy: str) -> str:
        """The augmentation of a dataset whose own is `strategy`."""
        if self.augment == "none":
            return "none"
        return cut_to(self.siamese, strategy) if self.siamese else strategy

    def epochs_of_schedule(self, images: int) -> int:
        """The epochs, or more where a set of so many images would give fewer updates than `least_updates`."""
        return max(self.epochs, math.ceil(self.least_updates / math.ceil(images / self.batch)))


def number_of_epochs(protocol: Protocol, images: int) -> int:
    """Epochs that are run on so many images: the DC schedule counts from 0 to `epochs` inclusive."""
    epochs = protocol.epochs_of_schedule(images)
    return epochs + 1 if protocol.schedule.kind == "dc" else epochs
