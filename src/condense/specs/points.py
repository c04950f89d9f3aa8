"""The settings that a figure compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from condense.config import UserError
from condense.specs.common import check_name, not_above


@dataclass(frozen=True)
class Printed:
    """The row of a table of the figure's paper that a point stands for, on the figure's dataset, at its ipc,
    of its method."""

    table: str
    setting: str = ""


@dataclass(frozen=True)
class Point:
    """A method ('' for the figure's first) with `change` laid over its recipe.

    Points with an `x` are joined by a line; those without are bars, or where `level` is true lines across, to
    compare with.
    """

    method: str = ""
    label: str = ""
    x: float | None = None
    level: bool = False
    change: dict[str, Any] = field(default_factory=dict)
    published: Printed | None = None

    def __post_init__(self) -> None:
        if self.method:
            check_name("method", self.method)
        not_above({"x": self.x}, 1e12)
        if self.x is None and not self.label:
            raise UserError("a point needs a label or an x")
        if self.level and self.x is not None:
            raise UserError("a level lies at every x: leave x out")

    @property
    def name(self) -> str:
        """The label, or else the x."""
        return self.label or f"{self.x:g}"


def check_points(points: list[Point], methods: list[str], log: bool) -> None:
    """Raises UserError for points that cannot be drawn together, and for methods that are not those of the
    figure."""
    names = [point.name for point in points]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"points: two are called '{repeated}'; give them labels")
    placed = [point.x for point in points if not point.level]
    if None in placed and any(x is not None for x in placed):
        raise UserError("points: either all have an x, but for levels, or none")
    if log and any(x is None or x <= 0 for x in placed):
        raise UserError("log: every point needs an x above 0")
    used = {point.method or methods[0] for point in points}
    if used != set(methods):
        raise UserError(f"methods: {', '.join(methods)}, but the points have {', '.join(sorted(used))}")
