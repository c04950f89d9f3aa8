"""The jobs that heads sent from a folder and that are still in SLURM's queue: which to follow, and how to stop the others."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

_FIELDS = "%i|%j|%Z|%k"  # number, name, folder, comment
_HEAD = re.compile(r"(\w[\w-]*_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # what a head calls all its jobs: a UUID, or PREFIX_UUID


class SlurmSilent(Exception):
    """A command of SLURM failed."""


class Job(NamedTuple):
    """A job in the queue; a task of an array is called ARRAY_TASK, and tasks that wait ARRAY_[FIRST-LAST]."""

    number: str
    head: str
    comment: str


def comment(rule: str, wildcards: Iterable[str]) -> str:
    """How a head marks the job of one rule, as the executor of Snakemake does."""
    values = "_".join(wildcards).replace("/", "_")
    return f"rule_{rule}_wildcards_{values}" if values else f"rule_{rule}"


def parsed(lines: str, folder: Path) -> list[Job]:
    """The jobs of heads of `folder` among the lines of `squeue --format '%i|%j|%Z|%k'`."""
    rows = [line.split("|", 3) for line in lines.splitlines()]
    return [Job(row[0], row[1], row[3]) for row in rows if len(row) == 4 and row[2] == str(folder) and _HEAD.fullmatch(row[1])]


def divided(jobs: Sequence[Job], wanted: Collection[str]) -> tuple[list[Job], list[Job]]:
    """Those that make what is `wanted` (comments), and the rest.

    What is followed has one head, that of most jobs, and one job a comment: that is how its executor asks for them. Tasks of
    arrays are in the rest, as their comment is that of the first task only; so are groups, whose jobs may be other ones now.
    """
    fit = [job for job in jobs if job.comment in wanted and "_" not in job.number]
    heads = [job.head for job in fit]
    most = max(heads, key=heads.count, default=None)
    followed = {job.comment: job for job in fit if job.head == most}
    return list(followed.values()), [job for job in jobs if job not in followed.values()]


def queue(folder: Path) -> list[Job]:
    """The jobs in the queue, waiting and running, that heads of this user sent from `folder`. Raises SlurmSilent."""
    return parsed(_answer("squeue", "--me", "--noheader", f"--format={_FIELDS}"), folder)


def stop(jobs: Collection[Job], folder: Path, seconds: float = 120, poll: float = 0.5) -> list[Job]:
    """Cancels `jobs` of `folder` and waits until they are gone; returns those that are still there after `seconds`.

    SLURM sends SIGTERM to all processes of a job, and SIGKILL after its KillWait (30 seconds if nobody changed it): `condense`
    leaves a checkpoint in between. Raises SlurmSilent.
    """
    if not jobs:
        return []
    _answer("scancel", *sorted({job.number.split("_")[0] for job in jobs}))
    end = time.monotonic() + seconds
    while (left := [job for job in queue(folder) if job in jobs]) and time.monotonic() < end:
        time.sleep(poll)
    return left


def _answer(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SlurmSilent(f"`{command[0]}` failed: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout
