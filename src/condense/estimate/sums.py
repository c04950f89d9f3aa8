"""Jobs added up, and how the page of a scale writes sums, times and tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from condense.estimate.schedule import GPU_STAGES, Node


@dataclass(frozen=True)
class Sums:
    """Jobs added up; hours are of GPUs."""

    nodes: Sequence[Node]

    def of(self, stage: str) -> list[Node]:
        return [node for node in self.nodes if node.stage == stage]

    @property
    def metrics(self) -> list[Node]:
        """The jobs that end in metrics: of an evaluation that is split, the one that joins its parts."""
        return [node for node in self.nodes if node.output.startswith("results/metrics/")]

    def hours(self, *stages: str) -> float:
        return sum(node.seconds for node in self.nodes if node.stage in (stages or GPU_STAGES)) / 3600

    def gigabytes(self) -> float:
        return sum(node.bytes_out for node in self.nodes) / 1e9


def table_head(columns: str) -> str:
    """The first two lines of a table in Markdown; names of columns are parted by `|`."""
    names = columns.split("|")
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}\n"


def in_classes(count: int | None) -> str:
    """How many classes a job has; None: all."""
    return "all classes" if count is None else f"{count} class{'es' * (count > 1)}"


def in_hours(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds >= 48 * 3600:
        return f"{seconds / 86400:,.1f} d"
    return f"{seconds / 3600:,.1f} h" if seconds >= 3600 else f"{seconds / 60:,.0f} min"
