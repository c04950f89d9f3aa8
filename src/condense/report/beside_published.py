"""Every accuracy that a scale measured, beside what the papers print of it, on one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from condense.plan.rows import Row, Run
from condense.plan.tables import Plan
from condense.report import names
from condense.report.measured import Measured, measure
from condense.report.records import decimals, own_runs
from condense.specs import ACCURACY, catalogue

_COLUMNS = ("Method", "Judge", "Measured", "Best", "Over random", "Published", "Difference")
_HEAD = (
    "Test accuracy in %: mean ± standard deviation over networks and sets. *Measured* is that of the last "
    "epoch. *Best* is the mean of every network's best test pass, of so many, which is what some papers "
    "print; nothing is chosen by it here. *Published* stands where the judge is that of the published "
    "number, with its paper and table in brackets; *over random* are the points above as many random "
    "images under the same judge."
)


@dataclass
class _Line:
    """What one row or several say of the same evaluations: how it is called, by whom it was judged, and the
    rows that print a number of it, with their tables."""

    label: str
    run: Run
    metric: str
    printed: list[tuple[Row, str]] = field(default_factory=list)


def beside_published(scale: Plan, evaluated: str) -> str:
    """One table for each dataset and number of images a class, the best first under each judge. Evaluations
    that several tables show stand once, with the numbers that each of these prints.

    `evaluated`: how many evaluations of the scale are made, in words. Raises UserError for metrics that are
    missing or damaged.
    """
    name = scale.scale.name
    text = [f"# {scale.scale.title}: measured beside published", ""]
    text += [
        f"Scale `{name}`, written by `make so-far SCALE={name}`: {evaluated}. {scale.scale.note}".strip()
    ]
    text += ["", _HEAD, ""]
    for (dataset, ipc), lines in sorted(_lines(scale).items(), key=lambda entry: _order(*entry[0])):
        copied = names.copied(dataset)
        about = f"{names.note(dataset)} Published numbers are of {names.dataset(copied)}." if copied else ""
        text += [f"## {names.dataset(dataset)}, {names.ipc(ipc)}", "", *([about, ""] if about else [])]
        text += [f"| {' | '.join(_COLUMNS)} |", f"|---|---|{'---:|' * (len(_COLUMNS) - 2)}"]
        measured = [(measure(line.run, line.metric), line) for line in lines]
        measured.sort(key=lambda entry: (_judge(entry[1].run), -entry[0].mean))
        text += [f"| {' | '.join(_texts(scale, number, line))} |" for number, line in measured] + [""]
    return "\n".join(text).rstrip() + "\n"


def _order(dataset: str, ipc: str) -> tuple[str, bool, int]:
    return dataset, not ipc.isdigit(), int(ipc) if ipc.isdigit() else 0


def _lines(scale: Plan) -> dict[tuple[str, str], list[_Line]]:
    found: dict[tuple[str, ...], _Line] = {}
    places: dict[tuple[str, str], list[_Line]] = {}
    for name, row, run in _measured(scale):
        key = tuple(cell.path for cell in run.cells)
        if key not in found:
            found[key] = _Line(_label(scale, row, run), run, row.metric)
            places.setdefault((run.dataset, row.published["ipc"]), []).append(found[key])
        if run.judge == row.judge and row.published["value"] and run in own_runs(row):
            found[key].printed.append((row, name))
    return places


def _measured(scale: Plan) -> Iterator[tuple[str, Row, Run]]:
    """Runs of accuracies by one architecture, with their rows and tables."""
    for name in scale.accuracy_tables:
        for row in scale.tables[name]:
            for run in row.runs:
                if len(run.groups) == 1 and run.cells[0].task.metrics.get(row.metric) is ACCURACY:
                    yield name, row, run


def _label(scale: Plan, row: Row, run: Run) -> str:
    """The method, with what a table changes of it and the network that condensed where that is another."""
    plain = all(map(scale.comparable.is_unchanged, run.cells))
    setting, arch = "" if plain else row.published["setting"], row.published["train_arch"]
    condensed = f", condensed with {names.architecture(arch)}" if arch not in ("", "none", "convnet") else ""
    return names.method_of_row(row.published) + (f", {setting}" if setting else "") + condensed


def _judge(run: Run) -> str:
    cell = run.cells[0]
    return f"{cell.protocol.name}, {names.architecture(cell.eval_arch)}"


def _texts(scale: Plan, number: Measured, line: _Line) -> list[str]:
    first = line.run.cells[0]
    best = measure(line.run, first.task.best) if first.task.best else None
    random = scale.comparable.baselines(line.run).get(catalogue.BASELINE)
    itself = first.synthetic.recipe.name == catalogue.BASELINE
    gain = None if not random or not random.run or itself else measure(random.run, line.metric).mean
    over = "" if gain is None else f"{number.mean - gain:+.1f}"
    printed = _printed(line.printed)
    differences = [f"{number.mean - float(value):+.{decimals(value)}f}" for value, _ in printed]
    return [
        line.label,
        _judge(line.run),
        f"**{_spread(number)}**",
        f"{_spread(best)} of {first.task.test_passes}" if best else "",
        over,
        "; ".join(f"{spread} ({'; '.join(places)})" for (_, spread), places in printed.items()),
        "; ".join(differences),
    ]


def _spread(number: Measured) -> str:
    return names.with_spread(number.mean, number.spread)


def _printed(rows: list[tuple[Row, str]]) -> dict[tuple[str, str], list[str]]:
    """By a printed value, as it is and with its spread, the papers and tables that print it."""
    found: dict[tuple[str, str], list[str]] = {}
    for row, name in rows:
        value, std = row.published["value"], row.published["std"]
        paper, _, table = name.partition("/")
        place = f"{paper}, Table {table.removeprefix('table')}"
        found.setdefault((value, f"{value}{f' ± {std}' if std else ''}"), []).append(place)
    return found
