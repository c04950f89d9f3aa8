"""Fair comparisons: each measured accuracy beside as many random and selected images under the same judge.

For a table there is one block for each of its own with measured accuracies, and for the scale one for each
dataset and judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from condense.plan import MetricsCell
from condense.plan.beside import Cells, Place
from condense.plan.rows import Run
from condense.plan.tables import Plan
from condense.report import layout, names
from condense.report.layout import Block, Cell, Line
from condense.report.measured import Pooled, measure_cells, measure_steps
from condense.report.records import Record
from condense.report.scores import ABOUT, TITLES, Scores
from condense.specs import catalogue

_OVER = f"Over {catalogue.BASELINE}"
_SCORES = [f"{title} score" for title in TITLES]
_SAME = (
    "{baselines}: as many real images, judged in the same way (same protocol, architecture, dataset and "
    "images per class)."
)
_COUNTS = " Of as many sets and networks as the method's where the scale has these, else of all that it has."


@dataclass(frozen=True)
class Entry:
    """A line of a fair comparison, all as text: what was measured, and by column what stands beside it."""

    heading: str
    label: str
    measured: str
    beside: dict[str, str]  # by the heads of columns
    missing: tuple[str, ...] = ()  # why columns of it are empty


@dataclass(frozen=True)
class Comparison:
    """All that one judge measured on one dataset, laid out, and of how many methods."""

    block: Block
    methods: int


def columns(entries: Sequence[Entry]) -> list[str]:
    """The heads of the columns of which some entry has a text, in their order."""
    known = [*map(names.method, catalogue.BASELINES), _OVER]
    others = {head for entry in entries for head in entry.beside} - {*known, *_SCORES}
    best = sorted(others, key=lambda head: (len(head), head))
    return [head for head in (*known, *best, *_SCORES) if any(entry.beside.get(head) for entry in entries)]


def _best(passes: int | str) -> str:
    """The head of the column with the best of so many test passes."""
    return f"Best of {passes} test passes"


def baselines() -> str:
    """'Random and herding'."""
    return " and ".join(names.method(name) for name in catalogue.BASELINES).capitalize()


def of_table(scale: Plan, rows: list[Record]) -> list[Block]:
    """For each block of a table with accuracies that have a baseline beside them, these, one below the
    other."""
    shown = (*catalogue.BASELINES, "best")
    compared = [record for record in rows if any(record.values[name] for name in shown)]
    grouped: dict[tuple[str, ...], list[Record]] = {}
    for record in compared:
        device = record.machine.get("device", "")
        where = (record.origin, record.values["dataset"], record.stands_for, record.values["scale"], device)
        grouped.setdefault(where, []).append(record)
    return [_of_records(scale, group) for group in grouped.values()]


def _of_records(scale: Plan, group: list[Record]) -> Block:
    several = len({record.values["eval_arch"] for record in group}) > 1
    dataset = names.dataset(group[0].values["dataset"])
    title = f"{dataset}: beside random and selected real images"
    entries = [_entry(record, group, several) for record in group]
    return _block(title, _SAME.format(baselines=baselines()) + _COUNTS, entries)


def _entry(record: Record, group: list[Record], several: bool) -> Entry:
    values = record.values
    heading = names.ipc(values["ipc"]) + (f", {names.architecture(values['eval_arch'])}" if several else "")
    beside = {names.method(name): _text(values[name], values[f"{name}_std"]) for name in catalogue.BASELINES}
    beside[_OVER] = values[f"over_{catalogue.BASELINE}"]
    if values["best"]:
        beside[_best(values["best_of"])] = _text(values["best"], values["best_std"])
    return Entry(
        heading,
        layout.label(record, layout.naming_columns(group)),
        _text(values["measured"], values["measured_std"]),
        beside,
        record.alone,
    )


def _text(mean: str, std: str) -> str:
    return f"{mean} ± {std}" if mean and std else mean


def _block(title: str, caption: str, entries: Sequence[Entry]) -> Block:
    """Entries one below the other, by their headings. Columns in which all entries are empty are left out;
    why some are empty stands below."""
    shown = columns(entries)
    groups = [
        (heading, [_line(entry, shown) for entry in entries if entry.heading == heading])
        for heading in dict.fromkeys(entry.heading for entry in entries)
    ]
    heads = ["Accuracy (last)", *shown]
    return Block(title, caption, heads, groups, measured=False, footnotes=_reasons(entries))


def _line(entry: Entry, shown: Sequence[str]) -> Line:
    beside = [[Cell(published=entry.beside.get(key, ""))] for key in shown]
    return Line(entry.label, [[Cell(measured=entry.measured)], *beside])


def _reasons(entries: Sequence[Entry]) -> list[str]:
    """Each reason for empty columns once, with the lines that it is about."""
    about: dict[str, list[str]] = {}
    for entry in entries:
        for reason in entry.missing:
            about.setdefault(reason, []).append(entry.label)
    lines = {
        reason: "all lines" if len(labels) == len(entries) else ", ".join(dict.fromkeys(labels))
        for reason, labels in about.items()
    }
    return [f"Empty: {reason} ({labels})." for reason, labels in lines.items()]


def comparisons(scale: Plan) -> list[Comparison]:
    """What each judge measured of sets as the scale makes them, the judges of most methods first."""
    by_judge: dict[str, dict[Place, Cells]] = {}
    for place, cells in scale.comparable.by_place.items():
        if place.ipc != "full":
            by_judge.setdefault(place.judge, {})[place] = cells
    scores = Scores(scale)
    made = [_of_judge(scale, scores, places) for places in by_judge.values()]
    return sorted(made, key=lambda comparison: -comparison.methods)


def _of_judge(scale: Plan, scores: Scores, places: dict[Place, Cells]) -> Comparison:
    cells = next(iter(places.values()))
    first = cells[0]
    arch, dataset = names.architecture(first.eval_arch), names.dataset(first.synthetic.data.name)
    numbers = {place: measure_cells(cells) for place, cells in places.items()}
    order = sorted(
        places, key=lambda place: (places[place][0].synthetic.images_a_class, -numbers[place].mean)
    )
    scored = scores if scores.stand_beside(first) else None
    entries = [_measured_entry(scale, scored, place, places[place], numbers[place]) for place in order]
    title = f"{dataset}: {arch} trained by the protocol {first.protocol.name}"
    block = _block(title, _caption(scale, first, list(numbers.values()), ABOUT if scored else ""), entries)
    told = layout.remarks_on(scale, {place.method for place in places}, {first.eval_arch})
    return Comparison(
        replace(block, footnotes=[*block.footnotes, *told]),
        len(set(entry.label for entry in entries)),
    )


def _caption(scale: Plan, cell: MetricsCell, numbers: list[Pooled], about_scores: str) -> str:
    counts = sorted({(number.n_sets, number.n_networks) for number in numbers})
    spread = " or ".join(
        f"{sets} set{'s' * (sets != 1)} × {nets} network{'s' * (nets != 1)}" for sets, nets in counts
    )
    return (
        f"Test accuracy in % at the end of training, mean ± standard deviation over {spread}. "
        f"{_SAME.format(baselines=baselines())}{_whole(scale, cell)}{about_scores}"
    )


def _whole(scale: Plan, cell: MetricsCell) -> str:
    """A sentence with the accuracy of the whole training set, '' where it was not measured."""
    cells = scale.comparable.whole(cell, cell.protocol.name)
    if not cells:
        return ""
    number = measure_cells(cells)
    return f" Trained on the whole training set: {_told(number)}."


def _told(number: Pooled) -> str:
    return names.with_spread(number.mean, number.spread)


def _measured_entry(scale: Plan, scores: Scores | None, place: Place, cells: Cells, number: Pooled) -> Entry:
    label = names.method(place.method)
    if place.arch not in ("none", cells[0].eval_arch):
        label += f", by {names.architecture(place.arch)}"  # that condensed or chose
    beside, missing, run = {}, [], Run(cells[0].synthetic.data.name, (cells,))
    for name, baseline in scale.comparable.baselines(run, alike=False).items():
        if baseline.run is None:
            missing.append(baseline.reason)
            continue
        other = measure_cells(baseline.run.groups[0])
        beside[names.method(name)] = _told(other)
        if name == catalogue.BASELINE and name != place.method:
            beside[_OVER] = f"{round(number.mean, 1) - round(other.mean, 1):+.1f}"
    task = cells[0].task
    if task.best:
        best = measure_cells(cells, task.best)
        beside[_best(task.test_passes)] = _told(best)
    if place in scale.comparable.over_steps:
        steps, along = measure_steps(scale.comparable.over_steps[place])
        top = max(along, key=lambda number: number.mean)
        beside[f"Best of {len(steps)} snapshots"] = _told(top)
    for title, score in scores.of(cells).items() if scores else ():
        beside[f"{title} score"] = "" if score.value is None else f"{score.value:.3f}"
        missing += [f"no {title.lower()} score, since {score.reason}"] if score.value is None else []
    return Entry(names.ipc(str(place.ipc)), label, _told(number), beside, tuple(missing))
