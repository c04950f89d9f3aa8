"""The leaderboard: every method on every dataset, at every number of images a class, by every judge that
measured it, in one table for programs and for the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from condense.config import UserError
from condense.machine.drafts import whole
from condense.plan.beside import Cells, Place
from condense.plan.rows import Run
from condense.plan.tables import Plan
from condense.report import board_tasks, names
from condense.report.board_cost import cost, label_bytes
from condense.report.measured import Pooled, measure_cells
from condense.report.scores import TITLES, Scores
from condense.specs import catalogue

# Columns by their types, in the order of the file; those of tasks (`Task.board`) come behind them
TEXTS = ("dataset", "method", "arch", "ipc", "judge", "labels", "eval_arch", "scale", "device", "changed")
NUMBERS = (
    *("accuracy", "accuracy_std", "best", "best_std", "over_random", "hard_labels", "transfer"),
    *("label_robust", "augmentation_robust", "seconds"),
)
_SCORES = dict(zip(("label_robust", "augmentation_robust"), TITLES, strict=True))
COUNTS = (
    *("n_sets", "n_networks", "best_of", "transfer_of", "shared_by"),
    *("image_bytes", "label_bytes", "memory_bytes"),
)


def made(scale: Plan) -> Plan:
    """The scale with the evaluations that are made, of one that is not finished yet. Raises UserError if none
    is."""
    cells = [cell for path, cell in scale.metrics.items() if Path(path).is_file()]
    if not cells:
        raise UserError(
            f"no evaluation of the scale '{scale.scale.name}' is made yet; `snakemake --cores all --config "
            f"scale={scale.scale.name}` makes them"
        )
    return scale.of_evaluations(cells)


def rows(scale: Plan) -> list[dict[str, Any]]:
    """One row for each method, dataset, number of images a class and judge; None where a number is not there.
    Those without an accuracy come last: of sets that other tasks measured alone, or that these had made by a
    changed method (`changed`).

    Accuracies are means in percent with population deviations over networks and sets, `over_random` the
    points above as many random images under the same judge, `hard_labels`, of networks that learned from soft
    labels, what the same sets give by the protocol `scores: hard` of the scale, `transfer` the mean over
    other architectures that judge by the same protocol, `seconds` those of condensing a set (all its jobs, a
    mean over sets; of a job that made `shared_by` sets at once an equal part), `label_bytes` those in the
    file of the set and those that observers give beside them.
    """
    places, scores = scale.comparable.by_place, Scores(scale)
    of_tasks = board_tasks.by_row(scale)
    accuracies = {place: measure_cells(cells) for place, cells in places.items()}
    found = []
    for place, cells in places.items():
        score = scores.of(cells) if place.ipc != "full" and scores.stand_beside(cells[0]) else {}
        row = _about(scale, place, cells) | {
            **_accuracy(scale, cells, accuracies[place]),
            **_transfer(place, places, accuracies),
            **{name: score[title].value for name, title in _SCORES.items() if title in score},
        }
        found.append(row | board_tasks.numbers(of_tasks.pop(board_tasks.Stands(place, ""), {})))
    for (place, changed), columns in of_tasks.items():
        cells = tuple(cell for _, cells in columns.values() for cell in cells)
        row = _about(scale, place, cells) | {"changed": changed or None}
        found.append(row | board_tasks.numbers(columns))
    return sorted(found, key=_order)


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    none = row["accuracy"] is None
    where = (row["dataset"], _number(row["ipc"]), row["judge"], row["eval_arch"])
    return none, *where, 0.0 if none else -row["accuracy"], row["method"], row["changed"] or ""


def _about(scale: Plan, place: Place, cells: Cells) -> dict[str, Any]:
    """A row that says what was judged, by whom, and what the sets of the cells cost; all else is None."""
    first = cells[0]
    sets = {cell.synthetic.key: cell.synthetic for cell in cells}
    row = dict.fromkeys((*TEXTS, *NUMBERS, *COUNTS)) | {
        "dataset": first.synthetic.data.name,
        "method": place.method,
        "arch": place.arch,
        "ipc": str(place.ipc),
        "judge": first.protocol.name,
        "labels": first.protocol.labels_from,
        "eval_arch": first.eval_arch,
        "scale": scale.scale.name,
        **cost(list(sets.values())),
    }
    taught = label_bytes(first)
    return row | ({"label_bytes": (row["label_bytes"] or 0) + taught} if taught else {})


def _accuracy(scale: Plan, cells: Cells, number: Pooled) -> dict[str, Any]:
    """The accuracy of a row, and what is made of it and of the same sets under another judge."""
    return {
        "accuracy": number.mean,
        "accuracy_std": number.spread,
        "n_sets": number.n_sets,
        "n_networks": number.n_networks,
        **_best(cells),
        "over_random": _over_random(scale, cells, number),
        "hard_labels": hard_labels(scale, cells),
    }


def _number(ipc: str) -> float:
    return float("inf") if ipc == "full" else float(ipc)


def _best(cells: Cells) -> dict[str, Any]:
    """The best of several test passes, where the task follows the training."""
    task = cells[0].task
    if not task.best:
        return {}
    best = measure_cells(cells, task.best)
    return {"best": best.mean, "best_std": best.spread, "best_of": task.test_passes}


def _over_random(scale: Plan, cells: Cells, number: Pooled) -> float | None:
    if cells[0].synthetic.recipe.name == catalogue.BASELINE:
        return None
    run = Run(cells[0].synthetic.data.name, (cells,))
    baseline = scale.comparable.baselines(run).get(catalogue.BASELINE)
    return number.mean - measure_cells(baseline.run.groups[0]).mean if baseline and baseline.run else None


def hard_labels(scale: Plan, cells: Cells) -> float | None:
    """The accuracy of the sets of evaluations with soft labels by the protocol of the scale with hard ones;
    None for other evaluations, and where the sets were not judged so."""
    if cells[0].protocol.loss.labels == "hard" or cells[0].synthetic.ipc == "full":
        return None
    judged = scale.comparable.judged(cells, scale.scale.scores.hard)
    return measure_cells(judged).mean if judged else None


def _transfer(
    place: Place, places: Mapping[Place, Cells], accuracies: Mapping[Place, Pooled]
) -> dict[str, Any]:
    """The mean over the other architectures by which the same sets were judged by the same protocol."""
    here = places[place][0]
    others = [
        accuracies[other].mean
        for other, cells in places.items()
        if (other.method, other.arch, other.ipc) == (place.method, place.arch, place.ipc)
        and cells[0].protocol.name == here.protocol.name
        and cells[0].synthetic.data.key == here.synthetic.data.key
        and cells[0].eval_arch != here.eval_arch
    ]
    return {"transfer": sum(others) / len(others), "transfer_of": len(others)} if others else {}


def columns(table: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of a board: the fixed ones, then those of tasks."""
    return [*TEXTS, *NUMBERS, *COUNTS, *of_tasks(table)]


def of_tasks(table: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of a board that tasks brought."""
    return sorted({name for row in table for name in row} - {*TEXTS, *NUMBERS, *COUNTS})


def write(table: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes the rows as parquet. Raises UserError for a file of another ending."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    if out.suffix != ".parquet":
        raise UserError(f"{out}: the file of a leaderboard must end in .parquet")
    types = dict.fromkeys(TEXTS, arrow.string()) | dict.fromkeys(COUNTS, arrow.int64())
    schema = arrow.schema([(name, types.get(name, arrow.float64())) for name in columns(table)])
    filled = [{name: row.get(name) for name in schema.names} for row in table]
    with whole(out) as draft:
        parquet.write_table(arrow.Table.from_pylist(filled, schema), draft)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a leaderboard. Raises UserError for a file that is none."""
    import pyarrow.parquet as parquet
    from pyarrow import ArrowInvalid

    try:
        table = parquet.read_table(path)
    except (OSError, ArrowInvalid) as error:
        raise UserError(
            f"{path}: is no leaderboard ({error}); `condense leaderboard --help` says how one is made"
        ) from None
    missing = [name for name in (*TEXTS, *NUMBERS, *COUNTS) if name not in table.column_names]
    if missing:
        raise UserError(f"{path}: is no leaderboard: the columns {', '.join(missing)} are missing")
    return table.to_pylist()


def text(table: Sequence[Mapping[str, Any]]) -> str:
    """The rows for a terminal: what was judged, and the numbers that most readers want."""
    head = ("dataset", "ipc", "method", "judge", "accuracy", "over random", "transfer", "other tasks")
    lines = [head]
    for row in table:
        accuracy = row["accuracy"]
        spread = "" if accuracy is None else names.with_spread(accuracy, row["accuracy_std"])
        signed = "" if row["over_random"] is None else f"{row['over_random']:+.1f}"
        transfer = "" if row["transfer"] is None else f"{row['transfer']:.1f}"
        judge = f"{row['judge']}, {names.architecture(row['eval_arch'])}"
        found = {name: row.get(name) for name in of_tasks(table)}
        others = ", ".join(f"{name} {value:.2f}" for name, value in found.items() if value is not None)
        method = names.method(row["method"]) + (f" ({row['changed']})" if row["changed"] else "")
        subject = (row["dataset"], row["ipc"], method, judge)
        lines.append((*subject, spread, signed, transfer, others))
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return "\n".join(
        "  ".join(entry.ljust(width) for entry, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
