"""Figures as files: PNG and SVG, the numbers or points drawn as CSV, and the list of what they were made
from."""

from __future__ import annotations

import csv
from pathlib import Path
from textwrap import fill

from condense.config import UserError, unknown
from condense.files import artifacts
from condense.plan import manifests
from condense.plan.tables import Plan
from condense.report import (
    comparisons,
    curves,
    distributions,
    incremental,
    landscapes,
    layout,
    names,
    pictures,
    planted,
    predictors,
    rates,
    seconds,
    settings,
    slimming,
    style,
    traces,
)

DRAW = {
    "accuracy_by_classes": incremental.accuracy_by_classes,
    "accuracy_by_ipc": curves.accuracy_by_ipc,
    "accuracy_by_step": curves.accuracy_by_step,
    "accuracy_by_setting": settings.accuracy_by_setting,
    "accuracy_by_drift": curves.accuracy_by_drift,
    "accuracy_by_seconds": seconds.accuracy_by_seconds,
    "accuracy_by_removed": slimming.accuracy_by_removed,
    "consistency": comparisons.consistency,
    "discrepancy_by_accuracy": predictors.discrepancy_by_accuracy,
    "distribution": distributions.distribution,
    "embedding_map": pictures.embedding_map,
    "images": pictures.images,
    "landscape": landscapes.landscape,
    "metric_by_step": traces.metric_by_step,
    "mixture_by_forms": planted.mixture_by_forms,
    "rates_by_epoch": rates.rates_by_epoch,
    "texture": comparisons.texture,
}


def make_figure(scale: Plan, name: str, out_png: Path) -> None:
    """Writes the figure `name` (such as 'cpdm/figure1') as `out_png` and, beside it, as .svg, .csv and, last,
    its manifest .json.

    Raises UserError for an unknown figure, a target that is no .png, and missing or damaged metrics, sets or
    teachers.
    """
    out_png = Path(out_png)
    if out_png.suffix != ".png":
        raise UserError(f"{out_png}: the name of a figure's file must end in .png")
    if name not in scale.figures:
        raise unknown("figure", name, scale.figures, f"scale {scale.scale.name}")
    figure = scale.figures[name]
    curves.curves_needed(figure, name)
    with style.style() as plt:
        picture, drawn, notes = DRAW[figure.spec.draw](plt, scale, figure)
        notes = [*notes, *footnotes(scale, name)]
        picture.text(
            0.02,
            -0.02,
            "\n".join(fill(note, 110) for note in notes),
            fontsize=9,
            color=style.FAINT,
            ha="left",
            va="top",
        )
        style.save(picture, out_png)
    with (
        artifacts.whole(out_png.with_suffix(".csv")) as draft,
        open(draft, "w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, list(drawn[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(drawn)
    artifacts.write_json(out_png.with_suffix(".json"), manifests.manifest(scale, name))


def footnotes(scale: Plan, name: str) -> list[str]:
    """Methods and points that the figure leaves out, with the reason, and what the scale cuts."""
    figure = scale.figures[name]
    if figure.spec.computed:  # the same at every scale
        return []
    by_reason: dict[str, list[str]] = {}
    for method, reason in figure.missing.items():
        by_reason.setdefault(reason, []).append(names.method(method))
    notes = [f"Left out: {', '.join(methods)} ({reason})." for reason, methods in by_reason.items()]
    notes += [f"Not run at {scale.scale.name}: {', '.join(figure.cut)}."] if figure.cut else []
    archs = [figure.spec.eval_arch] if figure.spec.judged else []
    notes += layout.remarks_on(scale, {curve.method for curve in figure.curves if curve.cells}, archs)
    return notes + ([f"Scale {scale.scale.name}: {scale.scale.note}"] if scale.scale.note else [])
