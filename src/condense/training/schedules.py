"""Learning rates over the epochs of a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from condense.config import unknown
from condense.specs import Protocol, number_of_epochs

_BEFORE = 1e3  # the loss before the first epoch


@dataclass(frozen=True)
class Course:
    """What the rate is multiplied by in each epoch, and the epochs, from 0, after which momentum starts
    anew; `adapts` further multiplies it by what it has seen of the losses; `rises`: the warm-up is among the
    factors."""

    factors: list[float]
    restarts: frozenset[int] = frozenset()
    adapts: Adaptation | None = None
    rises: bool = False

    @property
    def drops(self) -> list[int]:
        """The epochs, from 0, after which the rate is lower."""
        return [
            epoch for epoch in range(len(self.factors) - 1) if self.factors[epoch + 1] < self.factors[epoch]
        ]


def course(protocol: Protocol, images: int) -> Course:
    """The course of the rate under `protocol` on so many images."""
    kind = protocol.schedule.kind
    if kind not in SCHEDULES:
        raise unknown("schedule", kind, SCHEDULES, protocol.name)
    planned, epochs = protocol.epochs_of_schedule(images), number_of_epochs(protocol, images)
    base = SCHEDULES[kind](protocol.schedule, planned, epochs)
    warmup = 0 if base.rises else protocol.schedule.warmup
    rising = [base.factors[epoch] * (epoch + 1) / warmup for epoch in range(warmup)]
    return Course(rising + base.factors[warmup:], base.restarts, base.adapts)


class Adaptation:
    """A rate that falls where the loss of epochs stays nearly as it is. Source: EDC's authors' code, ALRS."""

    def __init__(self, settings: Any):
        self.settings = settings
        # The loss of the epoch before, and what the rate is multiplied by; kept in checkpoints
        self.state = {
            "loss": torch.tensor(_BEFORE, dtype=torch.float64),
            "factor": torch.ones((), dtype=torch.float64),
        }
        self._sum: Tensor | float = 0.0
        self._images = 0

    @property
    def factor(self) -> float:
        """What the rate is multiplied by in the epoch to come."""
        return float(self.state["factor"])

    def see(self, loss: Tensor, images: int) -> None:
        """The mean loss () over so many images of a batch."""
        self._sum, self._images = self._sum + loss.detach().double() * images, self._images + images

    def end(self) -> None:
        """Compares the mean loss of the epoch that is over with that of the one before."""
        loss, self._sum, self._images = float(self._sum) / self._images, 0.0, 0
        change = abs(float(self.state["loss"]) - loss)
        if change < self.settings.share * loss and change < self.settings.change:
            self.state["factor"] *= self.settings.factor
        self.state["loss"].fill_(loss)


def cosine_at(epoch: int, epochs: int, stretch: float = 1.0) -> float:
    """(1 + cos(pi i / (stretch N))) / 2, as EDC's authors' code and RDED's."""
    return 0.5 * (1 + math.cos(math.pi * epoch / (stretch * epochs)))


def slowed_at(epoch: int, epochs: int, stretch: float) -> float:
    """EDC's equation 33, as its authors' code: beyond 5/6 of the epochs the cosine of there times 1 - i /
    N."""
    if epoch <= epochs * 5 / 6:
        return cosine_at(epoch, epochs, stretch)
    return 0.5 * (1 + math.cos(math.pi * 5 / 6 / stretch)) * (1 - epoch / epochs)


def _falling(factor: float, drops: list[int], epochs: int) -> list[float]:
    return [factor ** sum(drop < epoch for drop in drops) for epoch in range(epochs)]


def _dc(schedule: Any, planned: int, epochs: int) -> Course:
    drop = planned // 2 + 1
    return Course(_falling(schedule.factor, [drop], epochs), frozenset([drop]))


def _step(schedule: Any, planned: int, epochs: int) -> Course:
    # At least one epoch is run at the full rate.
    return Course(
        _falling(schedule.factor, [max(round(fraction * planned), 1) - 1 for fraction in schedule.at], epochs)
    )


def _cosine(schedule: Any, planned: int, epochs: int) -> Course:
    low, first, begins = schedule.floor, schedule.rises_from, 0
    rising: list[float] = []
    if first is not None:
        begins = schedule.warmup
        rising = [first + (1 - first) * epoch / begins for epoch in range(begins)]
    falling = [
        low + (1 - low) * cosine_at(epoch, max(planned - begins, 1), schedule.stretch)
        for epoch in range(epochs - begins)
    ]
    return Course(rising + falling, rises=first is not None)


# Of the epochs of the protocol, and those that are run.
SCHEDULES: dict[str, Callable[[Any, int, int], Course]] = {
    "dc": _dc,
    "step": _step,
    "constant": lambda schedule, planned, epochs: Course([1.0] * epochs),
    "cosine": _cosine,
    "adaptive": lambda schedule, planned, epochs: Course([1.0] * epochs, adapts=Adaptation(schedule)),
    "ssrs": lambda schedule, planned, epochs: Course(
        [slowed_at(epoch, planned, schedule.stretch) for epoch in range(epochs)]
    ),
}
