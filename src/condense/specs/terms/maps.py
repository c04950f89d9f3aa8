"""Terms of statistics of feature maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from condense.specs.common import at_least
from condense.specs.term import Term


@dataclass(frozen=True, kw_only=True)
class OfMaps(Term):
    """Class means of statistics of feature maps behind the stages `layers`, counted from 1 (empty: all)."""

    layers: list[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"layers": min(self.layers or [1])}, 1)
        at_least({"layers": max(self.layers or [1])}, 1, 1000)


@dataclass(frozen=True, kw_only=True)
class Moments(OfMaps):
    """Spatial means and `spread` of every channel. `over_channels`: squared differences are summed, or
    averaged, over the channels."""

    name: Literal["moments"]
    spread: Literal["variance", "deviation"] = "variance"
    over_channels: Literal["sum", "mean"] = "sum"


@dataclass(frozen=True, kw_only=True)
class Gram(OfMaps):
    """Gram matrices of the channels."""

    name: Literal["gram"]


@dataclass(frozen=True, kw_only=True)
class Attention(OfMaps):
    """Spatial attention of maps before pooling: sums over channels of |value| ** power. `layers` empty: all
    but the last."""

    name: Literal["attention"]
    power: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"power": self.power}, 1, 100)


@dataclass(frozen=True, kw_only=True)
class ClassStatistics(OfMaps):
    """Means and variances of the channels of feature maps over all places and images of a class."""

    name: Literal["class_statistics"]
