"""What every space of networks says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from condense.config import UserError
from condense.machine import seeds


@dataclass(frozen=True)
class Space:
    """A space of networks that a search ranks: the architecture `name` with its option `option` from 0 to
    `size` - 1.

    `told`: the name of a candidate, by its number. `published`: for each dataset of a published benchmark of
    the whole space, the column of its accuracies in the table that `condense nas201 import` writes; for
    networks that differ from the default in none of their options.
    """

    name: str
    title: str
    size: int
    option: str
    told: Callable[[int], str]
    published: Mapping[str, str] = field(default_factory=dict)

    def check(self, candidates: int | None, where: str = "candidates") -> None:
        """Raises UserError unless the space has so many networks (None: all)."""
        if candidates is not None and candidates > self.size:
            raise UserError(
                f"{where}: {candidates:,} networks are asked for, and the space '{self.name}' has "
                f"{self.size:,}; leave it out for all of them"
            )

    def sample(self, candidates: int | None, draw: int) -> list[int]:
        """The numbers of so many of its networks (None: all), ascending, none twice. A larger sample of one
        `draw` holds the smaller ones.

        Raises UserError for more than there are.
        """
        self.check(candidates)
        if candidates is None:
            return list(range(self.size))
        order = sorted(range(self.size), key=lambda k: seeds.stream(draw, "candidate", self.name, k))
        return sorted(order[:candidates])

    def options(self, candidate: int) -> dict[str, Any]:
        """The options that make the architecture this candidate."""
        return {self.option: candidate}


def digits(number: int, bases: list[int]) -> list[int]:
    """The digits of a number in mixed bases, the last one running fastest."""
    found = []
    for base in reversed(bases):
        number, digit = divmod(number, base)
        found.append(digit)
    return found[::-1]


def number_of(places: list[int], bases: list[int]) -> int:
    """The number with these digits; the other way round than `digits`."""
    number = 0
    for place, base in zip(places, bases, strict=True):
        number = number * base + place
    return number
