"""The ConvNets of the search space of DC, by their number there (`specs/spaces/convnets.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from condense.config import UserError
from condense.models import convnet
from condense.models.base import Builder, Network, Options
from condense.models.convnet import ConvNetOptions
from condense.specs.spaces.convnets import CONVNETS, candidate_of, settings_of

_USUAL = candidate_of({"width": 128, "depth": 3, "norm": "instance", "act": "relu", "pool": "average"})

_NARROWINGS = (1, 2, 4, 8)  # of the smallest width four channels are left, one for each group


@dataclass(frozen=True, kw_only=True)
class SpaceOptions(Options):
    """`candidate`: the number of a ConvNet of the space, by default that of the ConvNet that most methods
    condense with. `narrowing`: the widths are divided by it, for small machines."""

    least: ClassVar[Mapping[str, int]] = {"candidate": 0}

    candidate: int = _USUAL
    narrowing: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidate >= CONVNETS.size:
            raise UserError(
                f"candidate: numbers from 0 to {CONVNETS.size - 1} are networks of the space, found "
                f"{self.candidate}"
            )
        self.settings()

    def settings(self) -> ConvNetOptions:
        """The options of the ConvNet. Raises UserError for a narrowing that leaves no whole width."""
        chosen: dict[str, Any] = settings_of(self.candidate)
        if self.narrowing not in _NARROWINGS:
            raise UserError(
                f"narrowing: {', '.join(map(str, _NARROWINGS))} are possible, found {self.narrowing}"
            )
        return ConvNetOptions(**chosen | {"width": chosen["width"] // self.narrowing})


def convnet_space() -> Builder:
    """The ConvNets of the space."""
    maker = convnet.builder(ConvNetOptions())

    def fits(options: SpaceOptions, channels: int, size: int) -> bool:
        return maker.fits(options.settings(), channels, size)

    def make(options: SpaceOptions, channels: int, size: int, classes: int) -> Network:
        return maker.make(options.settings(), channels, size, classes)

    return Builder(SpaceOptions(), fits, make)
