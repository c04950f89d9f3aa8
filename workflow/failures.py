"""What is told of jobs that failed: which, what Snakemake or SLURM says of them, and how their logs end."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

LAST_LINES = 12  # of the log of a failed job that are shown
LONGEST = 400  # characters of one of these lines


class FailedJobs(logging.Handler):
    """Prints of every failed job what it was, what Snakemake or SLURM says of it, and how its log ends,
    however quiet the rest is."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            failed = getattr(record, "job_error_info", None) or [record.__dict__]
            lines = [line for job in failed for line in told_of(job)]
            lines += told_of_logs(getattr(record, "aux_logs", None) or [])
            print("\n" + "\n".join(lines), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)

    def filter(self, record: logging.LogRecord) -> bool:
        return event(record) in ("JOB_ERROR", "GROUP_ERROR")


def told_of(job: dict[str, Any]) -> list[str]:
    """The lines on one failed job; `job` holds what Snakemake's log record says of it."""
    outputs = [_plain_path(path) for path in job.get("output") or []]
    logs = told_of_logs(job.get("log") or [])
    # Ended by a signal, it has said so with its last words
    stopped = bool(logs) and logs[-1].strip().startswith("condense: interrupted;")
    how = "STOPPED" if stopped else "FAILED"
    lines = [f"{how}: {job['rule_name']}, which makes {outputs[0] if outputs else 'no file'}"]
    number = (job.get("aux") or {}).get("external_jobid")
    message = str(job.get("rule_msg") or "").partition("For further error details")[0].strip()
    if message:
        lines += [f"  {line.strip()[:LONGEST]}" for line in message.splitlines() if line.strip()]
    elif number:
        lines.append(f"  job {number} of the cluster failed")
    return [*lines, *logs]


def told_of_logs(paths: list[Any]) -> list[str]:
    """How each log ends, with its path."""
    lines = []
    for path in map(_plain_path, paths):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            text = []
        ending = [line[:LONGEST] for line in text if line.strip()][-LAST_LINES:]
        lines.append(f"  log: {path}" + ("" if ending else " (nothing in it)"))
        lines += [f"    {line}" for line in ending]
    return lines


def _plain_path(path: object) -> str:
    """A path without the notes that Snakemake adds, such as ' (update)'."""
    return str(path).partition(" (")[0]


def event(record: logging.LogRecord) -> str:
    """Which of Snakemake's events a record tells of, in its own name."""
    return getattr(getattr(record, "event", None), "name", "")
