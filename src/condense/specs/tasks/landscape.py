"""How the loss of networks trained on a set rises around their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.common import at_least
from condense.specs.costs.profile import Profile
from condense.specs.costs.work import Sizes, Work
from condense.specs.tasks.base import Metric, Task

CIRCLE = 16  # points of the circle at whose radius the rise is measured


@dataclass(frozen=True, kw_only=True)
class Landscape(Task):
    """Loss of networks trained on the set, on the set and on the test images, along two random directions
    that are scaled filter by filter; and how much it rises at a radius.

    `points`: of each direction, an odd number, so that the weights themselves are one; from -`extent` to
    `extent`, where 1 is as far as each filter is long. `radius`: of the circle over which the rise is the
    mean. The steps of its metrics are the points of the square: those of the second direction for the first
    of the first, and so on.
    """

    folder: ClassVar[str] = "landscape"
    title: ClassVar[str] = "how the loss rises around the weights of networks trained on the set"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "rise": Metric("rise of the loss on the set", unit="nats", better="lower", once=True),
        "test_rise": Metric("rise of the loss on test images", unit="nats", better="lower", once=True),
        "loss": Metric("loss on the set", unit="nats", better="lower", least=0.0),
        "test_loss": Metric("loss on test images", unit="nats", better="lower", least=0.0),
    }
    numerics: ClassVar[int | None] = 2
    over_steps: ClassVar[bool] = True
    unstored: ClassVar[str] = "measures the loss of images as they are, augmented by nothing"
    steps_are: ClassVar[Literal["steps", "classes", "grid"]] = "grid"

    points: int = 15
    extent: float = 1.0
    radius: float = 0.5
    kind: Literal["landscape"] = "landscape"

    def __post_init__(self) -> None:
        at_least({"points": self.points}, 3, 201)
        if self.points % 2 == 0:
            raise UserError(
                f"points: an odd number is needed, so that the trained weights are one of them, found "
                f"{self.points}"
            )
        for name, value in {"extent": self.extent, "radius": self.radius}.items():
            if not 0 < value <= 100:
                raise UserError(f"{name}: must be above 0 and at most 100, found {value}")

    @property
    def grid(self) -> list[float]:
        half = self.points // 2
        return [self.extent * (number - half) / half for number in range(self.points)]

    @property
    def explained(self) -> str:
        circle = (
            f"mean over a circle of radius {self.radius:g}, less the loss of the weights themselves, in nats"
        )
        return f"Distance 1 is as far as each filter is long. Rise: {circle}."

    def measuring_work(self, network: Profile, data: Sizes, images: int, networks: int, sets: int) -> Work:
        """A forward pass of the set and the test images at every point of the square and of the circle."""
        passes = networks * (self.points**2 + CIRCLE)
        return Work(
            flops_forward=float(passes * (images + data.test) * network.forward),
            calls_forward=float(passes * network.layers * (2 + (images + data.test) // 512)),
        )
