"""What jobs cost before any of them starts: their number, compute time, memory and disk, from rates measured
on this machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense import specs
from condense.estimate.advice import advice
from condense.estimate.jobs import Job, data_of, jobs_behind, named, why_nothing_runs
from condense.estimate.rates import REFERENCE, REFERENCE_NAME, Rates, cost
from condense.estimate.work import gather_work, work_of
from condense.machine import runtime
from condense.machine.terminal import in_bytes, several
from condense.plan import DataCell, MetricsCell, ParentCell, SyntheticCell
from condense.plan.checks import require_networks
from condense.plan.tables import Plan
from condense.specs import catalogue

STAGES = ("data", "teach", "synthesize", "gather", "evaluate", "join", "tables/figures")


@dataclass(frozen=True)
class Stage:
    """The jobs of one stage: how many, how many of them are made already, and what the others cost in seconds
    and bytes."""

    name: str
    jobs: int
    done: int
    seconds: float = 0.0
    longest: float = 0.0
    reference_seconds: float = 0.0
    reference_longest: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True)
class Estimate:
    """What is to be done and what it costs. `asked_gpu`: the jobs ask for a GPU; `on_gpu`: the rates are
    those of one."""

    stages: tuple[Stage, ...]
    threads: int
    asked_gpu: bool
    on_gpu: bool
    source: str  # of the rates

    @property
    def seconds(self) -> float:
        """Of all jobs that are to be done, one after the other."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        """Of the largest job; on a GPU that of the GPU."""
        return max(stage.memory_bytes for stage in self.stages)

    @property
    def elsewhere(self) -> bool:
        """Whether a GPU is asked for and this machine has none."""
        return self.asked_gpu and not self.on_gpu

    @property
    def disk_bytes(self) -> int:
        return sum(stage.disk_bytes for stage in self.stages)

    def text(self) -> str:
        """A table of the stages, the totals, and what the numbers rest on."""
        lines = [
            f"{'stage':<16}{'jobs':>6}{'done':>6}{'to do':>7}"
            f"{'time':>12}{'longest job':>13}{'memory':>10}{'disk':>10}"
        ]
        for stage in self.stages:
            if stage.jobs:
                left = stage.jobs - stage.done
                times = (
                    (stage.reference_seconds, stage.reference_longest)
                    if self.elsewhere
                    else (stage.seconds, stage.longest)
                )
                shown = [*map(_duration, times), in_bytes(stage.memory_bytes), in_bytes(stage.disk_bytes)]
                shown = shown if left else ["-"] * 4
                counts = f"{stage.jobs:>6}{stage.done:>6}{left:>7}"
                lines.append(
                    f"{stage.name:<16}{counts}{shown[0]:>12}{shown[1]:>13}{shown[2]:>10}{shown[3]:>10}"
                )
        jobs, done = sum(stage.jobs for stage in self.stages), sum(stage.done for stage in self.stages)
        lines.append(f"in all {jobs} jobs: {done} done, {jobs - done} to do")
        lines += self._compute()
        where = "GPU memory" if self.asked_gpu else "memory"
        lines.append(
            f"largest {where} of one job {in_bytes(self.memory_bytes)}; disk for results "
            f"{in_bytes(self.disk_bytes)}"
        )
        lines.append(f"rates: {self.source}; downloading and preparing data are not counted")
        return "\n".join(lines)

    def _compute(self) -> list[str]:
        if self.on_gpu:
            return [f"compute: {self.seconds / 3600:.2f} GPU-hours"]
        cores = len(os.sched_getaffinity(0))
        together = max(1, cores // self.threads)
        used = f"{self.seconds * self.threads / 3600:,.2f} core-hours"
        lines = [
            f"compute: {used}, about {_duration(self.seconds / together)} on the {cores} cores of this "
            "machine if it is idle"
        ]
        if not self.elsewhere:
            return lines
        reference = sum(stage.reference_seconds for stage in self.stages)
        assumed = f"not measured here: fp32 at {REFERENCE.forward / 1e12:.0f} TFLOP/s assumed"
        return [
            f"a GPU is asked for and this machine has none: the times above are for one {REFERENCE_NAME}",
            f"on one {REFERENCE_NAME} ({assumed}): about {reference / 3600:,.1f} GPU-hours, "
            f"{_duration(reference)}; on ten of them {_duration(reference / 10)}",
            f"on this machine's CPU instead, at its measured rate: {lines[0].removeprefix('compute: ')}",
        ]


def _duration(seconds: float) -> str:
    for unit, size in (("years", 365 * 86400), ("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def estimate_cells(
    parents: Iterable[ParentCell],
    synthetic: Iterable[SyntheticCell],
    metrics: Iterable[MetricsCell],
    *,
    threads: int | None,
    gpu: bool,
    made: Callable[[Any], bool] = lambda cell: False,
) -> Estimate:
    """What it costs to make these cells and their data, those that are `made` left out; every set in one
    shard.

    `threads` CPU threads a job (None: all cores). `gpu`: on a GPU if there is one, else on this CPU, and also
    for `REFERENCE`. Measures the rates of this machine if they are not known yet, which takes seconds.
    """
    cells = [*parents, *synthetic, *metrics]
    datasets = {data.key: data for data in map(data_of, cells)}
    on_gpu = gpu and gpu_here()
    jobs = [Job("data", data, work_of(data), made(data)) for data in datasets.values()]
    jobs += [Job("teach", cell, work_of(cell), made(cell)) for cell in cells if isinstance(cell, ParentCell)]
    for cell in cells:
        if isinstance(cell, SyntheticCell):
            jobs += [
                Job("synthesize", cell, work_of(cell, on_gpu=on_gpu), made(cell)),
                Job("gather", cell, gather_work(cell), made(cell)),
            ]
    judged = [cell for cell in cells if isinstance(cell, MetricsCell)]
    jobs += [Job("evaluate", cell, work_of(cell), made(cell)) for cell in judged]
    return _estimate(jobs, threads, gpu)


def gpu_here() -> bool:
    """Whether torch finds a GPU in this machine."""
    import torch

    return torch.cuda.is_available()


def rates_for(*args: Any) -> tuple[Rates, str]:
    """See `measuring.rates_for`, which loads torch."""
    from condense.estimate import measuring

    return measuring.rates_for(*args)


def _network_of(cell: Any) -> tuple[str, str]:
    return (cell.eval_arch if isinstance(cell, MetricsCell) else cell.arch), cell.options


def _estimate(jobs: Sequence[Job], threads: int | None, gpu: bool) -> Estimate:
    threads = runtime.set_threads(threads and min(threads, runtime.cores()))
    return _by_rates(jobs, threads, gpu, *_all_rates(jobs, threads, gpu and gpu_here()))


def _by_rates(
    jobs: Sequence[Job], threads: int, gpu: bool, rates: Mapping[str, Rates], source: str
) -> Estimate:
    """What the jobs cost by `rates` by the key of their data, which come from `source`."""
    on_gpu = gpu and gpu_here()
    stages = []
    for name in STAGES:
        of_stage = [job for job in jobs if job.stage == name]
        left = [job for job in of_stage if not job.done]
        # Jobs that only read results start as others do, whatever data they are about.
        taken = [
            (job.work, rates[data_of(job.cell).key] if job.cell else next(iter(rates.values())))
            for job in left
        ]
        seconds = [cost(work, rate) for work, rate in taken]
        peaks = [
            work.peak_bytes + (0 if gpu else rate.light_memory if work.light else rate.memory)
            for work, rate in taken
        ]
        elsewhere = [cost(work, REFERENCE) for work, _ in taken]
        stage = Stage(
            name,
            len(of_stage),
            len(of_stage) - len(left),
            seconds=sum(seconds),
            longest=max(seconds, default=0.0),
            memory_bytes=max(peaks, default=0),
            reference_seconds=sum(elsewhere),
            reference_longest=max(elsewhere, default=0.0),
            disk_bytes=sum(work.bytes_out for work, _ in taken),
        )
        stages.append(stage)
    return Estimate(tuple(stages), threads, gpu, on_gpu, source)


def _all_rates(jobs: Sequence[Job], threads: int, on_gpu: bool) -> tuple[dict[str, Rates], str]:
    """Rates by data key, for the data of all jobs that are to be done, measured with the network that most of
    its jobs use."""
    left = [job for job in jobs if not job.done]
    networks: dict[str, Counter[tuple[str, str]]] = {}
    for job in [job for job in left if job.cell] or (jobs if left else []):
        if job.cell:
            uses = networks.setdefault(data_of(job.cell).key, Counter({("mlp", "{}"): 0}))
            if not isinstance(job.cell, DataCell) and _network_of(job.cell)[0] != "none":
                uses[_network_of(job.cell)] += 1
    datasets = {data_of(job.cell).key: data_of(job.cell) for job in jobs if job.cell}
    rates: dict[str, Rates] = {}
    sources: dict[str, None] = {}  # in the order in which they were found
    with runtime.device("cuda" if on_gpu else "cpu") as device:
        for key, uses in networks.items():
            arch, options = uses.most_common(1)[0][0]
            rates[key], source = rates_for(datasets[key], arch, options, threads, device, _rates_file())
            sources |= dict.fromkeys(source.split("; "))
    return rates, "; ".join(sources) or "none needed"


def _rates_file() -> Path | None:
    """Where rates are kept: among the results of the checkout, else in the user's cache; None where neither
    may be written."""
    project = catalogue.params_folder().absolute().parent
    folders = [project / "results" / "benchmarks"] if (project / "Snakefile").is_file() else []
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(cache):  # not where there is no home
        folders.append(Path(cache) / "condense")
    for folder in folders:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if os.access(existing, os.W_OK):
            return folder / "rates.json"
    return None


def estimate_text(target: str | None, scale: str) -> str:
    """What `target` costs at `scale`: a table or figure by name or file, the metrics file of one cell, or
    None for everything.

    A job counts as done if its output exists, or if all that it is for exists. Raises UserError for an
    unknown target.
    """
    plan = Plan(scale)
    names, metrics = named(plan, target)
    require_networks(plan, names)
    resources = [
        plan.scale.resources.get(stage, specs.Resources()) for stage in ("teach", "synthesize", "evaluate")
    ]
    gpu = gpu_here() or any(entry.gpu for entry in resources)
    jobs = list(jobs_behind(plan, names, metrics, whole=target is None, on_gpu=gpu))
    if not any(job.cell for job in jobs):
        return (
            f"scale {scale} ({plan.scale.title}): {target or 'everything'}\n{why_nothing_runs(plan, names)}"
        )
    threads = runtime.set_threads(min(max(entry.threads for entry in resources), runtime.cores()))
    rates, source = _all_rates(jobs, threads, gpu and gpu_here())
    text = f"scale {scale} ({plan.scale.title}): {target or 'everything'}"
    text += f"\n{_by_rates(jobs, threads, gpu, rates, source).text()}"
    if target is not None:
        return text
    # The parts in the hours of the sum above them, where this machine's rates gave it
    used = [data_of(job.cell) for job in jobs if job.cell and not job.done]
    called = {data.key: data.name for data in used}
    measured = [key for key, _ in Counter(data.key for data in used).most_common() if key in rates]
    here = rates[measured[0]] if measured else None
    device = f"{several(threads, 'core')} of this machine"
    if len(measured) > 1:  # each has rates of its own, and the parts are in those of one
        device += f" by the rates of {called[measured[0]]}"
    return "\n".join([text, *(advice(plan) if gpu or here is None else advice(plan, here, device))])
