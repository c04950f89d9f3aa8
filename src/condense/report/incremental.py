"""Figures of continual learning: accuracy on the classes seen against how many have come."""

from __future__ import annotations

from typing import Any

from condense import plan
from condense.plan.published import method_of, metric_named, published_rows
from condense.plan.rows import Curve, FigurePlan
from condense.plan.tables import Plan
from condense.report import names, style
from condense.report.curves import CsvRow, band, finish, frame, number_row, panels_of, title_of
from condense.report.measured import measure_steps
from condense.specs import Continual, FigureSpec, Task


def accuracy_by_classes(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """A curve for each method, over networks and orders of the classes; where the paper's own dataset is
    shown, the values that it prints at the end."""
    panels, drawn, spec = panels_of(figure, Curve), [], figure.spec
    picture, axes = frame(plt, len(panels))
    notes = []
    for axis, (dataset, lines) in zip(axes, panels.items(), strict=True):
        classes, tasks = plan.data_cell(dataset).spec.classes, _tasks_of(lines)
        steps = tasks[0].class_steps(classes) or ()
        for method, curves in lines.items():
            for curve in curves:
                seen, numbers = measure_steps(curve.cells)
                band(axis, seen, numbers, method)
                drawn += [
                    number_row(scale, curve, str(step), number)
                    for step, number in zip(seen, numbers, strict=True)
                ]
        printed = _printed(spec, list(lines), classes) if dataset == spec.dataset else []
        for row in printed:
            look = style.look(row["method"])
            axis.plot(int(row["step"]), float(row["mean"]), linestyle="none", fillstyle="none", **look)
        drawn += printed
        notes += ["Hollow marks: what the paper prints of the end."] if printed else []
        axis.set_xticks(seen)
        each = " or ".join(map(str, sorted({len(step) for step in steps})))
        ipcs = ", ".join(dict.fromkeys(str(curve.ipc) for curves in lines.values() for curve in curves))
        title = (
            title_of(scale, spec, dataset) + f"\n{len(steps)} steps of {each} classes, {ipcs} images a class"
        )
        finish(axis, title, "classes seen")
        if len(steps) != _asked_steps(spec):
            notes += [
                f"{_asked_steps(spec)} steps in the paper; of the {classes} classes of "
                f"{names.dataset(dataset)} at least two come in each."
            ]
        notes += [f"Bands: one standard deviation over networks and {len(tasks)} orders of the classes."]
    return picture, drawn, list(dict.fromkeys(notes))


def _tasks_of(lines: dict[str, list[Curve]]) -> list[Task]:
    """The tasks of the curves of a panel: one for each order of the classes."""
    return list(
        dict.fromkeys(cell.task for curves in lines.values() for curve in curves for cell in curve.cells)
    )


def _asked_steps(spec: FigureSpec) -> int | None:
    """In how many steps the paper has its classes come."""
    return spec.task.settings.get("steps") if spec.task else None


def _printed(spec: FigureSpec, methods: list[str], classes: int) -> list[CsvRow]:
    """What the paper of a figure prints of the accuracy at the end, after so many steps."""
    wanted = {"paper": spec.paper, "dataset": spec.dataset, "task": "continual"}
    rows = []
    for row in published_rows():
        settings = dict(entry.partition("=")[::2] for entry in row["setting"].split(";"))
        fits = all(row[key] == value for key, value in wanted.items())
        named = metric_named(row["metric"], Continual(steps=2)) is not None and row["value"]
        if fits and named and settings.get("steps") == str(_asked_steps(spec)) and method_of(row) in methods:
            subject = {"dataset": spec.dataset, "method": method_of(row), "ipc": row["ipc"]}
            numbers = {"step": str(classes), "mean": row["value"], "std": row["std"]}
            origin = {"n_sets": "", "n_networks": "", "scale": "", "source": "published, in the text"}
            rows.append(subject | numbers | origin)
    return rows
