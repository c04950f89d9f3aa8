"""Figures of the metrics of a task over the steps of a condensation."""

from __future__ import annotations

from typing import Any

from condense import files
from condense.plan.rows import Curve, FigurePlan
from condense.plan.tables import Plan
from condense.report.curves import CsvRow, band, finish, frame, title_of
from condense.report.measured import measure_steps, read_metrics


def metric_by_step(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """A panel for each metric of the figure's task, a curve for each method. The CSV has the value of every
    network at every step."""
    task, datasets = figure.curves[0].cells[0].task, figure.by_dataset
    shown = [name for name in task.metrics if task.is_curve(name)]
    panels = [(dataset, name) for dataset in datasets for name in shown]
    picture, axes = frame(plt, len(panels))
    drawn = []
    for axis, (dataset, name) in zip(axes, panels, strict=True):
        for curve in datasets[dataset]:
            band(axis, *measure_steps(curve.cells, name), curve.method)
            drawn += [row | {"scale": scale.scale.name, "source": "measured"} for row in _rows(curve, name)]
        ipcs = ", ".join(dict.fromkeys(str(curve.ipc) for curve in datasets[dataset]))
        title = f"{title_of(scale, figure.spec, dataset)}, {ipcs} images per class"
        finish(axis, title, "steps of condensation")
        axis.set_ylabel(task.metrics[name].label)
        axis.set_xlim(left=0)
        if axis is not axes[-1]:
            axis.get_legend().remove()
    picture.subplots_adjust(wspace=0.25)
    return picture, drawn, list(filter(None, ["Bands: one standard deviation.", task.explained]))


def _rows(curve: Curve, name: str) -> list[CsvRow]:
    about = {"dataset": curve.dataset, "method": curve.method, "ipc": str(curve.ipc), "metric": name}
    read = [read_metrics(cell) for cell in curve.cells]
    return [
        about | {"step": str(step), "set": str(number), "network": str(network), "value": f"{value:.6g}"}
        for number, metrics in enumerate(read)
        for step, values in zip(metrics["steps"], files.metrics_in(metrics)[name]["values"], strict=True)
        for network, value in enumerate(values)
    ]
