"""Figures of network slimming: accuracy against the share of the parameters that is taken out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from condense import files
from condense.plan.rows import Curve, FigurePlan
from condense.plan.tables import Plan
from condense.report.curves import CsvRow, band, finish, frame, title_of
from condense.report.measured import measure_steps, read_metrics

# What is drawn, with what a title says of it
_SHOWN = {"accuracy": "trained again", "pruned_accuracy": "before that"}


def accuracy_by_removed(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """For each dataset a panel of the accuracies after the second training and one of those before it, a
    curve for each method. The CSV has the numbers of every network."""
    task, datasets = figure.curves[0].cells[0].task, figure.by_dataset
    panels = [(dataset, name) for dataset in datasets for name in _SHOWN]
    picture, axes = frame(plt, len(panels))
    drawn: list[CsvRow] = []
    for axis, (dataset, name) in zip(axes, panels, strict=True):
        for curve in datasets[dataset]:
            _, removed = measure_steps(curve.cells, "removed_parameters")
            _, numbers = measure_steps(curve.cells, name)
            band(axis, [number.mean for number in removed], numbers, curve.method)
        ipcs = ", ".join(dict.fromkeys(str(curve.ipc) for curve in datasets[dataset]))
        title = f"{title_of(scale, figure.spec, dataset)}, {ipcs} images per class: {_SHOWN[name]}"
        finish(axis, title, task.metrics["removed_parameters"].label)
        if axis is not axes[-1]:
            axis.get_legend().remove()
    for curves in datasets.values():
        about = {"scale": scale.scale.name, "source": "measured"}
        drawn += [row | about for curve in curves for row in _rows(curve, task.metrics)]
    picture.subplots_adjust(wspace=0.25)
    return picture, drawn, ["Bands: one standard deviation over networks and sets.", task.explained]


def _rows(curve: Curve, metrics: Iterable[str]) -> list[CsvRow]:
    rows = []
    for number, read in enumerate(map(read_metrics, curve.cells)):
        about = {"dataset": curve.dataset, "method": curve.method, "ipc": str(curve.ipc), "set": str(number)}
        values = {name: files.metrics_in(read)[name]["values"] for name in metrics}
        for place, percent in enumerate(read["steps"]):
            for network in range(len(values["accuracy"][place])):
                numbers = {name: f"{values[name][place][network]:.6g}" for name in metrics}
                rows.append(about | {"percent": str(percent), "network": str(network)} | numbers)
    return rows
