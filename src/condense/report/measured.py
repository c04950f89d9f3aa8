"""From metrics files to one number with its spread."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from condense import files
from condense.config import UserError
from condense.evaluate.joint import joint_numbers
from condense.files import artifacts
from condense.plan import MetricsCell
from condense.plan.rows import Run
from condense.specs import catalogue

COLUMNS = (
    "paper,table,dataset,ipc,method,train_arch,eval_arch,metric,setting,"
    "measured,measured_std,n_sets,n_networks,published,published_std,delta,scale,note"
).split(",")
# What stands beside a measured accuracy, under the same judge; empty where it was not measured so
BESIDE_COLUMNS = [
    *(f"{name}{suffix}" for name in catalogue.BASELINES for suffix in ("", "_std")),
    f"over_{catalogue.BASELINE}",
    # Of so many test passes over the training the best, of each network
    *("best", "best_std", "best_of"),
]
TABLE_COLUMNS = [*COLUMNS, *BESIDE_COLUMNS]
# What stands beside a number of all networks of a set together
INTERVAL, EACH = "95 % interval", "Each repetition by itself"
ORIGIN_COLUMNS = ["date", "device", "seconds", "peak_memory_bytes", "code_version", "key"]


@dataclass(frozen=True)
class Measured:
    """A mean in the unit of the metric; `std` is None where it is one of several architectures."""

    mean: float
    std: float | None
    n_sets: int
    n_networks: int  # networks trained on each set, by each architecture
    instead: str = ""  # what stands in place of the number, where there is none
    device: str = ""  # of a number that is one of the machine it was measured on
    together: bool = False  # whether it is one of all networks of a set together

    @property
    def spread(self) -> float | None:
        """The deviation; None where there is but one value, which has none."""
        return None if self.n_sets * self.n_networks == 1 else self.std


@dataclass(frozen=True)
class Pooled(Measured):
    """Mean and population standard deviation of one architecture, in the unit of the metric."""

    std: float


def read_metrics(cell: MetricsCell) -> dict[str, Any]:
    """The metrics of `cell`. Raises UserError naming the file if it is absent, damaged, or of another
    cell."""
    path = Path(cell.path)
    if not path.is_file():
        making = (
            f"`snakemake --cores all {path}`, with `--config scale=NAME` at its end for another scale than "
            "quick"
        )
        raise UserError(f"{path}: this evaluation is missing; run it first: {making}")
    return files.read_metrics(path, cell.task.folder, cell.key)


def pooled(values: list[float]) -> tuple[float, float]:
    """Mean and population standard deviation."""
    mean = sum(values) / len(values)
    return mean, (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5


def measure_cells(cells: tuple[MetricsCell, ...], metric: str = "accuracy") -> Pooled:
    """All values of a metric of all sets, each set weighing by its networks, judged by one architecture; of
    curves over steps those at the last; of a number of all networks together one of each set."""
    written = [files.metrics_in(read_metrics(cell)) for cell in cells]
    if metric in cells[0].task.joint:
        together = [[joint_numbers(cell.task, of)[metric]] for cell, of in zip(cells, written, strict=True)]
        number = _pooled_of(cells, together)
        return replace(number, n_networks=number.n_networks * cells[0].n_networks, together=True)
    by_cell = [of[metric]["values"] for of in written]
    by_cell = [
        values[-1] if cell.task.is_curve(metric) else values
        for cell, values in zip(cells, by_cell, strict=True)
    ]
    return _pooled_of(cells, by_cell)


def _pooled_of(cells: tuple[MetricsCell, ...], by_cell: Sequence[Sequence[float]]) -> Pooled:
    """The values of cells together. A set that a task asks for in several variants, such as orders of the
    classes, counts once, with the networks of all of them."""
    variants = len({cell.task_settings for cell in cells})
    mean, std = pooled([float(value) for values in by_cell for value in values])
    most = max(len(values) for values in by_cell)
    return Pooled(mean, std, len(cells) // variants, most * variants)


def measure(run: Run, metric: str = "accuracy") -> Measured:
    """The number of one row: pooled values of one architecture, or the mean of several architectures' means
    without a spread."""
    if run.cells[0].reads_recipe:
        return _of_recipe(run, metric)
    groups = [measure_cells(cells, metric) for cells in run.groups]
    if len(groups) == 1:
        (only,) = groups
        one = only.together and only.n_sets == 1  # a single value has no spread
        return Measured(**vars(only) | {"std": None}) if one else only
    return Measured(
        sum(group.mean for group in groups) / len(groups), None, groups[0].n_sets, groups[0].n_networks
    )


def other_readings(run: Run, metric: str, places: int) -> dict[str, str]:
    """Beside a number of all networks of a set together: its own interval, where there is one set, and what
    each repetition gives by itself, mean and deviation, as texts of so many decimals; empty beside others."""
    shown = run.cells[0].task.numbers()[metric]
    if not shown.alone:
        return {}
    found = {}
    if shown.interval and len(run.cells) == 1:
        low, high = (measure(run, end).mean for end in shown.interval)
        found[INTERVAL] = f"{low:.{places}f} to {high:.{places}f}"
    alone = measure(run, shown.alone)
    spread = "" if alone.spread is None else f" ± {alone.spread:.{places}f}"
    return found | {EACH: f"{alone.mean:.{places}f}{spread}"}


def _of_recipe(run: Run, metric: str) -> Measured:
    """What running a recipe gave on a machine, or that its memory did not suffice."""
    (cell,) = run.cells
    read = read_metrics(cell)
    device, needed = read["run"].get("device", ""), read.get("out_of_memory")
    if needed:
        return Measured(math.nan, None, 0, 0, f"OOM ({needed / 1e9:.3g} GB needed)", device)
    return Measured(files.metrics_in(read)[metric]["mean"], None, 0, 0, device=device)


def measure_steps(cells: tuple[MetricsCell, ...], metric: str = "accuracy") -> tuple[list[int], list[Pooled]]:
    """Steps and the number at each. Raises UserError if the sets were kept at different steps."""
    read = [read_metrics(cell) for cell in cells]
    by_set, steps = [files.metrics_in(values)[metric]["values"] for values in read], read[0]["steps"]
    for cell, about, values in zip(cells, read, by_set, strict=True):
        if about["steps"] != steps or len(values) != len(steps):
            raise artifacts.damaged(Path(cell.path), f"its steps differ from those of {cells[0].path}")
    numbers = []
    for index in range(len(steps)):
        numbers.append(_pooled_of(cells, [values[index] for values in by_set]))
    return steps, numbers


def rows_from_elsewhere(paper: str, table: str) -> list[dict[str, str]]:
    """The rows of `params/measured/*.csv` that belong to a table, as text. Raises UserError for a file
    without the needed columns."""
    rows = []
    for path in sorted((catalogue.params_folder() / "measured").glob("*.csv")):
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [
                column for column in [*COLUMNS, *ORIGIN_COLUMNS] if column not in (reader.fieldnames or [])
            ]
            if missing:
                raise UserError(f"{path}: the columns {', '.join(missing)} are missing")
            rows += [row for row in reader if (row["paper"], row["table"]) == (paper, table)]
    return rows
