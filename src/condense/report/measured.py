"""From metrics files to one number with its spread."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense import artifacts, files, recipes
from condense.config import UserError
from condense.plan import MetricsCell
from condense.tableplan import Run

COLUMNS = (
    "paper,table,dataset,ipc,method,train_arch,eval_arch,metric,setting,"
    "measured,measured_std,n_sets,n_networks,published,published_std,delta,scale,note"
).split(",")
ORIGIN_COLUMNS = ["date", "device", "seconds", "peak_memory_bytes", "code_version", "key"]


@dataclass(frozen=True)
class Measured:
    """Mean and population standard deviation in percent; `std` is None where the mean is one of several architectures."""

    mean: float
    std: float | None
    n_sets: int
    n_networks: int  # networks trained on each set, by each architecture


def read_metrics(cell: MetricsCell) -> dict[str, Any]:
    """The metrics of `cell`. Raises UserError naming the file if it is absent, damaged, or of another cell."""
    path = Path(cell.path)
    if not path.is_file():
        making = f"`snakemake --cores all {path}`, with `--config scale=NAME` at its end for another scale than quick"
        raise UserError(f"{path}: this evaluation is missing; run it first: {making}")
    return files.read_metrics(path, cell.task, cell.key)


def pooled(accuracies: list[float]) -> tuple[float, float]:
    """Mean and population standard deviation."""
    mean = sum(accuracies) / len(accuracies)
    return mean, (sum((value - mean) ** 2 for value in accuracies) / len(accuracies)) ** 0.5


def measure_cells(cells: tuple[MetricsCell, ...]) -> Measured:
    """All accuracies of all sets, each set weighing by its networks, judged by one architecture."""
    found = [read_metrics(cell)["accuracies"] for cell in cells]
    mean, std = pooled([float(value) for accuracies in found for value in accuracies])
    return Measured(mean, std, len(found), max(len(accuracies) for accuracies in found))


def measure(run: Run) -> Measured:
    """The number of one row: pooled accuracies of one architecture, or the mean of several architectures' means without a spread."""
    groups = [measure_cells(cells) for cells in run.groups]
    if len(groups) == 1:
        return groups[0]
    return Measured(sum(group.mean for group in groups) / len(groups), None, groups[0].n_sets, groups[0].n_networks)


def measure_steps(cells: tuple[MetricsCell, ...]) -> tuple[list[int], list[Measured]]:
    """Steps of the snapshots and the number at each. Raises UserError if the sets were kept at different steps."""
    found = [read_metrics(cell) for cell in cells]
    steps = found[0]["steps"]
    for cell, values in zip(cells, found, strict=True):
        if values["steps"] != steps or len(values["accuracies"]) != len(steps):
            raise artifacts.damaged(Path(cell.path), f"its steps differ from those of {cells[0].path}")
    numbers = []
    for place in range(len(steps)):
        pool = [float(value) for values in found for value in values["accuracies"][place]]
        numbers.append(Measured(*pooled(pool), len(found), len(found[0]["accuracies"][place])))
    return steps, numbers


def rows_from_elsewhere(paper: str, table: str) -> list[dict[str, str]]:
    """The rows of `params/measured/*.csv` that belong to a table, as text. Raises UserError for a file without the needed columns."""
    rows = []
    for path in sorted((recipes.params_folder() / "measured").glob("*.csv")):
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in [*COLUMNS, *ORIGIN_COLUMNS] if column not in (reader.fieldnames or [])]
            if missing:
                raise UserError(f"{path}: the columns {', '.join(missing)} are missing")
            rows += [row for row in reader if (row["paper"], row["table"]) == (paper, table)]
    return rows
