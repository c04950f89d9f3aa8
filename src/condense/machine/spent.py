"""How long the job of this process has taken, over all its starts: what was done before a stop counts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Spent:
    """The seconds of a job, when it was first started (UTC), and how many times it was started.

    A checkpoint notes `told` with everything else, and the job that goes on from it adds it by `go_on`. What
    lay between the last checkpoint and a kill is done anew and counted once.
    """

    def __init__(self) -> None:
        self._began, self._started = time.monotonic(), datetime.now(UTC).isoformat(timespec="milliseconds")
        self._before: tuple[float, int] = (0.0, 0)  # seconds and starts before this one
        self._written: set[Path] = set()  # checkpoints of this start

    @property
    def seconds(self) -> float:
        """Of all starts, until now."""
        return self._before[0] + time.monotonic() - self._began

    @property
    def started(self) -> str:
        """When the job was first started, as ISO 8601 has it."""
        return self._started

    @property
    def starts(self) -> int:
        """How many times the job was started."""
        return self._before[1] + 1

    def told(self, path: Path) -> dict[str, Any]:
        """What a checkpoint at `path` notes."""
        self._written.add(path)
        return {"seconds": round(self.seconds, 3), "started": self.started, "starts": self.starts}

    def go_on(self, path: Path, told: Mapping[str, Any]) -> None:
        """Adds what the checkpoint at `path` notes of earlier starts.

        A job may have several checkpoints, one in another: the last of them knows of all. One that this start
        wrote itself, or that notes nothing, adds nothing.
        """
        before = (float(told.get("seconds", 0)), int(told.get("starts", 0)))
        if path not in self._written and before > self._before:
            self._before, self._started = before, told.get("started", self._started)


class _Job:
    """The job at work in this process."""

    spent = Spent()


def begin() -> Spent:
    """A job begins in this process."""
    _Job.spent = Spent()
    return _Job.spent


def of_job() -> Spent:
    """What the job at work in this process has taken."""
    return _Job.spent
