"""Figures of a loss along two random directions around the weights of networks: a column of panels for each
method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from condense import files
from condense.plan.rows import Curve, FigurePlan
from condense.plan.tables import Plan
from condense.report import names, style
from condense.report.curves import CsvRow, title_of
from condense.report.measured import measure_cells, read_metrics
from condense.specs import Task

_PANEL = (3.5, 3.4)  # inches
_LEVELS = 12
_MOST = 85  # percentile of the losses of a row at which the colours end: corners are far higher than the rest
_ROWS = {"loss": "rise", "test_loss": "test_rise"}  # losses that are drawn, and what is told of them


def landscape(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """Contours of the mean loss of all networks, on the set and below on test images, for each dataset; the
    panels of a row share their colours. The CSV has every loss of every network."""
    task, datasets = figure.curves[0].cells[0].task, figure.by_dataset
    columns = max(len(curves) for curves in datasets.values())
    size = (_PANEL[0] * columns + 1.0, _PANEL[1] * len(_ROWS) * len(datasets))
    picture, drawn = plt.figure(figsize=size, layout="constrained"), []
    parts = picture.subfigures(len(datasets), 1, squeeze=False)[:, 0]
    for part, (dataset, curves) in zip(parts, datasets.items(), strict=True):
        title = title_of(scale, figure.spec, dataset).replace("\n", ", ")
        part.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
        lines = part.subplots(len(_ROWS), columns, squeeze=False, sharex=True, sharey=True)
        for line, name in zip(lines, _ROWS, strict=True):
            _draw(part, list(line), curves, name, task)
            for curve in curves:
                about = {"scale": scale.scale.name, "source": "measured"}
                drawn += [row | about for row in _rows(curve, name, task)]
        lines[-1][0].set_xlabel("first direction")
    return picture, drawn, _explained(task, figure.curves[0])


def _draw(picture: Any, line: list[Any], curves: Sequence[Curve], name: str, task: Task) -> None:
    """A row of panels with the colours that they share."""
    surfaces = [_surface(curve, name, task) for curve in curves]
    values = np.concatenate([surface.ravel() for surface in surfaces])
    levels = np.linspace(values.min(), np.percentile(values, _MOST), _LEVELS)
    for axis, curve, surface in zip(line, curves, surfaces, strict=False):
        # The first direction is the horizontal one, which contours take as their columns
        shown = axis.contourf(task.grid, task.grid, surface.T, levels, cmap="viridis", extend="max")
        axis.contour(task.grid, task.grid, surface.T, levels, colors="white", linewidths=0.5)
        axis.plot(0, 0, marker="+", color="white", markersize=9)
        rise = measure_cells(curve.cells, _ROWS[name]).mean
        axis.set_title(
            f"{names.method(curve.method)}, {curve.ipc} a class: rise {rise:.3g}",
            fontsize=11,
            fontweight="normal",
        )
        axis.set_aspect("equal")
        axis.grid(False)
    for axis in line[len(curves) :]:
        axis.set_axis_off()
    line[0].set_ylabel("second direction")
    bar = picture.colorbar(shown, ax=line, shrink=0.85, pad=0.015)
    bar.set_label(task.metrics[name].label, color=style.INK)
    bar.ax.yaxis.set_major_formatter("{x:.3g}")


def _surface(curve: Curve, name: str, task: Task) -> np.ndarray:
    """The mean losses (first direction, second direction) of all networks of all sets."""
    return np.mean([losses for _, losses in _losses(curve, name, task)], 0)


def _losses(curve: Curve, name: str, task: Task) -> list[tuple[tuple[int, int], np.ndarray]]:
    """By set and network the losses (first direction, second direction)."""
    given = []
    for number, cell in enumerate(curve.cells):
        values = np.array(files.metrics_in(read_metrics(cell))[name]["values"], dtype=float)
        for network, row in enumerate(values.T):
            given.append(((number, network), row.reshape(len(task.grid), -1)))
    return given


def _rows(curve: Curve, name: str, task: Task) -> list[CsvRow]:
    about = {"dataset": curve.dataset, "method": curve.method, "ipc": str(curve.ipc), "metric": name}
    return [
        about
        | {"set": str(number), "network": str(network)}
        | {"first": f"{first:.4g}", "second": f"{second:.4g}", "value": f"{losses[row, column]:.6g}"}
        for (number, network), losses in _losses(curve, name, task)
        for row, first in enumerate(task.grid)
        for column, second in enumerate(task.grid)
    ]


def _explained(task: Task, curve: Curve) -> list[str]:
    networks = sum(cell.n_networks for cell in curve.cells)
    of = f"the mean over {networks} networks" if networks > 1 else "one network"
    return [
        f"Loss of {of} a method, whose weights lie at the cross, along two random directions. The highest "
        "losses of a row, at its corners, have one colour.",
        task.explained,
    ]
