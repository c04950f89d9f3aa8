"""Figures that ask which discrepancy of a finished set tells the accuracy of networks trained on it."""

from __future__ import annotations

from typing import Any, NamedTuple

from condense.evaluate.correlation import spearman, spearman_interval
from condense.plan import MetricsCell
from condense.plan.rows import Curve, FigurePlan
from condense.plan.tables import Plan
from condense.report import names, style
from condense.report.curves import CsvRow, title_of
from condense.report.measured import Measured, Pooled, measure_cells
from condense.specs import ACCURACY

_RESAMPLES = 2000
# Times the smallest value, beyond which an axis is logarithmic; a narrower one may have no power of ten on it
_WIDE = 10
_LEAST = 4  # sets of which a correlation is told


class _Point(NamedTuple):
    """A method's sets: the values of a discrepancy, and the accuracy."""

    method: str
    value: Pooled
    accuracy: Pooled


def discrepancy_by_accuracy(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """For each dataset and number of images a class a row of panels, one for each metric of the figure's
    task: its value on the set against the accuracy, with Spearman's correlation over the methods."""
    rows: dict[tuple[str, int], list[Curve]] = {}
    for curve in figure.curves:
        rows.setdefault((curve.dataset, curve.ipc), []).append(curve)
    metrics = _cells(figure.curves[0], of_task=True)[0].task.metrics
    size = (3.4 * len(metrics), 3.6 * len(rows))
    picture, axes = plt.subplots(len(rows), len(metrics), figsize=size, squeeze=False)
    drawn: list[CsvRow] = []
    for line, ((dataset, ipc), curves) in zip(axes, rows.items(), strict=True):
        for axis, (name, metric) in zip(line, metrics.items(), strict=True):
            points = [_point(curve, name) for curve in curves]
            found, told = _correlation(points)
            _draw(axis, points)
            axis.set_title(told, fontsize=11)
            axis.set_xlabel(metric.label)
            drawn += _rows(scale, dataset, ipc, name, points, found)
        of = f"{names.dataset(dataset)}, " if len({name for name, _ in rows}) > 1 else ""
        line[0].set_ylabel(f"{of}ipc {ipc}: {ACCURACY.label}")
    legends = [axis.get_legend_handles_labels() for axis in axes.flat]
    handles, labels = max(legends, key=lambda pair: len(pair[1]))
    picture.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5))
    datasets = dict.fromkeys(title_of(scale, figure.spec, dataset) for dataset, _ in rows)
    picture.suptitle("\n".join(datasets), x=0.02, ha="left")
    picture.tight_layout()
    notes = [
        "Points: means over the networks and sets of a method; lines: one standard deviation. Above each "
        "panel: Spearman's rank correlation over the methods, with a bootstrap interval of 95 %. -1: the "
        "smaller the discrepancy, the better."
    ]
    return picture, drawn, notes


def _cells(curve: Curve, of_task: bool) -> tuple[MetricsCell, ...]:
    """Its evaluations of the figure's own task, or those of the accuracy."""
    return tuple(cell for cell in curve.cells if cell.task.comparable != of_task)


def _point(curve: Curve, name: str) -> _Point:
    value = measure_cells(_cells(curve, of_task=True), name)
    return _Point(curve.method, value, measure_cells(_cells(curve, of_task=False)))


def _correlation(points: list[_Point]) -> tuple[dict[str, str], str]:
    """Spearman's correlation and its interval, as columns and as a title; of too few sets none."""
    if len(points) < _LEAST:
        return dict.fromkeys(("spearman", "low", "high"), ""), f"{len(points)} methods: too few"
    pair = [point.value.mean for point in points], [point.accuracy.mean for point in points]
    value, (low, high) = spearman(*pair), spearman_interval(*pair, resamples=_RESAMPLES, seed=0)
    columns = {"spearman": f"{value:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}
    return columns, f"ρ = {value:.2f} ({low:.2f} to {high:.2f})"


def _draw(axis: Any, points: list[_Point]) -> None:
    from matplotlib import ticker

    for point in points:
        look = style.look(point.method)
        axis.errorbar(
            *(point.value.mean, point.accuracy.mean, point.accuracy.spread, point.value.spread),
            linestyle="none",
            elinewidth=1,
            label=names.method(point.method),
            **look,
        )
    values = [point.value.mean for point in points]
    if min(values) > 0 and max(values) > _WIDE * min(values):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.LogLocator(numticks=4))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())


def _spread(value: Measured, shown: str) -> str:
    return "" if value.spread is None else f"{value.spread:{shown}}"


def _rows(
    scale: Plan, dataset: str, ipc: int, metric: str, points: list[_Point], found: dict[str, str]
) -> list[CsvRow]:
    return [
        {"dataset": dataset, "ipc": str(ipc), "metric": metric, "method": point.method}
        | {"value": f"{point.value.mean:.6g}", "value_std": _spread(point.value, ".6g")}
        | {"accuracy": f"{point.accuracy.mean:.2f}", "accuracy_std": _spread(point.accuracy, ".2f")}
        | found
        | {"scale": scale.scale.name, "source": "measured"}
        for point in points
    ]
