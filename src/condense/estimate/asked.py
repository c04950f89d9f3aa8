"""What a job asks a scheduler for: what it is estimated to take with a margin, within the scale's and the
cluster's limits.

The Snakefile imports this in every job of a cluster: no torch, and every job is reckoned once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from condense.estimate.rates import REFERENCE, REFERENCE_CPU, Rates, cost
from condense.estimate.work import (
    gather_work,
    group_work,
    join_work,
    steps_work,
    together_work,
    work_of,
)
from condense.plan import DataCell, MetricsCell, ParentCell, SyntheticCell
from condense.plan.ranges import Share
from condense.specs import Resources, Scale
from condense.specs.costs.work import Work

TIME_MARGIN = 3.0  # over the estimated time: other GPUs and shared file systems are slower than the reference
LEAST_MINUTES = 10  # of any job, for a slow start
MEMORY_MARGIN = 1.5  # over the estimated memory
LEAST_MB = 1000
# What is asked for is rounded up to multiples: few different values, and stable ones
_STEP_MB, _STEP_MINUTES = 500, 5


@dataclass(frozen=True)
class Limits:
    """The most that a job may ask for on this cluster: minutes and MB; None: what the scale says. `gpus`:
    whether there are any."""

    runtime: int | None = None
    mem_mb: int | None = None
    gpus: bool = True


@dataclass(frozen=True)
class Need:
    """What a job is estimated to take, without a margin, and whether it computes with a network."""

    seconds: float
    host_bytes: float
    gpu_bytes: float
    on_gpu: bool

    @property
    def minutes(self) -> int:
        """The run time to ask for in a first attempt."""
        return max(LEAST_MINUTES, _up(self.seconds * TIME_MARGIN / 60, _STEP_MINUTES))

    @property
    def mem_mb(self) -> int:
        """The memory to ask for in a first attempt."""
        return max(LEAST_MB, _up(self.host_bytes * MEMORY_MARGIN / 1e6, _STEP_MB))


def _up(value: float, step: int) -> int:
    return math.ceil(value / step) * step


class Asked:
    """What the jobs of a scale ask for.

    The scale's `resources` say the threads of a stage, whether it may have a GPU, and the most time and
    memory a job may ask for, which `limits` lower. Each attempt asks for as much again as the first.
    """

    def __init__(self, scale: Scale, limits: Limits = Limits()):  # noqa: B008 (frozen)
        self.scale, self.limits = scale, limits
        self._needs: dict[tuple[Any, ...], Need] = {}

    def data(self, cell: DataCell, attempt: int = 1) -> Resources:
        """A dataset is fetched and prepared. How long a download takes nobody knows: all the time that the
        scale gives."""
        need = self._once(("data", cell.key), lambda: self._need("data", work_of(cell)))
        return self._asked("data", replace(need, seconds=math.inf), attempt)

    def teach(self, cell: ParentCell, attempt: int = 1) -> Resources:
        """A classifier, or networks, are trained before the sets that need them."""
        return self._asked("teach", self.need("teach", cell), attempt)

    def synthesize(self, cells: Sequence[SyntheticCell], share: Share | int, attempt: int = 1) -> Resources:
        """A share of each set of a group is condensed or selected; a GPU only where a network computes
        something."""
        return self._asked("synthesize", self.need_of_group(cells, share), attempt)

    def gather(self, cell: SyntheticCell, attempt: int = 1) -> Resources:
        """A set is put together from its shards."""
        return self._asked(
            "report",
            self._once(("gather", cell.key), lambda: self._need("report", gather_work(cell))),
            attempt,
        )

    def steps(self, cell: SyntheticCell, attempt: int = 1) -> Resources:
        """All that a set is put together of is made by one job."""
        need = self._once(
            ("steps", cell.key),
            lambda: self._need("synthesize", steps_work(cell, self._may_have_gpu("synthesize"))),
        )
        return self._asked("synthesize", need, attempt)

    def evaluate(self, cell: MetricsCell, networks: int | None = None, attempt: int = 1) -> Resources:
        """So many networks (None: all) of an evaluation are trained and tested."""
        return self._asked("evaluate", self.need("evaluate", cell, networks), attempt)

    def evaluate_together(self, cells: Sequence[MetricsCell], attempt: int = 1) -> Resources:
        """Several short evaluations are made in one process."""
        return self._asked("evaluate", self.need_together(cells), attempt)

    def join(self, cell: MetricsCell, attempt: int = 1) -> Resources:
        """The parts of an evaluation become its metrics."""
        return self._asked(
            "report", self._once(("join", cell.key), lambda: self._need("report", join_work(cell))), attempt
        )

    def copy(self, attempt: int = 1) -> Resources:
        """A kept set or kept metrics are checked and copied."""
        return self._asked(
            "report", self._once(("copy",), lambda: self._need("report", Work(light=True))), attempt
        )

    def page(self, attempt: int = 1) -> Resources:
        """A table, a figure, the report, the summary or tracking: what the scale gives, since they read
        whatever there is."""
        return self._asked("report", Need(math.inf, math.inf, 0, False), attempt)

    def need(self, stage: str, cell: Any, count: int | None = None) -> Need:
        """What the job that makes `cell`, or so many networks of it, is estimated to take on the device that
        the scale gives it."""
        name = (stage, cell.task.folder if isinstance(cell, MetricsCell) else "", cell.key, count)
        return self._once(name, lambda: self._need(stage, work_of(cell, count, self._may_have_gpu(stage))))

    def need_of_group(self, cells: Sequence[SyntheticCell], share: Share | int | None) -> Need:
        """What the job that condenses a share (None: all) of sets which have the real side in common is
        estimated to take."""
        name = ("synthesize", str(share), *(cell.key for cell in cells))
        return self._once(
            name, lambda: self._need("synthesize", group_work(cells, share, self._may_have_gpu("synthesize")))
        )

    def need_together(self, cells: Sequence[MetricsCell]) -> Need:
        """What the job that makes several evaluations is estimated to take."""
        name = ("together", *(cell.path for cell in cells))
        return self._once(
            name,
            lambda: self._need("evaluate", together_work(cells, self._may_have_gpu("evaluate"))),
        )

    def most(self, stage: str) -> Resources:
        """The threads and GPUs of a stage, and the most that one of its jobs may ask for."""
        given = self.scale.resources.get(stage, Resources())
        times = [given.runtime, *([self.limits.runtime] if self.limits.runtime else [])]
        memory = [given.mem_mb, *([self.limits.mem_mb] if self.limits.mem_mb else [])]
        return replace(
            given, gpu=given.gpu if self.limits.gpus else 0, runtime=min(times), mem_mb=min(memory)
        )

    def _may_have_gpu(self, stage: str) -> bool:
        return self.limits.gpus and self.scale.resources.get(stage, Resources()).gpu > 0

    def _once(self, name: tuple[Any, ...], reckon: Any) -> Need:
        if name not in self._needs:
            self._needs[name] = reckon()
        return self._needs[name]

    def _need(self, stage: str, work: Work) -> Need:
        """On a GPU where the stage may have one and the job computes with a network, else on the reference
        CPU."""
        computes = work.flops_forward + work.flops_training + work.flops_moving > 0
        on_gpu = computes and self._may_have_gpu(stage)
        threads = self.scale.resources.get(stage, Resources()).threads
        rates = REFERENCE if on_gpu else on_cores(REFERENCE_CPU, threads)
        library = rates.light_memory if work.light else rates.memory
        held = work.host_bytes if on_gpu else work.peak_bytes + work.host_bytes
        return Need(cost(work, rates), held + library, work.peak_bytes if on_gpu else 0, on_gpu)

    def _asked(self, stage: str, need: Need, attempt: int) -> Resources:
        most = self.most(stage)
        runtime = most.runtime if math.isinf(need.seconds) else min(attempt * need.minutes, most.runtime)
        mem_mb = most.mem_mb if math.isinf(need.host_bytes) else min(attempt * need.mem_mb, most.mem_mb)
        return replace(most, gpu=most.gpu if need.on_gpu else 0, mem_mb=mem_mb, runtime=runtime)


def on_cores(rates: Rates, threads: int) -> Rates:
    """The rates of so many cores, from those of one: networks gain from each, single calls do not."""
    return replace(rates, forward=threads * rates.forward, training=threads * rates.training)
