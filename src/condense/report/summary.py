"""The small summary of all tables: of this machine under results/, and of what is kept, which git holds and
DVC shows and plots."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from condense.files import number_in, read_rows
from condense.files.artifacts import write_json
from condense.machine.drafts import whole
from condense.plan.published import metric_named

SUMMARY = Path("results/summary/accuracy.json")
KEPT_SUMMARY = Path("kept/accuracy.json")
_COLUMNS = ("dataset", "ipc", "method", "train_arch", "eval_arch", "accuracy")


def make_summary(tables: list[Path], out: Path) -> None:
    """Writes the measured accuracies of the table CSVs as nested JSON to `out`, and beside it as rows of a
    CSV, with the names of the tables in `tables.json`."""
    _write(accuracy_rows(tables), out)
    write_json(out.with_name("tables.json"), {"tables": [str(path) for path in tables]})


def keep_summary(made: Path = SUMMARY, kept: Path = KEPT_SUMMARY) -> list[Path]:
    """Brings the kept summary up to date with the one of this machine, for the datasets that this one has;
    returns its files."""
    rows, earlier = (
        [*_rows(path.with_suffix(".csv"))] if path.with_suffix(".csv").is_file() else []
        for path in (made, kept)
    )
    datasets = {row["dataset"] for row in rows}
    if rows:
        _write([row for row in earlier if row["dataset"] not in datasets] + rows, kept)
    return [path for path in (kept, kept.with_suffix(".csv")) if path.is_file()]


def _write(rows: list[dict[str, str]], out: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with whole(out.with_suffix(".csv")) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8")
    write_json(out, accuracy_tree(rows))


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of a summary. Raises UserError if it has other columns, or accuracies that are no
    percentages."""
    rows = read_rows(path, _COLUMNS, whole=True)
    for row in rows:
        number_in(path, row, "accuracy", 0, 100)
    return rows


def accuracy_rows(tables: list[Path]) -> list[dict[str, str]]:
    """Measured accuracies of table CSVs without a special setting, each cell once: dataset, ipc, method,
    train_arch, eval_arch, accuracy.

    Raises UserError for a file that is no table of ours.
    """
    columns = _COLUMNS[:-1]
    by_cell: dict[tuple[str, ...], dict[str, str]] = {}
    for path in tables:
        for row in read_rows(path, (*columns, "measured", "setting", "metric")):
            single = not row["eval_arch"].startswith("mean(")  # no mean of several architectures
            if row["measured"] and not row["setting"] and metric_named(row["metric"]) and single:
                number_in(path, row, "measured", 0, 100)
                cell = {name: row[name] for name in columns}
                by_cell.setdefault(tuple(cell.values()), cell | {"accuracy": row["measured"]})
    return list(by_cell.values())


def accuracy_tree(rows: list[dict[str, str]]) -> dict[str, Any]:
    """`accuracy_rows` nested as DVC compares metrics: dataset -> ipc -> method -> 'train_arch-eval_arch' ->
    accuracy (%)."""
    tree: dict[str, Any] = {}
    for row in rows:
        branch = (
            tree.setdefault(row["dataset"], {})
            .setdefault(f"ipc{row['ipc']}", {})
            .setdefault(row["method"], {})
        )
        branch[f"{row['train_arch'] or 'none'}-{row['eval_arch'] or 'none'}"] = float(row["accuracy"])
    return tree
