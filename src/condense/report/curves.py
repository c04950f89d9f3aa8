"""Figures of accuracy: against images per class, against steps, and against drift of the style."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from condense.config import UserError
from condense.plan.published import is_test_accuracy, method_of, published_rows
from condense.plan.rows import Curve, DriftCurve, FigurePlan, KindOfCurve
from condense.plan.tables import Plan
from condense.report import names, style
from condense.report.measured import Pooled, measure_cells, measure_steps
from condense.specs import ACCURACY, FigureSpec

CsvRow = dict[str, str]


def panels_of(figure: FigurePlan, kind: type[KindOfCurve]) -> dict[str, dict[str, list[KindOfCurve]]]:
    """dataset -> method -> curves by growing ipc."""
    panels: dict[str, dict[str, list[KindOfCurve]]] = {}
    for curve in sorted(figure.curves_of(kind), key=lambda curve: curve.ipc):
        panels.setdefault(curve.dataset, {}).setdefault(curve.method, []).append(curve)
    order = {method: rank for rank, method in enumerate(figure.spec.methods)}
    return {
        dataset: dict(sorted(lines.items(), key=lambda line: order[line[0]]))
        for dataset, lines in panels.items()
    }


def frame(plt: Any, count: int) -> tuple[Any, list[Any]]:
    """A picture with `count` panels side by side."""
    picture, axes = plt.subplots(1, count, figsize=(7.4 * count, 4.6), squeeze=False)
    return picture, list(axes[0])


def band(axis: Any, x: Sequence[float], numbers: Sequence[Pooled], method: str) -> None:
    """A line of `method` with one standard deviation around it."""
    look = style.look(method)
    axis.plot(
        x,
        [number.mean for number in numbers],
        label=names.method(method),
        markeredgecolor="white",
        markeredgewidth=0.8,
        **look,
    )
    lower, upper = ([number.mean + sign * number.std for number in numbers] for sign in (-1, 1))
    axis.fill_between(x, lower, upper, color=look["color"], alpha=0.16, linewidth=0)


def title_of(scale: Plan, spec: FigureSpec, dataset: str) -> str:
    """What a panel's numbers were measured on: dataset and scale, and what the dataset stands in for."""
    stands = "" if dataset == spec.dataset else f"\nstanding in for {names.dataset(spec.dataset)}"
    return (
        f"{names.dataset(dataset)[:1].upper()}{names.dataset(dataset)[1:]} (scale {scale.scale.name}){stands}"
    )


def number_row(scale: Plan, curve: Curve, step: str, number: Pooled) -> CsvRow:
    """A measured number as a row of a figure's CSV."""
    subject = {"dataset": curve.dataset, "method": curve.method, "ipc": str(curve.ipc), "step": step}
    numbers = {
        "mean": f"{number.mean:.2f}",
        "std": "" if number.spread is None else f"{number.spread:.2f}",
        "n_sets": str(number.n_sets),
        "n_networks": str(number.n_networks),
    }
    return subject | numbers | {"scale": scale.scale.name, "source": "measured"}


def accuracy_by_ipc(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """Curves with bands of one standard deviation; the paper's printed numbers where its own dataset is
    shown."""
    panels, drawn, notes = panels_of(figure, Curve), [], ["Bands: one standard deviation."]
    picture, axes = frame(plt, len(panels))
    for axis, (dataset, lines) in zip(axes, panels.items(), strict=True):
        for method, curves in lines.items():
            numbers = [measure_cells(curve.cells) for curve in curves]
            band(axis, [curve.ipc for curve in curves], numbers, method)
            drawn += [
                number_row(scale, curve, "", number) for curve, number in zip(curves, numbers, strict=True)
            ]
        if dataset == figure.spec.dataset:
            printed = _printed(figure.spec, list(lines))
            for row in printed:
                axis.plot(
                    int(row["ipc"]),
                    float(row["mean"]),
                    linestyle="none",
                    fillstyle="none",
                    **style.look(row["method"]),
                )
            drawn += printed
            notes += ["Hollow marks: numbers printed in the paper's tables."] if printed else []
        ticks = sorted({curve.ipc for curves in lines.values() for curve in curves})
        if ticks[-1] >= 20 * ticks[0] and len(ticks) <= 6:  # more would print over each other at the right
            axis.set_xscale("log")
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        finish(axis, title_of(scale, figure.spec, dataset), "images per class")
    return picture, drawn, notes


def _printed(spec: FigureSpec, methods: list[str]) -> list[CsvRow]:
    """Numbers of the paper's tables that belong to the curves of `methods`; a number printed differently in
    two tables stands twice."""
    rows: dict[tuple[str, str, str], CsvRow] = {}
    wanted = {"paper": spec.paper, "dataset": spec.dataset, "eval_arch": spec.eval_arch}
    for row in published_rows():
        method = method_of(row)
        # Other settings are no point of these curves
        plain = not row["setting"] or row["setting"].startswith("match=")
        inside = method in methods and row["ipc"].isdigit() and int(row["ipc"]) in spec.ipc
        if (
            plain
            and inside
            and is_test_accuracy(row)
            and row["value"]
            and all(row[key] == value for key, value in wanted.items())
        ):
            subject = {
                "dataset": spec.dataset,
                "method": method,
                "ipc": row["ipc"],
                "step": "",
                "mean": row["value"],
                "std": row["std"],
            }
            origin = {
                "n_sets": "",
                "n_networks": "",
                "scale": "",
                "source": f"published, table {row['table']}",
            }
            rows.setdefault((method, row["ipc"], row["value"]), subject | origin)
    return list(rows.values())


def accuracy_by_step(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """Accuracy of the sets kept during condensation."""
    panels, drawn = panels_of(figure, Curve), []
    picture, axes = frame(plt, len(panels))
    for axis, (dataset, lines) in zip(axes, panels.items(), strict=True):
        for method, curves in lines.items():
            for curve in curves:
                steps, numbers = measure_steps(curve.cells)
                band(axis, steps, numbers, method)
                drawn += [
                    number_row(scale, curve, str(step), number)
                    for step, number in zip(steps, numbers, strict=True)
                ]
        ipcs = ", ".join(
            str(ipc) for ipc in dict.fromkeys(curve.ipc for curves in lines.values() for curve in curves)
        )
        axis.set_xlim(left=0)
        finish(
            axis,
            title_of(scale, figure.spec, dataset) + f", {ipcs} images per class",
            "steps of condensation",
        )
    return picture, drawn, ["Bands: one standard deviation."]


def accuracy_by_drift(plt: Any, scale: Plan, figure: FigurePlan) -> tuple[Any, list[CsvRow], list[str]]:
    """Accuracy against how far the style of the training images was drifted, in training, towards that of
    another method's."""
    panels, drawn, drift = panels_of(figure, DriftCurve), [], figure.curves_of(DriftCurve)[0].drift
    toward = names.method(drift.toward)
    picture, axes = frame(plt, len(panels))
    for axis, (dataset, lines) in zip(axes, panels.items(), strict=True):
        for method, curves in lines.items():
            for curve in curves:
                numbers = [measure_cells(curve.at[ratio]) for ratio in drift.ratios]
                band(axis, drift.ratios, numbers, method)
                drawn += [
                    number_row(scale, curve, "", number) | {"toward": drift.toward, "ratio": f"{ratio:g}"}
                    for ratio, number in zip(drift.ratios, numbers, strict=True)
                ]
        ipcs = ", ".join(
            str(ipc) for ipc in dict.fromkeys(curve.ipc for curves in lines.values() for curve in curves)
        )
        finish(
            axis,
            title_of(scale, figure.spec, dataset) + f", {ipcs} images per class",
            f"drift ratio γ toward the style of {toward}",
        )
    how = (
        f"In training, the style of the maps behind stage {drift.stage} of the network is mixed with that of "
        f"images of {toward}:"
    )
    how += " with γ = 0 not at all, with γ = 1 it is replaced. Tests are without a drift."
    return picture, drawn, [how, "Bands: one standard deviation."]


def finish(axis: Any, title: str, x: str) -> None:
    """Title, labels of both axes (`x`: of the horizontal one) and the legend of a panel."""
    axis.set_title(title)
    axis.set_xlabel(x)
    axis.set_ylabel(ACCURACY.label)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))


def curves_needed(figure: FigurePlan, name: str) -> None:
    """Raises UserError if the scale asks for no curve of the figure, of one that is drawn of some."""
    if not figure.curves and not figure.spec.computed:
        left_out: Iterable[str] = (f"{method}: {reason}" for method, reason in figure.missing.items())
        raise UserError(
            f"{name}: this scale draws nothing of it ({'; '.join(left_out) or 'its dataset is not run'})"
        )
