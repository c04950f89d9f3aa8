"""Ranges 'first-last' of classes or networks, as they stand in paths."""

from __future__ import annotations


def ranges(total: int, step: int) -> list[str]:
    """0 to `total` - 1 in ranges of `step`, the last one shorter where they do not come out even."""
    return [f"{first}-{min(first + step, total) - 1}" for first in range(0, total, step)]


def number_in(part: str) -> int:
    """How many numbers a range holds."""
    first, last = map(int, part.split("-"))
    return last - first + 1
