"""Reading metrics and records of runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from condense.artifacts import SCHEMA, damaged, read_json
from condense.config import UserError
from condense.files.headers import header_as
from condense.specs.common import at_least


@dataclass(frozen=True)
class Facts:
    """What a job cost. `seconds` and `peak_memory_bytes` may be unknown."""

    seconds: float | None = None
    peak_memory_bytes: int | None = None
    device: str = ""
    date: str = ""
    threads: int | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.seconds or 0) < 0:
            raise UserError(f"seconds: must not be negative, found {self.seconds}")
        at_least({"peak_memory_bytes": self.peak_memory_bytes, "threads": self.threads}, 0, 1 << 62)


@dataclass(frozen=True)
class Metrics:
    """Accuracies in percent, one a network; of snapshots one list a step."""

    task: Literal["condense", "snapshots", "drift"]
    accuracies: list[float] | list[list[float]]
    run: dict[str, Any] = field(default_factory=dict)
    steps: list[int] | None = None
    n_networks: int | None = None

    def __post_init__(self) -> None:
        nested = self.task == "snapshots"
        if not self.accuracies or any(isinstance(entry, list) != nested for entry in self.accuracies):
            raise UserError("accuracies: are not those of its task")
        rows: list[Any] = self.accuracies if nested else [self.accuracies]
        if not all(row and all(0 <= value <= 100 for value in row) for row in rows):
            raise UserError("accuracies: are no percentages")
        if self.n_networks is not None and any(len(row) != self.n_networks for row in rows):
            raise UserError(f"accuracies: are not one for each of {self.n_networks} networks")
        if nested and len(self.steps or ()) != len(rows):
            raise UserError("steps: are not one for each list of accuracies")


def read_facts(path: Path) -> dict[str, Any]:
    """The record of a run. Raises UserError if the file is absent, damaged, or holds something else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise damaged(path, "it holds no record of a run")
    header_as(Facts, value, path)
    return value


def read_metrics(path: Path, task: str | None = None) -> dict[str, Any]:
    """The metrics of an evaluation, of `task` if that is given.

    Raises UserError if the file is absent, damaged, of another schema or task, or if its numbers do not fit.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.get("kind") != "metrics" or not value.get("accuracies"):
        raise damaged(path, "it holds no accuracies")
    if value.get("schema") != SCHEMA:
        raise UserError(f"{path}: written with schema {value.get('schema')}; this version reads {SCHEMA}")
    if task is not None and value.get("task") != task:
        raise damaged(path, f"it is of task '{value.get('task')}' instead of '{task}'")
    known = header_as(Metrics, value, path)
    header_as(Facts, known.run, path)
    if "mean" in value:
        rows: list[Any] = known.accuracies if known.task == "snapshots" else [known.accuracies]
        means = value["mean"] if isinstance(value["mean"], list) else [value["mean"]]
        if len(means) != len(rows) or not all(_is_mean(mean, row) for mean, row in zip(means, rows, strict=True)):
            raise damaged(path, "its mean is not that of its accuracies")
    return value


def _is_mean(mean: Any, row: list[float]) -> bool:
    return isinstance(mean, (int, float)) and math.isclose(mean, sum(row) / len(row), rel_tol=1e-6, abs_tol=1e-6)
