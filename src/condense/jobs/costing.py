"""The job that measures what a condensation costs: the first iterations of a recipe, timed one by one.

A time is a measurement of one machine: it decides no key, and nothing is compared with it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from condense.config import UserError, unknown
from condense.files.artifacts import write_json
from condense.files.checkpoints import Checkpoint
from condense.jobs.condensing import ShardJob, check_shard
from condense.jobs.machine import Machine, at_work
from condense.specs import Protocol, Task
from condense.specs.tasks.cost import Cost

GB = 1e9
_UNITS = {unit: 2.0 ** (10 * power) for power, unit in enumerate(["", *"KMGTPE"])}
# What torch says of memory that it was not given, on GPUs and on CPUs, and what NumPy says
_TRIED = re.compile(r"(?:tried|unable) to allocate (\d[\d.]*) ?([KMGTPE]?)i?B", re.IGNORECASE)


@dataclass(frozen=True)
class RecipeJob:
    """What a task measures of the recipe of `shard`; protocol and strategy stand in its metrics."""

    task: Task
    shard: ShardJob
    protocol: Protocol
    strategy: str


class Enough(Exception):
    """All iterations that are measured are done."""


class Stopwatch(Checkpoint):
    """In place of the checkpoint of a run, which is asked after every step whether one is due: notes the
    time, and ends the run after so many steps behind the first `warmup`."""

    def __init__(self, warmup: int, iterations: int, device: Any):
        super().__init__(None, "")
        self.warmup, self.iterations, self.device = warmup, iterations, device
        self.times: list[float] = []

    def due(self) -> bool:
        """Never; raises Enough once all that is measured was done."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)
        self.times.append(time.perf_counter())
        if len(self.times) >= self.warmup + self.iterations:
            raise Enough
        return False

    @property
    def measured(self) -> list[float]:
        """The seconds of each measured iteration."""
        return [after - before for before, after in pairwise(self.times[self.warmup - 1 :])]


def measure_cost(out: Path, task: Cost, job: RecipeJob, machine: Machine) -> None:
    """Runs the iterations and writes their metrics to `out`: the median of their seconds and the peak memory,
    with every number and the name of the device; or, where the memory does not suffice, what was needed.

    Raises UserError for a recipe that takes no iterations, or fewer than are measured, and for what a
    condensation of it raises.
    """
    from condense.data.dataset import load
    from condense.engines import engine
    from condense.engines.orders import Order, Site

    shard, recipe = job.shard, job.shard.recipe
    if not recipe.condenses:
        raise UserError(f"--task cost: '{recipe.name}' takes no iterations; give a recipe that condenses")
    if recipe.number_of_steps <= task.warmup + task.iterations:
        raise UserError(
            f"--task cost: {task.warmup} + {task.iterations} iterations are asked for, and '{recipe.name}' "
            f"has {recipe.number_of_steps}: lower `warmup` and `iterations` of the task"
        )
    check_shard(shard, shard)
    with at_work(machine, out) as (device, clock):
        images = load(shard.data)
        site = Site(images, tuple(images.classes), shard.arch, shard.options, shard.seed, device)
        watch = Stopwatch(task.warmup, task.iterations, device)
        short = None
        try:
            engine(recipe.engine)(site, [Order(recipe, shard.ipc, shard.parents, watch)])
        except Enough:
            pass
        except (MemoryError, RuntimeError) as error:
            short = asked_in_vain(error)
        run = clock.facts()
        write_json(out, _description(job, images) | _outcome(task, watch, short, run) | {"run": run})


def asked_in_vain(error: BaseException) -> int:
    """The bytes that an error says there were not, 0 where it does not say how many. Raises `error` anew if
    it is about something else than memory."""
    import torch

    said = _TRIED.search(str(error))
    if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not said:
        raise error
    return int(float(said[1]) * _UNITS[said[2].upper()]) if said else 0


def _outcome(task: Cost, watch: Stopwatch, short: int | None, run: dict[str, Any]) -> dict[str, Any]:
    """The metrics and every measured number; or the memory that was in use and was asked for in vain."""
    about = {**task.settings, "device": run["device"]}
    if short is not None:
        return {task.folder: about, "out_of_memory": run["peak_memory_bytes"] + short}
    values = {"speed": median(watch.measured), "peak_memory": run["peak_memory_bytes"] / GB}
    metrics = {
        name: {"values": [value], "mean": value, "std": 0.0, "unit": task.metrics[name].unit}
        for name, value in values.items()
    }
    return {"metrics": metrics, task.folder: about | {"seconds": watch.measured}}


def _description(job: RecipeJob, images: Any) -> dict[str, Any]:
    shard = job.shard
    return {
        "schema": 1,
        "kind": "metrics",
        "task": job.task.folder,
        "dataset": images.dataset,
        "method": shard.recipe.name,
        "arch": shard.arch,
        "ipc": shard.ipc,
        "seed": shard.seed,
        "key": shard.key,
        "eval_arch": shard.arch,
        "options": shard.options,
        "protocol": job.protocol.told(),
        "strategy": job.strategy,
        "n_networks": 1,
        "data_sha256": images.data_sha256,
    }


Kind = TypeVar("Kind", bound=Task)
Measure = Callable[[Path, RecipeJob, Machine], None]


def _of_tasks(kind: type[Kind], measured: Callable[[Path, Kind, RecipeJob, Machine], None]) -> Measure:
    """A function of any job, made from one of tasks of the class `kind`; others are a TypeError."""

    def run(out: Path, job: RecipeJob, machine: Machine) -> None:
        if not isinstance(job.task, kind):
            raise TypeError(f"a task of the class {kind.__name__} is needed, found {type(job.task).__name__}")
        measured(out, job.task, job, machine)

    return run


# By the kind of a task that reads a recipe, what measures it
MEASURES: dict[str, Measure] = {"cost": _of_tasks(Cost, measure_cost)}


def recipe_measure(kind: str) -> Measure:
    """What measures recipes for the tasks of a kind. Raises UserError for a kind that reads none."""
    if kind not in MEASURES:
        raise unknown("task", kind, MEASURES)
    return MEASURES[kind]
