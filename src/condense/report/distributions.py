"""Figures of the values that a task gives of single networks: every value is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from condense import files
from condense.plan.rows import Curve, FigurePlan
from condense.plan.tables import Plan
from condense.report import names, style
from condense.report.curves import CsvRow, frame, title_of
from condense.report.measured import pooled, read_metrics
from condense.specs import Task

_SPREAD = 0.25  # half the width over which the values of a column lie apart
_TURN = 0.6180339887498949  # whose multiples, less their whole parts, lie evenly between 0 and 1


@dataclass(frozen=True)
class _Column:
    """The values of a metric of one method, or (`method` '') of what stands beside all of them: set by set,
    one a network."""

    metric: str
    method: str
    ipc: str
    label: str
    by_set: list[list[float]]

    @property
    def values(self) -> list[float]:
        """Those of all sets."""
        return [value for values in self.by_set for value in values]


def distribution(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """Each value of each metric of the figure's task as a point, method by method, with the means; metrics
    that are references stand beside those of the methods."""
    task, datasets = figure.curves[0].cells[0].task, figure.by_dataset
    shown = [name for name, metric in task.metrics.items() if not metric.reference]
    panels = [(dataset, name) for dataset in datasets for name in shown]
    picture, axes = frame(plt, len(panels))
    drawn = []
    for axis, (dataset, name) in zip(axes, panels, strict=True):
        columns = [*_methods(datasets[dataset], name), *_references(datasets[dataset][0], task)]
        _draw(axis, columns)
        axis.set_ylabel(task.metrics[name].label)
        ipcs = ", ".join(dict.fromkeys(str(curve.ipc) for curve in datasets[dataset]))
        axis.set_title(f"{title_of(scale, figure.spec, dataset)}, {ipcs} images per class")
        for column in columns:
            subject = {"dataset": dataset, "method": column.method, "ipc": column.ipc}
            about = subject | {"metric": column.metric, "scale": scale.scale.name, "source": "measured"}
            drawn += [
                about | {"set": str(number), "network": str(network), "value": f"{value:.6g}"}
                for number, values in enumerate(column.by_set)
                for network, value in enumerate(values)
            ]
    return picture, drawn, ["Points: the value of every network. Bars and the numbers below: their means."]


def _methods(curves: list[Curve], name: str) -> list[_Column]:
    several = len({curve.ipc for curve in curves}) > 1
    return [
        _Column(
            name,
            curve.method,
            str(curve.ipc),
            names.method(curve.method) + (f"\n{curve.ipc} a class" if several else ""),
            _values(curve, name),
        )
        for curve in curves
    ]


def _references(curve: Curve, task: Task) -> list[_Column]:
    """What stands beside the methods, once: it is the same whichever set it was measured beside."""
    return [
        _Column(name, "", "", metric.reference, _values(curve, name))
        for name, metric in task.metrics.items()
        if metric.reference
    ]


def _values(curve: Curve, name: str) -> list[list[float]]:
    read = [files.metrics_in(read_metrics(cell)) for cell in curve.cells]
    return [[float(value) for value in metrics[name]["values"]] for metrics in read]


def _draw(axis: Any, columns: list[_Column]) -> None:
    for place, column in enumerate(columns):
        look = style.look(column.method) if column.method else {"color": style.FAINT, "marker": "o"}
        across = [place + _SPREAD * (2 * (number * _TURN % 1) - 1) for number in range(len(column.values))]
        axis.scatter(across, column.values, s=26, alpha=0.6, linewidth=0, **look)
        mean, _ = pooled(column.values)
        axis.hlines(mean, place - 1.3 * _SPREAD, place + 1.3 * _SPREAD, color=style.INK, linewidth=1.6)
    labels = [f"{column.label}\n{pooled(column.values)[0]:.3g}" for column in columns]
    axis.set_xticks(range(len(columns)), labels)
    axis.set_xlim(-0.6, len(columns) - 0.4)
    axis.grid(axis="x", visible=False)
