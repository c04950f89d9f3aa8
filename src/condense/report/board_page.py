"""The page of the leaderboard: one HTML file that sorts and filters without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from condense import plan
from condense.files import artifacts
from condense.plan.published import method_of
from condense.plan.tables import Plan
from condense.report import board_tasks, names, style, timeline
from condense.report.leaderboard import of_tasks, read
from condense.report.measured import measure
from condense.report.records import own_runs
from condense.report.taxonomy import taxonomy
from condense.specs import ACCURACY


@dataclass(frozen=True)
class Column:
    """A column of the page: its name in the file, its head, what it means, and how its numbers are shown."""

    name: str
    head: str
    meaning: str
    places: int | None = None  # None: text
    signed: bool = False
    divisor: float = 1.0


_COLUMNS = (
    Column("method", "method", "what made the set"),
    Column("ipc", "ipc", "images a class in the set; full: all training images"),
    Column("accuracy", "accuracy", "test accuracy in %, mean over networks and sets, last iterate", 1),
    Column("accuracy_std", "±", "one standard deviation over networks and sets", 1),
    Column("over_random", "over random", "points above as many random images under the same judge", 1, True),
    Column("judge", "judge", "the protocol by which networks were trained on it"),
    Column("labels", "labels", "hard, soft ones of the set, or what observers gave, live or stored before"),
    Column("eval_arch", "network", "the architecture that was trained"),
    Column("dataset", "dataset", "the images that it was made from and tested on"),
    Column(
        "changed",
        "changed",
        "settings of the method that a table or figure changes; such rows have no accuracy",
    ),
    Column(
        "best", "best", "the best of several test passes, as some papers quote it; nothing is chosen by it", 1
    ),
    Column(
        "hard_labels", "hard labels", "of soft labels: the same sets' mean accuracy in % with hard ones", 1
    ),
    Column("transfer", "transfer", "mean accuracy in % of the other architectures, same protocol", 1),
    Column("label_robust", "label-robust", "DD-Ranking's score, 0 to 1; .269: worth as much as random", 3),
    Column(
        "augmentation_robust", "augm.-robust", "DD-Ranking's score, 0 to 1; .269: worth as much as random", 3
    ),
    Column("image_bytes", "images, kB", "bytes of the images in the file, in thousands", 0, False, 1e3),
    Column("label_bytes", "labels, kB", "bytes of labels, also of observers, in thousands", 1, False, 1e3),
    Column(
        "seconds",
        "seconds",
        "of condensing a set, all its jobs; in brackets: of a job that made several sets at once an equal "
        "part, whatever each of them took",
        1,
    ),
    Column(
        "memory_bytes",
        "memory, MB",
        "the largest peak of such a job; none where it was also of other sets or jobs",
        0,
        False,
        1e6,
    ),
)


def make_page(scale: Plan, board: Path, out: Path, missing: int = 0) -> None:
    """Writes the page of a scale from its leaderboard `board` (parquet), its tables and the jobs of this
    folder; so many of its evaluations are `missing`. Raises UserError if a file is missing or damaged."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    room = resources.files("condense.report")
    template = environment.from_string(room.joinpath("board.html").read_text(encoding="utf-8"))
    table = read(board)
    known = [*_COLUMNS, *_of_tasks(table, board_tasks.meanings(scale))]
    shown = [column for column in known if _has(table, column.name)]
    pairs, ran = compared(scale), timeline.jobs(Path(plan.RESULTS) / "benchmarks")
    svg, (lines, about) = timeline.drawn(ran), taxonomy(table)
    text = template.render(
        style=Markup(room.joinpath("template.css").read_text(encoding="utf-8")),
        script=Markup(room.joinpath("board.js").read_text(encoding="utf-8")),
        scale=scale.scale,
        columns=shown,
        rows=[[_cell(row, column) for column in shown] for row in table],
        choices={
            name: list(dict.fromkeys(_text(row, name) for row in table))
            for name in ("dataset", "ipc", "judge", "labels")
            if table
        },
        places={column.name: place for place, column in enumerate(shown)},
        scatter=Markup(_scatter(pairs).decode()) if pairs else "",
        pairs=len(pairs),
        timeline=Markup(svg.decode()) if svg else "",
        hours=timeline.hours(ran),
        taxonomy=lines,
        taxonomy_about=about,
        file=board.name,
        missing=missing,
    )
    with artifacts.whole(out) as draft:
        draft.write_text(text, encoding="utf-8")


def _has(table: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(row[name] is not None for row in table)


def _of_tasks(table: Sequence[Mapping[str, Any]], meanings: Mapping[str, str]) -> list[Column]:
    """Columns that tasks brought, with what they mean."""
    told = "of another task than the accuracy"  # of a board of another scale
    return [Column(name, name.replace("_", " "), meanings.get(name, told), 2) for name in of_tasks(table)]


def _text(row: Mapping[str, Any], name: str) -> str:
    shown = {"method": names.method, "eval_arch": names.architecture}
    return shown[name](row[name]) if name in shown else str(row[name])


def _cell(row: Mapping[str, Any], column: Column) -> tuple[str, str]:
    """What a cell shows, and what it is sorted by."""
    value = row[column.name]
    if value is None:
        return "", ""
    if column.places is None:
        return _text(row, column.name), "1e9" if value == "full" else str(value)
    number = value / column.divisor
    told = names.part_of_job(row["shared_by"]) if column.name == "seconds" else ""
    return format(number, f"{'+' if column.signed else ''},.{column.places}f") + told, repr(float(value))


@dataclass(frozen=True)
class Pair:
    """A published accuracy in %, and what was measured in its place; `copied`: on a copy of the dataset."""

    method: str
    published: float
    measured: float
    copied: bool


def compared(scale: Plan) -> list[Pair]:
    """The accuracies that the papers print beside those measured on their dataset, or on a copy of it, by the
    judge of the published number."""
    found: dict[tuple[Any, ...], Pair] = {}
    for name, rows in scale.tables.items():
        for row in rows:
            run = next((run for run in own_runs(row) if run.judge == row.judge), None)
            if run is None or any(cell.path not in scale.metrics for cell in run.cells):
                continue
            if row.published["value"] and row.published["unit"] == ACCURACY.unit:
                copied = run.dataset != row.published["dataset"]
                printed = float(row.published["value"])
                pair = Pair(method_of(row.published), printed, measure(run, row.metric).mean, copied)
                found[name, *row.published.values()] = pair
    return list(found.values())


def _scatter(pairs: Sequence[Pair]) -> bytes:
    """Published against measured accuracies, on the diagonal where both are equal; hollow on a copy."""
    with style.style() as plt:
        picture, axis = plt.subplots(figsize=(6.2, 5.6))
        for method in dict.fromkeys(pair.method for pair in pairs):
            for copied in (False, True):
                own = [pair for pair in pairs if (pair.method, pair.copied) == (method, copied)]
                x, y = [pair.published for pair in own], [pair.measured for pair in own]
                fill = "none" if copied else "full"
                label = names.method(method) if own else None
                axis.plot(x, y, linestyle="none", fillstyle=fill, label=label, **style.look(method))
        both = [number for pair in pairs for number in (pair.published, pair.measured)]
        ends = [min(both), max(both)]
        axis.plot(ends, ends, color=style.FAINT, linewidth=1, zorder=0)
        axis.set_xlabel(f"published {ACCURACY.label}")
        axis.set_ylabel(f"measured {ACCURACY.label}")
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
        return style.svg_bytes(picture)
