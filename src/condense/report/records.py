"""The rows of a table: what was published, what was measured on which dataset, and why a place is empty."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from condense.config import unknown
from condense.plan.published import metric_named
from condense.plan.rows import Row, Run
from condense.plan.tables import Plan
from condense.report import names
from condense.report.measured import (
    ORIGIN_COLUMNS,
    TABLE_COLUMNS,
    Measured,
    measure,
    other_readings,
    rows_from_elsewhere,
)
from condense.specs import ACCURACY, Metric, TableSpec, catalogue

_DESCRIPTION = ("paper", "table", "ipc", "method", "train_arch", "eval_arch", "metric", "setting")


@dataclass(frozen=True)
class Record:
    """One CSV row (`values`, all text, keys `TABLE_COLUMNS`) and how it came about.

    `origin`: 'published' (the paper's row, measured or not), 'stand_in' (measured on another dataset) or
    'elsewhere' (on another machine).
    """

    values: dict[str, str]
    origin: str
    stands_for: str = ""  # the papers' dataset of a stand-in
    reason: str = ""  # why nothing was measured
    remark: str = ""  # what the published number needs said about it
    machine: dict[str, str] = field(default_factory=dict)
    measure: str = ""  # what its numbers are, and in which unit: 'Test accuracy in %'
    judge: str = (
        ""  # the protocol of the published number, where networks were trained by it; '': the table's
    )
    alone: tuple[str, ...] = ()  # why baselines are missing beside what was measured
    device: str = ""  # where a number was measured that is one of a machine
    together: bool = False  # whether what was measured is a number of all networks of a set together
    readings: dict[str, str] = field(default_factory=dict)  # as `other_readings` gives them
    among: str = ""  # the copy of its dataset among whose rows a published one stands

    @property
    def shown_on(self) -> str:
        """The dataset under whose name the record stands."""
        return self.among or self.values["dataset"]

    @property
    def was_measured(self) -> bool:
        return self.values["measured"] != ""


def decimals(number: str) -> int:
    """How many decimals a printed number has, at least 1 and at most 2."""
    return min(max(len(number.partition(".")[2]), 1), 2)


def records(scale: Plan, name: str) -> list[Record]:
    """All rows of the table `name` in CSV order.

    Raises UserError for a name that is no table of this scale and for missing or damaged metrics.
    """
    if name not in scale.tables:
        raise unknown("table", name, scale.tables, f"scale {scale.scale.name}")
    spec = scale.specs_by_path()[name]
    assert isinstance(spec, TableSpec)
    rows = scale.tables[name]
    usual = max((decimals(row.published["value"]) for row in rows if row.published["value"]), default=1)
    published = [_published(scale, row, usual) for row in rows]
    by_table = [
        _of_run(scale, row, run, usual, "published", _cuts(scale))
        for row in rows
        for run in own_runs(row)
        if run.judge != row.judge
    ]
    stand_ins = [(row, run) for row in rows for run in row.runs if run not in own_runs(row)]
    measured_instead = [_stand_in(scale, row, run, usual) for row, run in stand_ins]
    gathered = [
        *_among_copies(published, rows),
        *by_table,
        *measured_instead,
        *(_elsewhere(row) for row in rows_from_elsewhere(spec.paper, spec.table)),
    ]
    units = {row.published["metric"]: row.published["unit"] for row in rows}
    return [replace(record, measure=_measure(record.values["metric"], spec, units)) for record in gathered]


def _measure(name: str, spec: TableSpec, units: dict[str, str]) -> str:
    """What the numbers of a published `metric` are: a metric of the table's task, or else, under its own
    name, what is not measured."""
    metric = None if name in spec.not_measured else metric_named(name, spec.task, spec.metrics)
    return (
        spec.task.numbers()[metric] if metric else Metric(name.replace("_", " "), units.get(name, ""))
    ).sentence


def _places(row: Row, usual: int) -> int:
    return decimals(row.published["value"]) if row.published["value"] else usual


def _numbers(measured: Measured, places: int) -> dict[str, str]:
    return {
        "measured": measured.instead or f"{measured.mean:.{places}f}",
        "measured_std": "" if measured.spread is None else f"{measured.spread:.{places}f}",
        "n_sets": str(measured.n_sets or ""),
        "n_networks": str(measured.n_networks or ""),
    }


def _blank(row: Row, scale: Plan) -> dict[str, str]:
    values = dict.fromkeys(TABLE_COLUMNS, "") | {key: row.published[key] for key in _DESCRIPTION}
    return values | {"scale": scale.scale.name}


def _cuts(scale: Plan) -> str:
    return f"scale {scale.scale.name}: {scale.scale.note or scale.scale.title}"


def _joined(*notes: str) -> str:
    return "; ".join(note.strip().rstrip(".") for note in notes if note)


def own_runs(row: Row) -> list[Run]:
    """The runs on the row's own dataset, or else on a copy of it, by the judge of the published number and by
    that of the table."""
    papers = row.published["dataset"]
    own = [run for run in row.runs if run.dataset == papers]
    copied = [run for run in row.runs if names.copied(run.dataset) == papers]
    return own or [run for run in copied if run.dataset == copied[0].dataset]


def _among_copies(published: list[Record], rows: list[Row]) -> list[Record]:
    """Published rows that were not measured, among those of the same dataset that were, on a copy of it."""
    copies = {row.published["dataset"]: run.dataset for row in rows for run in own_runs(row)}
    return [
        replace(record, among=copies[dataset])
        if (dataset := record.values["dataset"]) in copies and not record.was_measured
        else record
        for record in published
    ]


def _published(scale: Plan, row: Row, usual: int) -> Record:
    """The published number, beside the run that had its judge."""
    own = own_runs(row)
    measured_run = next((run for run in own if run.judge == row.judge), None)
    paper = row.published
    values = _blank(row, scale) | {
        "dataset": paper["dataset"],
        "published": paper["value"],
        "published_std": paper["std"],
    }
    if measured_run is None:
        datasets = ", ".join(dict.fromkeys(run.dataset for run in row.runs))
        unjudged = f"not judged by {row.judge}, as the published number, at {scale.scale.name}" if own else ""
        reason = row.reason or unjudged or f"not run at {scale.scale.name}"
        values["note"] = _joined(
            paper["note"],
            f"{reason} on {paper['dataset']}, measured on {datasets} instead"
            if datasets and not own
            else reason,
        )
        return Record(
            values, "published", reason=reason, remark=paper["note"], judge=row.judge if own else ""
        )
    number = measure(measured_run, row.metric)
    values |= {"dataset": measured_run.dataset} | _numbers(number, _places(row, usual))
    if paper["value"] and not number.instead:
        values["delta"] = f"{float(values['measured']) - float(paper['value']):+.{_places(row, usual)}f}"
    beside, alone = _beside(scale, row, measured_run, values["measured"], _places(row, usual))
    values |= beside
    copied = f"published on {paper['dataset']}" if measured_run.dataset != paper["dataset"] else ""
    readings = other_readings(measured_run, row.metric, _places(row, usual))
    told = (*_told(readings), number.device, *alone)
    values["note"] = _joined(paper["note"], copied, _judged(measured_run), _cuts(scale), *told)
    record = Record(values, "published", remark=paper["note"], judge=measured_run.judge, alone=alone)
    return replace(record, device=number.device, together=number.together, readings=readings)


def _beside(
    scale: Plan, row: Row, run: Run, measured: str, places: int
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The baselines beside a run, under its judge, and why some are missing. Nothing stands beside another
    metric than the accuracy."""
    if run.cells[0].task.metrics.get(row.metric) is not ACCURACY:
        return {}, ()
    values: dict[str, str] = _best(run, places)
    alone = []
    for name, baseline in scale.comparable.baselines(run).items():
        if baseline.run is None:
            alone.append(baseline.reason)
            continue
        number = _numbers(measure(baseline.run, row.metric), places)
        values |= {name: number["measured"], f"{name}_std": number["measured_std"]}
    itself = run.cells[0].synthetic.recipe.name == catalogue.BASELINE
    if catalogue.BASELINE in values and not itself:
        gain = float(measured) - float(values[catalogue.BASELINE])
        values[f"over_{catalogue.BASELINE}"] = f"{gain:+.{places}f}"
    return values, tuple(alone)


def _best(run: Run, places: int) -> dict[str, str]:
    """The best of the test passes of a run, and of how many; empty where its networks were tested at the end
    alone."""
    task = run.cells[0].task
    if not task.best:
        return {}
    number = _numbers(measure(run, task.best), places)
    best = {"best": number["measured"], "best_std": number["measured_std"]}
    return best | {"best_of": str(task.test_passes)}


def _judged(run: Run) -> str:
    """By which judge, and with what that was made beforehand, a run was measured."""
    judge = f"judged by {run.judge}, as the published number" if run.judge else ""
    made = [parent.note for cell in run.cells for parent in cell.parents.values()]
    return _joined(*filter(None, [judge, *dict.fromkeys(made)]))


def _stand_in(scale: Plan, row: Row, run: Run, usual: int) -> Record:
    paper = row.published["dataset"]
    note = _joined(f"{run.dataset} stands in for {paper}", _judged(run), _cuts(scale))
    return replace(_of_run(scale, row, run, usual, "stand_in", note), stands_for=paper)


def _of_run(scale: Plan, row: Row, run: Run, usual: int, origin: str, note: str) -> Record:
    """A row of what was measured, without a published number."""
    number = measure(run, row.metric)
    values = _blank(row, scale) | {"dataset": run.dataset} | _numbers(number, _places(row, usual))
    beside, alone = _beside(scale, row, run, values["measured"], _places(row, usual))
    readings = other_readings(run, row.metric, _places(row, usual))
    values |= beside | {"note": _joined(note, *_told(readings), number.device, *alone)}
    record = Record(values, origin, judge=run.judge, alone=alone, device=number.device)
    return replace(record, together=number.together, readings=readings)


def _told(readings: dict[str, str]) -> list[str]:
    """Other readings of a number as parts of its note."""
    return [f"{head[:1].lower()}{head[1:]}: {text}" for head, text in readings.items()]


def _elsewhere(row: dict[str, str]) -> Record:
    values = {column: row.get(column) or "" for column in TABLE_COLUMNS}
    return Record(values, "elsewhere", machine={column: row[column] or "" for column in ORIGIN_COLUMNS})
