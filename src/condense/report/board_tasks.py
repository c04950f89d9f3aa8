"""What tasks other than the accuracy put on the leaderboard: the number of each on the row of the judge that
measured it."""

from __future__ import annotations

from dataclasses import asdict
from typing import NamedTuple

from condense.files.artifacts import canonical
from condense.plan import MetricsCell
from condense.plan.beside import Cells, Place, place_of
from condense.plan.tables import Plan
from condense.report.measured import measure_cells
from condense.specs import Task


class Stands(NamedTuple):
    """Where the numbers of tasks stand: at the place of the judge that measured them, protocol and evaluated
    architecture together, and `changed`, what a table or figure changes of the method that made the sets."""

    place: Place
    changed: str


def by_row(scale: Plan) -> dict[Stands, dict[str, tuple[str, Cells]]]:
    """By row and column the metric of a task and the evaluations that it is pooled over. Of evaluations that
    differ in their number of networks alone those of most networks count."""
    asked: dict[tuple[Stands, str], dict[int, list[MetricsCell]]] = {}
    shown = _shown(scale)
    named, metrics = _columns(shown), {}
    for cell in shown:
        changed = ", ".join(
            f"{name} {canonical(value)}" for name, value in scale.comparable.changed(cell).items()
        )
        for name, on_board in cell.task.board.items():
            column = named[cell.judge, _told(cell.task), name]
            metrics[column] = on_board.metric
            of_networks = asked.setdefault((Stands(place_of(cell), changed), column), {})
            of_networks.setdefault(cell.n_networks, []).append(cell)
    found: dict[Stands, dict[str, tuple[str, Cells]]] = {}
    for (stands, column), of_networks in asked.items():
        found.setdefault(stands, {})[column] = (metrics[column], tuple(of_networks[max(of_networks)]))
    return found


def numbers(columns: dict[str, tuple[str, Cells]]) -> dict[str, float]:
    """By column the number of a row. Raises UserError for metrics that are missing or damaged."""
    return {column: measure_cells(cells, metric).mean for column, (metric, cells) in columns.items()}


def meanings(scale: Plan) -> dict[str, str]:
    """By column what the number of a task means."""
    shown = _shown(scale)
    named = _columns(shown)
    return {
        named[cell.judge, _told(cell.task), name]: on_board.meaning
        for cell in shown
        for name, on_board in cell.task.board.items()
    }


def _shown(scale: Plan) -> list[MetricsCell]:
    """The evaluations with numbers for the board."""
    return [cell for cell in scale.metrics.values() if cell.task.board]


def _told(task: Task) -> str:
    """The settings of a task but for those in which its variants differ, whose values are pooled."""
    return canonical(asdict(task.variant(0)))


def _columns(cells: list[MetricsCell]) -> dict[tuple[str, str, str], str]:
    """The column by judge, task and name on its board: the name, and, where tasks of other settings have the
    same name under one judge, what they differ in: they do not measure the same."""
    tasks: dict[tuple[str, str], dict[str, Task]] = {}
    for cell in cells:
        for name in cell.task.board:
            tasks.setdefault((cell.judge, name), {})[_told(cell.task)] = cell.task.variant(0)
    return {
        (judge, told, name): name + (f" ({_differing(task, alike)})" if len(alike) > 1 else "")
        for (judge, name), alike in tasks.items()
        for told, task in alike.items()
    }


def _differing(task: Task, alike: dict[str, Task]) -> str:
    """The settings of a task that are not those of all tasks `alike`."""
    own = asdict(task)
    differing = [key for key in own if any(asdict(other).get(key) != own[key] for other in alike.values())]
    return ", ".join(f"{key} {own[key]}" for key in differing)
