"""How the images of a batch are mixed with each other, by the names that protocols give it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from condense.augment import cutmix
from condense.augment.cutmix import Mixture, share_from
from condense.config import unknown
from condense.specs import AnyMixing


@dataclass(frozen=True)
class Blend(Mixture):
    """Mixup: `share` of each image of a batch, and the rest of the one at `other` (b,)."""

    def images(self, batch: Tensor) -> Tensor:
        return self.vectors(batch)


def draw(settings: AnyMixing | None, count: int, size: int, generator: Generator) -> Mixture:
    """A mixture for `count` images of `size` pixels; without settings nothing is drawn and nothing mixed."""
    if settings is None:
        return Mixture()
    if settings.name not in MIXINGS:
        raise unknown("mixing", settings.name, MIXINGS)
    return MIXINGS[settings.name](settings, count, size, generator)


def _cutmix(settings: Any, count: int, size: int, generator: Generator) -> Mixture:
    return cutmix.draw(settings.probability, count, size, generator, settings.beta)


def _mixup(settings: Any, count: int, size: int, generator: Generator) -> Mixture:
    if not cutmix.happens(settings.probability, generator):
        return Mixture()
    share = share_from(settings.beta, generator)
    return Blend(cutmix.others(count, generator), share)


MIXINGS: dict[str, Callable[[Any, int, int, Generator], Mixture]] = {"cutmix": _cutmix, "mixup": _mixup}
