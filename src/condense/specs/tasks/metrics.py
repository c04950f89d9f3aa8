"""What the numbers are that tasks give, and how the leaderboard calls them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from condense.config import UserError


@dataclass(frozen=True)
class Metric:
    """A number that a task gives for each network. `unit`: '' for a plain number. `least` and `most` bound
    what it can be.

    `published`: what `params/published/results.csv` calls it in its column `metric`. `reference`: of a number
    that tells nothing of the set, but stands beside that of sets, what it is of; '' for all others. `once`:
    one value for each network also where the task's other metrics are curves over steps. `interval`: the
    metrics that are the ends of its interval. `alone`: of a number of all networks together, the metric that
    is the same of each network by itself.
    """

    title: str
    unit: str = ""
    better: Literal["higher", "lower"] = "higher"
    least: float = -math.inf
    most: float = math.inf
    published: tuple[str, ...] = ()
    reference: str = ""
    once: bool = False
    interval: tuple[str, str] | None = None
    alone: str = ""

    @property
    def label(self) -> str:
        """Title and unit, as on the axis of a figure."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def sentence(self) -> str:
        """Title and unit as a caption begins: 'Test accuracy in %'."""
        return f"{self.title[:1].upper()}{self.title[1:]}" + (f" in {self.unit}" if self.unit else "")

    def check(self, name: str, values: Sequence[float], networks: int | None = None) -> None:
        """Raises UserError unless `values` are possible ones of this metric, one for each of the `networks`
        (None: for some)."""
        outside = next((value for value in values if not self.least <= value <= self.most), None)
        if outside is not None:
            raise UserError(
                f"{name}: {outside:g} lies outside of {self.least:g} to {self.most:g}, its bounds"
            )
        if not values or len(values) != (networks or len(values)):
            raise UserError(f"{name}: are {len(values)} instead of one for each of {networks} networks")


# What papers call the test accuracy is told here alone; `results.csv` keeps their words.
ACCURACY = Metric(
    "test accuracy",
    unit="%",
    least=0.0,
    most=100.0,
    published=("test_accuracy", "test_accuracy_mean_over_archs", "top1_accuracy"),
)


@dataclass(frozen=True)
class OnBoard:
    """A column of the leaderboard: the metric of the task that it shows, and what that means."""

    metric: str
    meaning: str
