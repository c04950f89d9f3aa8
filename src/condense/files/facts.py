"""Reading what a job says of its run, and the loss over the steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condense.files.artifacts import damaged, read_json, read_lines
from condense.files.headers import check_time, header_as
from condense.specs.common import at_least


@dataclass(frozen=True)
class Facts:
    """What a job cost and where it ran. `seconds` and `peak_memory_bytes` may be unknown.

    Of a job that made several results at once (`shared_by`) the seconds are an equal part, whatever each of
    them took, and the peak memory is that of all.
    """

    seconds: float | None = None
    peak_memory_bytes: int | None = None
    device: str = ""
    date: str = ""
    started: str = ""
    threads: int | None = None
    code_version: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    graphs: bool | None = None
    precision: str | dict[str, str] | None = None
    kernels: str | dict[str, str] | None = None
    jobs: int | None = None
    shared_by: int | None = None  # results that a job made at once, most where there were several jobs
    after: int | None = None  # jobs that its process did before, which the peak memory is of too
    starts: int | None = None  # of the job, where it went on from a checkpoint

    def __post_init__(self) -> None:
        check_time(self.seconds, {"date": self.date, "started": self.started})
        at_least({"peak_memory_bytes": self.peak_memory_bytes}, 0, 1 << 62)
        counts = {"jobs": self.jobs, "shared_by": self.shared_by, "threads": self.threads}
        at_least(counts | {"starts": self.starts, "after": self.after}, 1, 1 << 62)

    @property
    def own_peak_memory_bytes(self) -> int | None:
        """The peak memory, where it is that of this result alone."""
        return None if self.after or self.shared_by else self.peak_memory_bytes


def read_facts(path: Path) -> dict[str, Any]:
    """The record of a run. Raises UserError if the file is absent, damaged, or holds something else."""
    value = read_json(path)
    if not isinstance(value, dict) or "seconds" not in value:
        raise damaged(path, "it holds no record of a run")
    facts_of(value, path)
    return value


def facts_of(run: Any, path: Path) -> Facts:
    """The record of a run as it stands in `path`. Raises UserError for what does not fit."""
    if not isinstance(run, dict):
        raise damaged(path, "it holds no record of a run")
    return header_as(Facts, run, path, "its record of the run")


def read_history(path: Path) -> list[dict[str, float]]:
    """The rows of a set's history, by ascending step: the loss and the terms of its objective, equally named
    in every row.

    Raises UserError if the file is absent or damaged.
    """
    rows = read_lines(path)
    check_history(path, rows)
    return rows


def check_history(path: Path, rows: list[Any]) -> None:
    """Raises UserError for rows that are no history."""
    for row in rows:
        if (
            not isinstance(row, dict)
            or type(row.get("step")) is not int
            or any(type(value) not in (int, float) for value in row.values())
        ):
            raise damaged(path, "a row of its history holds no step and numbers")
        if row.keys() != rows[0].keys():
            raise damaged(path, "the rows of its history differ in what they hold")
    if not ascending([row["step"] for row in rows]):
        raise damaged(path, "the steps of its history do not ascend")


def ascending(steps: Any) -> bool:
    """Whether steps count up, from 0 on at the earliest."""
    return list(steps) == sorted(set(steps)) and (not steps or steps[0] >= 0)
