"""When the jobs of this folder ran, and the hours that they took, from Snakemake's benchmark files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense.files import number_in, read_rows
from condense.report import style

_MOST_GAP = 3600.0  # seconds without a job after which a new stretch of work begins


@dataclass(frozen=True)
class Ran:
    """A job: its stage, when it began and ended (seconds since the epoch), and the seconds that processors
    worked for it."""

    stage: str
    began: float
    ended: float
    worked: float


def jobs(folder: Path) -> list[Ran]:
    """The jobs that left a benchmark file `{folder}/{stage}/**/*.tsv`, by their begin; a file is written when
    its job ends."""
    found = []
    for path in sorted(folder.glob("*/**/*.tsv")):
        ended = path.stat().st_mtime
        for row in read_rows(path, ("s", "cpu_time"), delimiter="\t"):
            took = number_in(path, row, "s", 0, 1e10)
            known = row["cpu_time"] not in ("-", "NA", "")
            worked = number_in(path, row, "cpu_time", 0, 1e12) if known else took
            found.append(Ran(path.relative_to(folder).parts[0], ended - took, ended, worked))
    return sorted(found, key=lambda job: job.began)


def hours(ran: list[Ran]) -> list[tuple[str, int, float, float]]:
    """By stage: how many jobs, the hours that processors worked, and the hours from begin to end of each, all
    added up."""
    return [
        (
            stage,
            len(of),
            sum(job.worked for job in of) / 3600,
            sum(job.ended - job.began for job in of) / 3600,
        )
        for stage in dict.fromkeys(job.stage for job in ran)
        if (of := [job for job in ran if job.stage == stage])
    ]


def stretches(ran: list[Ran]) -> list[list[Ran]]:
    """The jobs in stretches of work: where nothing ran for an hour, another begins."""
    found: list[list[Ran]] = []
    end = 0.0
    for job in ran:
        if not found or job.began > end + _MOST_GAP:
            found.append([])
        found[-1].append(job)
        end = max(end, job.ended)
    return found


def drawn(ran: list[Ran]) -> bytes | None:
    """The last stretch of work as SVG: a bar for each job, by stage; None if no job was recorded."""
    if not ran:
        return None
    last = stretches(ran)[-1]
    start = min(job.began for job in last)
    names = list(dict.fromkeys(job.stage for job in last))
    with style.style() as plt:
        picture, axis = plt.subplots(figsize=(8.6, 0.9 + 0.45 * len(names)))
        for place, name in enumerate(names):
            _bars(axis, place, [job for job in last if job.stage == name], start)
        axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        axis.set_xlabel("minutes since the first job")
        axis.set_xlim(left=0)
        return style.svg_bytes(picture)


def _bars(axis: Any, place: int, jobs: list[Ran], start: float) -> None:
    """The jobs of a stage in one row, those that ran side by side one below the other."""
    lanes: list[float] = []
    placed = []
    for job in jobs:
        lane = next((number for number, end in enumerate(lanes) if end <= job.began), len(lanes))
        lanes[lane:] = [job.ended, *lanes[lane + 1 :]]
        placed.append((lane, job))
    height = 0.8 / len(lanes)
    for lane, job in placed:
        left, width = (job.began - start) / 60, (job.ended - job.began) / 60
        at = place - 0.4 + (lane + 0.5) * height
        axis.barh(at, width, height * 0.9, left=left, color=style.REAL, edgecolor="white", linewidth=0.3)
