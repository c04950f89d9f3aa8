"""A figure of what accuracy costs: that of every method against the seconds in which its sets are
condensed."""

from __future__ import annotations

from typing import Any

from condense.plan.rows import Curve, FigurePlan
from condense.plan.tables import Plan
from condense.report import names, style
from condense.report.curves import CsvRow, finish, frame, number_row, panels_of, title_of
from condense.report.measured import Pooled, measure_cells
from condense.report.provenance import run_of, seconds_of_runs

_FAR = 20  # times: seconds that lie farther apart are shown along a logarithmic axis


def accuracy_by_seconds(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """One mark a method and number of images, with one standard deviation of the accuracy, and a line from
    each method to the next; sets whose seconds nobody recorded are named below."""
    panels, drawn = panels_of(figure, Curve), []
    unknown: list[str] = []
    shared: list[str] = []
    picture, axes = frame(plt, len(panels))
    for axis, (dataset, lines) in zip(axes, panels.items(), strict=True):
        shown: list[tuple[Curve, Pooled, float]] = []
        for curve in (curve for curves in lines.values() for curve in curves):
            number, (seconds, shared_by) = measure_cells(curve.cells), seconds_of(curve)
            drawn.append(
                number_row(scale, curve, "", number)
                | {"seconds": "" if seconds is None else f"{seconds:.1f}", "shared_by": str(shared_by or "")}
            )
            if shared_by:
                shared.append(f"{names.method(curve.method)}{names.part_of_job(shared_by)}")
            if seconds is None:
                unknown.append(names.method(curve.method))
            else:
                shown.append((curve, number, seconds))
        path = [seconds for _, _, seconds in shown], [number.mean for _, number, _ in shown]
        axis.plot(*path, color=style.FAINT, linewidth=1.0, zorder=1)
        for curve, number, seconds in shown:
            look = style.look(curve.method) | {"linestyle": "none"}
            axis.errorbar(
                seconds, number.mean, number.std, label=names.method(curve.method), zorder=3, **look
            )
        if shown and max(path[0]) > _FAR * min(path[0]):
            axis.set_xscale("log")
        else:
            axis.set_xlim(left=0)
        finish(axis, title_of(scale, figure.spec, dataset), "seconds of condensing a set")
    notes = [
        "Lines on the marks: one standard deviation. Seconds are those of all jobs of a set, as recorded, "
        "without what is made before it."
    ]
    if shared:
        notes.append(
            "Sets that were made at once share the seconds of their job equally, whatever each of them took: "
            f"{', '.join(dict.fromkeys(shared))}."
        )
    if unknown:
        notes.append(f"No seconds are recorded of {', '.join(dict.fromkeys(unknown))}.")
    return picture, drawn, notes


def seconds_of(curve: Curve) -> tuple[float | None, int | None]:
    """The mean over the sets of a curve of the seconds that their jobs took, None where none is recorded; and
    how many sets a job made at once, which share its seconds equally, None where each had its own."""
    sets = {cell.synthetic.key: cell.synthetic for cell in curve.cells}
    return seconds_of_runs([run for run in map(run_of, sets.values()) if run])
