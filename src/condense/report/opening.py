"""The report's first picture: the measured accuracy of each method."""

from __future__ import annotations

from typing import Any

from condense.plan.tables import Plan
from condense.report import names, style
from condense.report.records import Record, records
from condense.specs import ACCURACY, catalogue


def summary(scale: Plan) -> tuple[bytes, str] | None:
    """The report's first picture as SVG, and its caption: measured accuracy of each method, by images per
    class.

    Taken from the table with most measured methods, those with random selection first. None if no table has a
    measured number.
    """
    comparable = {name: _comparable(records(scale, name)) for name in scale.accuracy_tables}
    comparable = {name: rows for name, rows in comparable.items() if rows}
    if not comparable:
        return None
    name = max(comparable, key=lambda name: _weight(comparable[name]))
    with style.style() as plt:
        picture, axis = plt.subplots(figsize=(8.6, 4.4))
        _bars(axis, comparable[name])
        dataset = names.dataset(comparable[name][0].values["dataset"])
        axis.set_title(f"Measured on {dataset} (scale {scale.scale.name})", pad=14)
        content = style.svg_bytes(picture)
    spread = "lines: one standard deviation; dashed: trained on the whole training set"
    return (
        content,
        f"Test accuracy on {dataset} of networks trained on each small set ({name.replace('/', ', ')}; "
        f"{spread}).",
    )


def _weight(rows: list[Record]) -> tuple[bool, int, int]:
    methods = {row.values["method"] for row in rows}
    return catalogue.BASELINE in methods, len(methods), len(rows)


def _comparable(candidates: list[Record]) -> list[Record]:
    """Measured rows of one dataset and one setting a method, here and not elsewhere; [] if the table compares
    architectures."""
    here = [record for record in candidates if record.was_measured and record.origin != "elsewhere"]
    rows = [record for record in here if not record.judge]  # of one protocol
    rows = [record for record in rows if record.values["dataset"] == rows[0].values["dataset"]]
    places = {(row.values["method"], row.values["ipc"]) for row in rows}
    return rows if len(places) == len(rows) and any(row.values["ipc"] != "full" for row in rows) else []


def _bars(axis: Any, rows: list[Record]) -> None:
    small = [row.values for row in rows if row.values["ipc"] != "full"]
    ipcs = sorted({int(row["ipc"]) for row in small})
    methods = list(dict.fromkeys(row["method"] for row in small))
    width, colours = 0.84 / len(methods), [style.look(method)["color"] for method in methods]
    for index, method in enumerate(methods):
        colour = colours[index]
        # There are more methods than colours
        hatch = style.HATCHES[colours[:index].count(colour) % len(style.HATCHES)]
        mine = {int(row["ipc"]): row for row in small if row["method"] == method}
        at = [ipcs.index(ipc) + (index - (len(methods) - 1) / 2) * width for ipc in mine]
        means, stds = (
            [float(row[key] or 0) for row in mine.values()] for key in ("measured", "measured_std")
        )
        axis.bar(
            at,
            means,
            width * 0.9,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=names.method_of_row(next(iter(mine.values()))),
        )
        axis.errorbar(at, means, stds, fmt="none", ecolor=style.INK, elinewidth=1.2)
        for x, mean, std in zip(at, means, stds, strict=True):
            label = axis.text(
                x, mean + std + 1.5, f"{mean:.0f}", ha="center", va="bottom", fontsize=9.5, zorder=4
            )
            # Keeps the dashed line off the number
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    for row in (row.values for row in rows if row.values["ipc"] == "full"):
        axis.axhline(
            float(row["measured"]),
            color=style.INK,
            linestyle="--",
            linewidth=1.2,
            label=names.method_of_row(row),
        )
    axis.set_xticks(range(len(ipcs)), [f"{ipc} image{'s' * (ipc != 1)} per class" for ipc in ipcs])
    axis.set_ylim(0, 109)
    axis.set_yticks(range(0, 101, 20))
    axis.grid(axis="x", visible=False)
    axis.set_ylabel(ACCURACY.label)
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
