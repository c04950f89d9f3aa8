"""What tables and figures consist of: rows with the runs that measure them, and curves with the evaluations
or sets that they draw.

Floor 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from condense.plan import MetricsCell, ParentCell, SyntheticCell
from condense.specs import FigureSpec, Point
from condense.specs.figures import StyleDrift


@dataclass(frozen=True)
class Run:
    """One row measured on one dataset: `groups` holds, for every evaluation architecture, a cell for each
    synthetic set."""

    dataset: str
    groups: tuple[tuple[MetricsCell, ...], ...]
    judge: str = ""  # the protocol that the published row had; '' for that of the whole table

    @property
    def cells(self) -> list[MetricsCell]:
        """All of them, group by group."""
        return [cell for group in self.groups for cell in group]


@dataclass(frozen=True)
class Row:
    """A published row, with the runs that measure it and, where there are none, the reason, as it stands
    below the table, and what of the scale that follows from (`cause`)."""

    published: dict[str, str]
    runs: tuple[Run, ...] = ()
    reason: str = ""
    metric: str = "accuracy"  # what its runs are measured by
    cause: str = ""
    judge: str = ""  # the protocol that its published number had; '' for that of the whole table


@dataclass(frozen=True)
class Curve:
    """One line, point or panel of a figure: a method on a dataset at an ipc, with the evaluations that it
    draws."""

    method: str
    dataset: str
    ipc: int
    cells: tuple[MetricsCell, ...] = ()
    # What it is drawn with, beside what its sets are made with
    parents: Mapping[str, ParentCell] = field(default_factory=dict)

    @property
    def setting(self) -> str:
        """The name of its point, if it is one."""
        return ""

    @property
    def shown(self) -> tuple[SyntheticCell, ...]:
        """The sets whose images it reads."""
        return ()


@dataclass(frozen=True, kw_only=True)
class PointCurve(Curve):
    """One point of a figure that compares settings."""

    point: Point

    @property
    def setting(self) -> str:
        return self.point.name


@dataclass(frozen=True, kw_only=True)
class DriftCurve(Curve):
    """Evaluations in which the style of the training images drifts, by how far: `at` sorts `cells` by their
    ratio."""

    drift: StyleDrift
    at: Mapping[float, tuple[MetricsCell, ...]]


@dataclass(frozen=True, kw_only=True)
class SetCurve(Curve):
    """What is drawn of the images of a set, or of the features that its parent 'teacher' has of them."""

    synthetic: SyntheticCell

    @property
    def shown(self) -> tuple[SyntheticCell, ...]:
        return (self.synthetic,)


KindOfCurve = TypeVar("KindOfCurve", bound=Curve)


@dataclass(frozen=True)
class FigurePlan:
    """All curves of a figure, the methods that are left out with their reasons, and the names of points that
    the scale leaves out."""

    spec: FigureSpec
    curves: tuple[Curve, ...]
    missing: dict[str, str] = field(default_factory=dict)
    cut: tuple[str, ...] = ()

    @property
    def by_dataset(self) -> dict[str, list[Curve]]:
        """Its curves by what they were measured on, those of few images a class first."""
        sorted_ones: dict[str, list[Curve]] = {}
        for curve in sorted(self.curves, key=lambda curve: curve.ipc):
            sorted_ones.setdefault(curve.dataset, []).append(curve)
        return sorted_ones

    def curves_of(self, kind: type[KindOfCurve]) -> list[KindOfCurve]:
        """Its curves, known to be of a class. Raises TypeError if one is of another: its drawing is not that
        of `spec.draw`."""
        known = [curve for curve in self.curves if isinstance(curve, kind)]
        if len(known) < len(self.curves):
            raise TypeError(f"{self.spec.paper}/{self.spec.name}: its curves are not all of {kind.__name__}")
        return known
