"""Ranges of what is made by jobs of their own, as they stand in paths: classes or images of a set, networks
of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


def ranges(total: int, step: int) -> list[str]:
    """0 to `total` - 1 in ranges 'first-last' of `step`, the last one shorter where they do not come out
    even."""
    return [f"{first}-{min(first + step, total) - 1}" for first in range(0, total, step)]


def number_in(bounds: str) -> int:
    """How many numbers a range holds."""
    first, last = map(int, bounds.split("-"))
    return last - first + 1


@dataclass(frozen=True, order=True)
class Share:
    """What of a set one job makes: `range` 'first-last' of its classes, or of the images of each class; as
    text 'images0-4'."""

    of: Literal["classes", "images"]
    range: str

    def __str__(self) -> str:
        return f"{self.of}{self.range}"

    def size(self, classes: int, ipc: int) -> tuple[int, int]:
        """Classes and images a class of this share of a set of so many."""
        return (number_in(self.range), ipc) if self.of == "classes" else (classes, number_in(self.range))


def shares(of: Literal["classes", "images"], total: int, step: int) -> list[Share]:
    """All shares of a set with so many classes, or images a class, of which a job makes `step`."""
    return [Share(of, bounds) for bounds in ranges(total, step)]
