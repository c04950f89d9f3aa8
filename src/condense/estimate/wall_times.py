"""The sections of the page of a scale on wall time: what GPUs do to it, and where the scheduler limits it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from condense import specs
from condense.estimate.cluster import cluster
from condense.estimate.schedule import GPU_STAGES, Node, remaining, wall_seconds
from condense.estimate.sums import Sums, in_classes, in_hours, table_head
from condense.plan.tables import Plan

GPUS = (1, 10, 100)
CLASSES = (1, 10, None)
SHORT = 300.0  # seconds; a job that is shorter costs a scheduler about as much as it does


def wall_times(
    plan: Plan, graphs: dict[int | None, list[Node]], walls: dict[tuple[int | None, int], float]
) -> str:
    """The section on wall time: what each split of the classes takes on each number of GPUs, and what limits
    it."""
    lines, notes = [], []
    for classes in CLASSES:
        nodes = graphs[classes]
        path = max(remaining(nodes).values())
        times = " | ".join(in_hours(walls[classes, gpus]) for gpus in GPUS)
        lines.append(
            f"| {in_classes(classes)} | {len(nodes):,} | {Sums(nodes).hours():,.0f} | {in_hours(path)} | "
            f"{times} |"
        )
        notes += _over_the_limit(plan, classes, nodes)
    text = (
        "## Wall time\n\nList scheduling of all jobs, those with the longest path behind them first,"
        f" {cluster().per_minute:g} jobs a minute handed to the scheduler. No number of GPUs is faster than "
        f"the critical path.\n\n"
        + table_head(
            "classes a job|jobs|GPU-hours|critical path|"
            + "|".join(f"{gpus} GPU{'s' * (gpus > 1)}" for gpus in GPUS)
        )
        + "\n".join(lines)
    )
    limits = [f"- {gpus} GPU{'s' * (gpus > 1)}: {_binding(graphs, walls, gpus)}" for gpus in GPUS]
    return (
        text
        + "\n\nWhat sets the time, with the best split for each number of GPUs:\n\n"
        + "\n".join([*limits, *notes])
    )


def _bounds(nodes: Sequence[Node], gpus: int) -> dict[str, float]:
    """What no schedule can beat, in seconds."""
    return {
        "the GPUs": Sums(nodes).hours() * 3600 / gpus,
        "the critical path, whose longest job is one evaluation or one shard": max(remaining(nodes).values()),
        "the rate at which jobs are handed to the scheduler": len(nodes) * 60 / cluster().per_minute,
    }


def _binding(
    graphs: dict[int | None, list[Node]], walls: dict[tuple[int | None, int], float], gpus: int
) -> str:
    best = min(CLASSES, key=lambda classes: walls[classes, gpus])
    bounds = _bounds(graphs[best], gpus)
    limit = max(bounds, key=bounds.__getitem__)
    return (
        f"{in_hours(walls[best, gpus])} with {in_classes(best)} a job; the limit is {limit} "
        f"({in_hours(bounds[limit])})"
    )


def _over_the_limit(plan: Plan, classes: int | None, nodes: Sequence[Node]) -> list[str]:
    """Stages whose longest job exceeds the run time that the scale asks for, and whether more attempts
    suffice."""
    lines = []
    for stage in GPU_STAGES:
        allowed = plan.scale.resources.get(stage, specs.Resources()).runtime * 60
        over = [node for node in nodes if node.stage == stage and node.seconds > allowed]
        if over:
            longest = max(node.seconds for node in over)
            attempts = math.ceil(longest / allowed)
            lines.append(
                f"- With {in_classes(classes)} a job, {len(over):,} of the jobs of stage {stage} exceed the "
                f"{in_hours(allowed)} that the scale lets a job ask for (the longest takes "
                f"{in_hours(longest)}). They go on from their checkpoints: the longest needs {attempts} "
                f"attempts, the profile of SLURM allows {cluster().attempts}."
            )
    return lines


def scheduler(graphs: dict[int | None, list[Node]], walls: dict[tuple[int | None, int], float]) -> str:
    """The section on what the scheduler has to hand over."""
    lines = []
    for classes in CLASSES:
        nodes = graphs[classes]
        short = sum(node.seconds < SHORT for node in nodes)
        times = [
            len(nodes) / cluster().per_minute * 60,
            walls[classes, GPUS[-1]],
            wall_seconds(nodes, GPUS[-1]),
        ]
        shown = " | ".join(map(in_hours, times))
        lines.append(f"| {in_classes(classes)} | {len(nodes):,} | {short / len(nodes):.0%} | {shown} |")
    busy = {classes: len(nodes) / cluster().per_minute * 60 for classes, nodes in graphs.items()}
    points = [
        f"- With {in_classes(classes)} a job, more than "
        f"{Sums(graphs[classes]).hours() * 3600 / busy[classes]:,.0f} GPUs wait for jobs to be handed over: "
        "the rate, not the GPUs, is the limit beyond that."
        for classes in CLASSES
    ]
    return (
        f"## The scheduler\n\nEach job is one SLURM job; {cluster().per_minute:g} a minute are handed over "
        f"at most"
        " (`max-jobs-per-timespan` in `workflow/profiles/slurm/config.yaml`).\n\n"
        + table_head(
            f"classes a job|SLURM jobs|under {SHORT / 60:.0f} min|to hand all over|wall time on {GPUS[-1]} "
            "GPUs|the same, handed over at once"
        )
        + "\n".join(lines)
        + "\n\n"
        + "\n".join(points)
    )
