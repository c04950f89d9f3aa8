"""A scale as far as it is made: what has been evaluated, of a workflow that is still running or was never
finished.

Floor 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from condense.config import UserError
from condense.plan import MetricsCell
from condense.plan.rows import Curve, FigurePlan, Row, Run
from condense.plan.tables import Plan

NOT_YET = "not made yet"


def so_far(scale: Plan) -> Plan:
    """The plan of `scale` as if it had asked for no more than what is made.

    Of a cell of a table those sets count that are judged in all ways the cell asks for; where there is none
    it stays empty, with the reason. Curves are drawn of which every evaluation, set and parent is there.
    Tables and figures of which nothing is made are left out. Raises UserError if no evaluation is made.
    """
    rows = {name: [_row(row) for row in rows] for name, rows in scale.tables.items()}
    figures = {name: _figure(figure) for name, figure in scale.figures.items()}
    made = scale.with_targets(
        tables={name: kept for name, kept in rows.items() if any(row.runs for row in kept)},
        figures={name: figure for name, figure in figures.items() if figure.curves or figure.spec.computed},
    )
    if not made.metrics:
        name = scale.scale.name
        lacks = "no number has all its evaluations" if _count(scale) else "no evaluation is made"
        raise UserError(
            f"scale '{name}': {lacks} yet; `snakemake --cores all --config scale={name}` makes them, and "
            f"`condense take --scale {name}` takes those that are kept"
        )
    return made


def evaluated(scale: Plan) -> str:
    """How many evaluations of a scale are made, in words."""
    return f"{_count(scale)} of {len(scale.metrics)} evaluations are made"


def is_whole(scale: Plan) -> bool:
    """Whether every evaluation of a scale is made."""
    return _count(scale) == len(scale.metrics)


def _count(scale: Plan) -> int:
    return sum(Path(path).is_file() for path in scale.metrics)


def _row(row: Row) -> Row:
    runs = tuple(run for run in map(_run, row.runs) if run)
    return replace(row, runs=runs, reason=row.reason or ("" if runs else NOT_YET))


def _run(run: Run) -> Run | None:
    """The run with the sets of which every evaluation is made; None without any."""
    missing = {cell.synthetic.seed for cell in run.cells if not Path(cell.path).is_file()}
    groups = tuple(_of_others(group, missing) for group in run.groups)
    return replace(run, groups=groups) if all(groups) else None


def _of_others(cells: Iterable[MetricsCell], seeds: set[int]) -> tuple[MetricsCell, ...]:
    return tuple(cell for cell in cells if cell.synthetic.seed not in seeds)


def _figure(figure: FigurePlan) -> FigurePlan:
    curves = tuple(curve for curve in figure.curves if _is_made(curve))
    absent = dict.fromkeys(curve.method for curve in figure.curves if not _is_made(curve))
    drawn = {curve.method for curve in curves}
    reasons = {
        method: f"some of its numbers are {NOT_YET}" if method in drawn else NOT_YET for method in absent
    }
    return replace(figure, curves=curves, missing={**figure.missing, **reasons})


def _is_made(curve: Curve) -> bool:
    paths = [cell.path for cell in curve.cells] + [parent.path for parent in curve.parents.values()]
    paths += [path for cell in curve.shown for path in (cell.path, cell.data.train)]
    return all(Path(path).is_file() for path in paths)
