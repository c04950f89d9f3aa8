"""Figures that compare settings: accuracy along a number, or side by side."""

from __future__ import annotations

from textwrap import fill
from typing import Any

from condense.config import UserError
from condense.plan.published import is_test_accuracy, method_of, published_rows
from condense.plan.rows import FigurePlan, PointCurve
from condense.plan.tables import Plan
from condense.report import style
from condense.report.curves import CsvRow, band, finish, frame, number_row, title_of
from condense.report.measured import Pooled, measure_cells
from condense.specs import FigureSpec, Point

MeasuredPoints = list[tuple[PointCurve, Pooled]]
_NARROW = 10  # letters in a line below a bar: the lines of neighbours do not meet


def accuracy_by_setting(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """One panel for each dataset and ipc: a line through the points that have an x, else bars; levels across.

    Where the paper's own dataset is shown, the numbers it prints for the points stand there as hollow marks.
    """
    panels: dict[tuple[str, int], MeasuredPoints] = {}
    for curve in figure.curves_of(PointCurve):
        panels.setdefault((curve.dataset, curve.ipc), []).append((curve, measure_cells(curve.cells)))
    picture, axes = frame(plt, len(panels))
    drawn, spread, marks = [], "", ""
    for axis, ((dataset, ipc), measured) in zip(axes, panels.items(), strict=True):
        along = [entry for entry in measured if not entry[0].point.level]
        # All, or none
        by_x = [(x, number, curve.method) for curve, number in along if (x := curve.point.x) is not None]
        spread = _line(axis, figure.spec, by_x) if by_x else _bars(axis, along)
        _levels(axis, [entry for entry in measured if entry[0].point.level])
        drawn += [_placed(number_row(scale, curve, "", number), curve.point) for curve, number in measured]
        if dataset == figure.spec.dataset:
            printed = [row for curve, _ in measured if (row := printed_row(figure.spec, curve.point, ipc))]
            _marks(axis, [curve.point for curve, _ in along], printed)
            drawn += printed
            marks = "Hollow marks: numbers printed in the paper's tables." if printed else marks
        finish(axis, f"{title_of(scale, figure.spec, dataset)}, {ipc} images per class", figure.spec.x_label)
    return picture, drawn, [note for note in (spread, marks) if note]


def _line(axis: Any, spec: FigureSpec, points: list[tuple[float, Pooled, str]]) -> str:
    order = sorted(points, key=lambda entry: entry[0])
    at = [x for x, _, _ in order]
    band(axis, at, [number for _, number, _ in order], order[0][2])
    if spec.log:
        axis.set_xscale("log")
    axis.set_xticks(at, [f"{x:g}" for x in at])
    axis.minorticks_off()
    return "Bands: one standard deviation."


def _bars(axis: Any, measured: MeasuredPoints) -> str:
    for x, (curve, number) in enumerate(measured):
        axis.bar(x, number.mean, 0.6, color=style.look(curve.method)["color"])
        axis.errorbar(x, number.mean, number.std, fmt="none", ecolor=style.INK, elinewidth=1.2)
        label = axis.text(
            x,
            number.mean + number.std + 1.5,
            f"{number.mean:.1f}",
            ha="center",
            va="bottom",
            fontsize=9.5,
            zorder=4,
        )
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    axis.set_xticks(range(len(measured)), [fill(curve.point.name, _NARROW) for curve, _ in measured])
    axis.grid(axis="x", visible=False)
    return "Lines on the bars: one standard deviation." if measured else ""


def _levels(axis: Any, levels: MeasuredPoints) -> None:
    for curve, number in levels:
        color = style.look(curve.method)["color"]
        axis.axhline(number.mean, color=color, linestyle="--", linewidth=1.6, label=curve.point.name)
        axis.axhspan(number.mean - number.std, number.mean + number.std, color=color, alpha=0.1, linewidth=0)


def _marks(axis: Any, along: list[Point], printed: list[CsvRow]) -> None:
    """The printed numbers where their points lie; those of levels at the right edge."""
    x_of = {point.name: index if point.x is None else point.x for index, point in enumerate(along)}
    for row in printed:
        look = style.look(row["method"]) | {"linestyle": "none", "fillstyle": "none", "zorder": 5}
        if row["setting"] in x_of:
            axis.plot(x_of[row["setting"]], float(row["mean"]), **{**look, "color": style.INK})
        else:
            axis.plot(1.0, float(row["mean"]), transform=axis.get_yaxis_transform(), clip_on=False, **look)


def _placed(row: CsvRow, point: Point) -> CsvRow:
    """`row` with the point in the place of the step."""
    at = {"setting": point.name, "x": "" if point.x is None else f"{point.x:g}"}
    return (
        {key: value for key, value in row.items() if key not in ("source", "step")}
        | at
        | {"source": row["source"]}
    )


def printed_row(spec: FigureSpec, point: Point, ipc: int) -> CsvRow | None:
    """What the paper prints for a point; None where the point names no row. Raises UserError if not exactly
    one row is meant."""
    if point.published is None:
        return None
    method = point.method or spec.methods[0]
    wanted = {"paper": spec.paper, "dataset": spec.dataset, "ipc": str(ipc), "eval_arch": spec.eval_arch}
    wanted |= {"table": point.published.table, "setting": point.published.setting}
    rows = [row for row in published_rows() if method_of(row) == method and is_test_accuracy(row)]
    rows = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    if len(rows) != 1:
        said = ", ".join(f"{key} '{value}'" for key, value in {"method": method, **wanted}.items())
        raise UserError(
            f"figure {spec.paper}/{spec.name}: point '{point.name}': published: {len(rows)} rows have "
            f"{said}; one is needed"
        )
    subject = {
        "dataset": spec.dataset,
        "method": method,
        "ipc": str(ipc),
        "mean": rows[0]["value"],
        "std": rows[0]["std"],
    }
    origin = {
        "n_sets": "",
        "n_networks": "",
        "scale": "",
        "source": f"published, table {point.published.table}",
    }
    return _placed(subject | origin, point)
