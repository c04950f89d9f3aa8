"""The small summary of all tables that DVC shows, compares and plots, and that git keeps."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from condense.artifacts import whole, write_json


def make_summary(tables: list[Path], out: Path) -> None:
    """Writes the measured accuracies of the table CSVs as nested JSON to `out`, and as rows to the CSV beside it."""
    rows = accuracy_rows(tables)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["dataset", "ipc", "method", "train_arch", "eval_arch", "accuracy"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with whole(out.with_suffix(".csv")) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8")
    write_json(out, accuracy_tree(rows))


def accuracy_rows(tables: list[Path]) -> list[dict[str, str]]:
    """The measured rows of table CSVs without a special setting, each cell once: dataset, ipc, method, train_arch, eval_arch, accuracy."""
    columns = ("dataset", "ipc", "method", "train_arch", "eval_arch")
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for path in tables:
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["measured"] and not row["setting"] and row["metric"] == "test_accuracy":
                    cell = {name: row[name] for name in columns}
                    found.setdefault(tuple(cell.values()), cell | {"accuracy": row["measured"]})
    return list(found.values())


def accuracy_tree(rows: list[dict[str, str]]) -> dict[str, Any]:
    """`accuracy_rows` nested as DVC compares metrics: dataset -> ipc -> method -> 'train_arch-eval_arch' -> accuracy (%)."""
    tree: dict[str, Any] = {}
    for row in rows:
        place = tree.setdefault(row["dataset"], {}).setdefault(f"ipc{row['ipc']}", {}).setdefault(row["method"], {})
        place[f"{row['train_arch'] or 'none'}-{row['eval_arch'] or 'none'}"] = float(row["accuracy"])
    return tree
