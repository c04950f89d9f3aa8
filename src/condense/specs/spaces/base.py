"""What every space of networks says of itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.machine import seeds
from condense.machine.runtime import note
from condense.specs.spaces.published import datasets_in

ARCHITECTURE = "architecture"  # the column of a table with the names of its networks


@dataclass(frozen=True)
class Space:
    """A space of networks that a search ranks: the architecture `name` with its option `option` from 0 to
    `size` - 1.

    `told`: the name of a candidate, by its number. `published`: the datasets of whose test accuracies a
    published benchmark of the whole space may have a column each, under their name, in the table that the
    environment variable `variable` names; for networks with no option but their number.
    """

    name: str
    title: str
    size: int
    option: str
    told: Callable[[int], str]
    published: tuple[str, ...] = ()
    variable: str = ""

    def table(self) -> Path | None:
        """The table of a published benchmark that was brought along; None if none was. Raises UserError for
        one that is not there."""
        given = os.environ.get(self.variable, "") if self.variable else ""
        if given and not Path(given).is_file():
            found = f"{given} is a folder" if Path(given).is_dir() else f"there is no file {given}"
            raise UserError(
                f"environment variable {self.variable}: {found}; `condense nas201 import FILE` writes a "
                "table, and without the variable true accuracies are measured"
            )
        return Path(given) if given else None

    def table_for(self, dataset: str) -> str:
        """The checksum of that table if it has true accuracies of networks on `dataset`; '' if not, where
        they are measured, which is told of a dataset that the benchmark has. Raises UserError for a file that
        is no table."""
        path = self.table() if dataset in self.published else None
        if path is None:
            return ""
        if dataset not in datasets_in(path, ARCHITECTURE):
            note(
                f"environment variable {self.variable}: {path} has no accuracies on {dataset}: there true "
                "accuracies are measured"
            )
            return ""
        return _checksum(str(path), path.stat().st_size, path.stat().st_mtime_ns)

    def check(self, candidates: int) -> None:
        """Raises UserError unless the space has so many networks."""
        if candidates > self.size:
            raise UserError(
                f"candidates: {candidates:,} networks are asked for, and the space '{self.name}' has "
                f"{self.size:,}"
            )

    def sample(self, candidates: int, draw: int) -> list[int]:
        """The numbers of so many of its networks, ascending, none twice. A larger sample of one `draw` holds
        the smaller ones.

        Raises UserError for more than there are.
        """
        self.check(candidates)
        order = sorted(range(self.size), key=lambda k: seeds.stream(draw, "candidate", self.name, k))
        return sorted(order[:candidates])

    def options(self, candidate: int) -> dict[str, Any]:
        """The options that make the architecture this candidate."""
        return {self.option: candidate}


@cache
def _checksum(path: str, size: int, changed: int) -> str:
    """Of a file as it is at a time."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


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
