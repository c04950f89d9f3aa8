"""Where a job runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Where a job runs: '--device' and '--threads'."""

    device: str = "auto"
    threads: int | None = None
