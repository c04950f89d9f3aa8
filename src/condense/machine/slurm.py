"""The jobs that heads sent from a folder and that are still in SLURM's queue: which to follow, and how to
stop the others."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_FIELDS = "%i|%j|%Z|%k"  # number, name, folder, comment
# What a head calls all its jobs: a UUID, or PREFIX_UUID
_HEAD = re.compile(r"(\w[\w-]*_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

POLL = 5.0  # seconds between two questions while SLURM is silent
PATIENCE = 120  # seconds for one answer
REMINDER = 600.0  # seconds after which a silence is mentioned again
FORGOTTEN = 90.0  # seconds that a job was unknown to SLURM, though it answered, until it counts as ended


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
    return [
        Job(row[0], row[1], row[3])
        for row in rows
        if len(row) == 4 and row[2] == str(folder) and _HEAD.fullmatch(row[1])
    ]


def divided(jobs: Sequence[Job], wanted: Collection[str]) -> tuple[list[Job], list[Job]]:
    """Those that make what is `wanted` (comments), and the rest.

    What is followed has one head, that of most jobs, and one job a comment: that is how its executor asks for
    them. Tasks of arrays are in the rest, as their comment is that of the first task only; so are groups,
    whose jobs may be other ones now.
    """
    fit = [job for job in jobs if job.comment in wanted and "_" not in job.number]
    heads = [job.head for job in fit]
    most = max(heads, key=heads.count, default=None)
    followed = {job.comment: job for job in fit if job.head == most}
    return list(followed.values()), [job for job in jobs if job not in followed.values()]


def queue(folder: Path) -> list[Job]:
    """The jobs in the queue, waiting and running, that heads of this user sent from `folder`. Raises
    SlurmSilent."""
    return parsed(_answer("squeue", "--me", "--noheader", f"--format={_FIELDS}"), folder)


def stop(jobs: Collection[Job], folder: Path, seconds: float = 120, poll: float = 0.5) -> list[Job]:
    """Cancels `jobs` of `folder` and waits until they are gone; returns those that are still there after
    `seconds`.

    SLURM sends SIGTERM to all processes of a job, and SIGKILL after its KillWait (30 seconds if nobody
    changed it): `condense` leaves a checkpoint in between. Raises SlurmSilent.
    """
    if not jobs:
        return []
    _answer("scancel", *sorted({job.number.split("_")[0] for job in jobs}))
    end = time.monotonic() + seconds
    while (left := [job for job in queue(folder) if job in jobs]) and time.monotonic() < end:
        time.sleep(poll)
    return left


def answers() -> bool:
    """Whether the controller of SLURM answers."""
    try:
        _answer("squeue", "--me", "--noheader", "--format=%i")
    except SlurmSilent:
        return False
    return True


class Known(NamedTuple):
    """What SLURM knows of a job: its state (PENDING, RUNNING, ...) and why it waits."""

    state: str
    reason: str

    @property
    def held(self) -> bool:
        """Whether it waits until somebody lets it go (JobHeldUser, launch_failed_requeued_held, ...)."""
        return self.state in ("PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT") and "held" in self.reason.lower()


def known(head: str) -> dict[str, Known] | None:
    """Number -> what SLURM knows of the jobs of a head, ended ones included; None if it does not answer."""
    try:
        lines = _answer(
            "squeue", "--noheader", "--states=all", "--format=%i|%T|%r", f"--name={head}"
        ).splitlines()
    except SlurmSilent:
        return None
    rows = [line.split("|", 2) for line in lines]
    return {row[0]: Known(row[1], row[2]) for row in rows if len(row) == 3}


class Holds:
    """Which jobs SLURM holds until somebody lets them go, told once a job and reason: a head would wait for
    them without a word."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self.told: set[tuple[str, str]] = set()

    def look(self, numbers: Iterable[str], jobs: Mapping[str, Known]) -> None:
        """To be called with the jobs that a head waits for whenever SLURM has answered."""
        held = {(number, jobs[number].reason) for number in numbers if number in jobs and jobs[number].held}
        for number, reason in sorted(held - self.told):
            self.say(
                f"SLURM holds job {number} ({reason}) and does not start it; `scontrol release {number}` "
                "lets it go on"
            )
        self.told = held


class Silence:
    """How long SLURM has not answered, said at its begin, from time to time, and at its end."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self.say, self.clock = say, clock
        self.began: float | None = None
        self.told = 0.0

    def goes_on(self) -> None:
        """To be called whenever SLURM has not answered."""
        now = self.clock()
        if self.began is None:
            self.began = self.told = now
            self.say("SLURM does not answer; waiting until it does, nothing is lost")
        elif now - self.told >= REMINDER:
            self.told = now
            minutes = (now - self.began) / 60
            self.say(
                f"SLURM has not answered for {minutes:.0f} minutes; jobs that run go on. Wait, or stop this "
                "head with Ctrl-C: the same command follows its jobs once SLURM answers (`scontrol ping` "
                "tells)"
            )

    def ends(self) -> None:
        """To be called whenever SLURM has answered."""
        if self.began is not None:
            self.say(f"SLURM answers again after {self.clock() - self.began:.0f} s")
            self.began = None


class Absences:
    """Since when SLURM, though it answers, does not know of jobs that were sent to it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.since: dict[str, float] = {}

    def lost(self, numbers: Iterable[str], known: Collection[str]) -> set[str]:
        """Those of `numbers` that SLURM has not known for so long that it must have forgotten them.

        A task of an array that waits is listed with its array. Where SLURM keeps accounts, ended jobs are
        asked for there.
        """
        now, heads = self.clock(), {number.split("_")[0] for number in known}
        absent = {number for number in numbers if number not in known and number.split("_")[0] not in heads}
        self.since = {number: self.since.get(number, now) for number in absent}
        return {
            number for number in absent if now - self.since[number] >= FORGOTTEN and not _in_accounts(number)
        }


def _in_accounts(number: str) -> bool:
    """Whether accounting knows a job; False where there is none."""
    try:
        return bool(
            _answer("sacct", "--noheader", "--allocations", "--jobs", number, "--format=JobID").strip()
        )
    except SlurmSilent:
        return False


def _answer(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise SlurmSilent(f"`{command[0]}` did not answer within {PATIENCE} s") from None
    except FileNotFoundError:
        raise SlurmSilent(f"`{command[0]}` is not installed here") from None
    if done.returncode:
        raise SlurmSilent(f"`{command[0]}` failed: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout
