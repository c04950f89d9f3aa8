"""How the learning rate of a network falls, or rises at first, while it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from condense.config import UserError
from condense.specs.common import at_least, not_above


def _check_factor(factor: float) -> None:
    if not 0 < factor <= 1:
        raise UserError(f"schedule: factor: must lie in (0, 1], found {factor:g}")


@dataclass(frozen=True)
class DCSchedule:
    """The rate drops by `factor`, and momentum restarts, after epoch N/2 + 1 of 0..N."""

    HELD: ClassVar[dict[str, Any]] = {"at": []}
    further_epochs: ClassVar[int] = 1  # that are run beside those of the protocol
    adapts: ClassVar[bool] = False  # whether the losses decide the rate
    warmup: ClassVar[int] = 0

    kind: Literal["dc"]
    factor: float = 0.1

    def __post_init__(self) -> None:
        _check_factor(self.factor)


@dataclass(frozen=True)
class StepSchedule:
    """The rate is multiplied by `factor` at each fraction of the epochs in `at`."""

    LATER: ClassVar[tuple[str, ...]] = ("warmup",)
    further_epochs: ClassVar[int] = 0
    adapts: ClassVar[bool] = False

    kind: Literal["step"]
    at: list[float]
    factor: float = 0.1
    warmup: int = 0  # epochs in which the rate rises in equal steps to what it would be

    def __post_init__(self) -> None:
        if not all(0 <= fraction <= 1 for fraction in self.at) or self.at != sorted(self.at):
            raise UserError(
                f"schedule: at: ascending fractions of the epochs, from 0 to 1, are needed; found {self.at}"
            )
        if not self.at:
            raise UserError(
                "schedule: at: without a fraction the rate never drops; for that write `schedule: {kind: "
                "constant}`"
            )
        _check_factor(self.factor)
        at_least({"schedule: warmup": self.warmup}, 0)


@dataclass(frozen=True)
class ConstantSchedule:
    """The rate stays as it is."""

    LATER: ClassVar[tuple[str, ...]] = ("warmup",)
    HELD: ClassVar[dict[str, Any]] = {"at": [], "factor": 0.1}
    further_epochs: ClassVar[int] = 0
    adapts: ClassVar[bool] = False

    kind: Literal["constant"]
    warmup: int = 0  # epochs in which the rate rises in equal steps to what it would be

    def __post_init__(self) -> None:
        at_least({"schedule: warmup": self.warmup}, 0)


@dataclass(frozen=True)
class CosineSchedule:
    """The rate follows (1 + cos(pi i / (stretch N))) / 2 over the epochs i of N, down to the part `floor` of
    it.

    `stretch` 1 ends at `floor`; 2 is the smoothed schedule of RDED and EDC, which ends at half of the rate.
    """

    LATER: ClassVar[tuple[str, ...]] = ("rises_from",)
    further_epochs: ClassVar[int] = 0
    adapts: ClassVar[bool] = False

    kind: Literal["cosine"]
    stretch: float = 1.0
    floor: float = 0.0
    warmup: int = 0  # epochs in which the rate rises in equal steps to what it would be
    # the part of the rate in the first epoch of the warm-up; the cosine then begins after it, over what is
    # left of the epochs, as in torchvision's training of networks
    rises_from: float | None = None

    def __post_init__(self) -> None:
        if self.stretch < 1 or not 0 <= self.floor < 1:
            raise UserError("schedule: stretch must be at least 1, floor lie in [0, 1)")
        not_above({"schedule: stretch": self.stretch})
        at_least({"schedule: warmup": self.warmup}, 0)
        if self.rises_from is not None and not (0 < self.rises_from <= 1 and self.warmup):
            raise UserError(
                "schedule: rises_from: a part of the rate, above 0 and at most 1, is needed, with a warmup "
                f"of some epochs; found {self.rises_from:g} and {self.warmup}"
            )


@dataclass(frozen=True)
class SlowedSchedule:
    """EDC's equation 33: the cosine up to 5/6 of the epochs, and from there its value there times (1 - i/N),
    a drop by about 6."""

    further_epochs: ClassVar[int] = 0
    adapts: ClassVar[bool] = False

    kind: Literal["ssrs"]
    stretch: float = 2.0
    warmup: int = 0  # epochs in which the rate rises in equal steps to what it would be

    def __post_init__(self) -> None:
        if self.stretch < 1:
            raise UserError("schedule: stretch must be at least 1")
        not_above({"schedule: stretch": self.stretch})
        at_least({"schedule: warmup": self.warmup}, 0)


@dataclass(frozen=True)
class AdaptiveSchedule:
    """The rate is multiplied by `factor` after every epoch whose mean loss differs from that of the epoch
    before by less than `change`, and by less than the part `share` of its own. Source: EDC's appendix (ALRS)
    and code, which has epochs for the paper's iterations and a loss of 1000 before the first one."""

    further_epochs: ClassVar[int] = 0
    warmup: ClassVar[int] = 0
    adapts: ClassVar[bool] = True

    kind: Literal["adaptive"]
    factor: float = 0.9975
    share: float = 0.02
    change: float = 0.02

    def __post_init__(self) -> None:
        _check_factor(self.factor)
        if not (0 < self.share <= 1e6 and 0 < self.change <= 1e6):
            raise UserError("schedule: share and change must lie above 0, and be at most 1e6")


AnySchedule = (
    DCSchedule | StepSchedule | ConstantSchedule | CosineSchedule | SlowedSchedule | AdaptiveSchedule
)
