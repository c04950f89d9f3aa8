"""`docs/scale.md`: what every table costs at a scale, what GPUs do to the wall time, and where storage and
scheduler become the limit."""

from __future__ import annotations

from collections.abc import Sequence

from condense import specs
from condense.config import UserError
from condense.estimate.cluster import cluster
from condense.estimate.measured import Measured, Pace, measured_rows
from condense.estimate.rates import REFERENCE, REFERENCE_NAME
from condense.estimate.schedule import GPU_STAGES, Node, graph, sharing, wall_seconds
from condense.estimate.sums import Sums, in_classes, in_hours, table_head
from condense.estimate.wall_times import CLASSES, GPUS, scheduler, wall_times
from condense.plan.tables import Plan

GPU_SIZES = (24, 40, 80)  # GB


def scale_page(name: str, rows: Sequence[Measured] | None = None) -> str:
    """The page of the scale `name`, from its graph of jobs and the rates of the reference device. Raises
    UserError for an unknown scale.

    Depends on files in `params/` alone, and not on this machine, but for the weights of CLIP, without which
    its rows stay empty.
    """
    plan, rows = Plan(name), measured_rows() if rows is None else rows
    if not [*plan.tables, *plan.figures]:
        raise UserError(f"scale {name}: makes no table or figure")
    pace = Pace(plan.maker, rows)
    names, split = [*plan.tables, *plan.figures], plan.scale.classes_per_job
    graphs = {classes: graph(plan, names, classes, pace) for classes in dict.fromkeys([*CLASSES, split])}
    shared = sharing(plan, split)
    alone = {target: graph(plan, [target], split, pace, shared) for target in names}
    walls = {
        (classes, gpus): wall_seconds(graphs[classes], gpus, cluster().per_minute)
        for classes in CLASSES
        for gpus in GPUS
    }
    parts = [
        _head(name, rows),
        _tables(alone, Sums(graphs[split]), split, plan.scale.sets_per_job),
        wall_times(plan, graphs, walls),
    ]
    parts.append(_needs(plan, split, graphs[split]))
    parts.append(_storage(Sums(graphs[split]), wall_seconds(graphs[split], GPUS[-1], cluster().per_minute)))
    return "\n\n".join([*parts, scheduler(graphs, walls)]) + "\n"


def _head(name: str, rows: Sequence[Measured]) -> str:
    assumed = (
        f"{REFERENCE.forward / 1e12:.0f} TFLOP/s in fp32, {REFERENCE.call * 1e6:.0f} µs a layer without a "
        "gradient"
    )
    assumed += f" and {REFERENCE.call_training * 1e6:.0f} µs with one, {REFERENCE.start:.0f} s to start a job"
    assumed += "; a call of a layer serves all networks that are trained at once"
    basis = f"Assumed rates of one {REFERENCE_NAME}, **not measured here**: {assumed}."
    if rows:
        shown = "\n".join(
            f"| {row.stage} | {row.dataset} | {row.method} | {row.arch} | {row.ipc} | {row.classes} | "
            f"{row.seconds:.3g} | {row.date} |"
            for row in rows
        )
        basis = (
            f"Rates of one {REFERENCE_NAME}, measured (`params/measured/rates/`); seconds are of a step, or "
            "of an epoch"
        )
        basis += " of one network:\n\n"
        basis += table_head("stage|dataset|method|architecture|ipc|classes|seconds|date") + shown
        basis += (
            "\n\nOther jobs of these stages are scaled by the same ratio; the rest rests on assumed rates, "
            "**not measured"
        )
        basis += f" here**: {assumed}."
    return (
        f"# The cost of the scale `{name}`\n\nMade by `condense estimate --scale {name} --write "
        f"docs/scale.md` from the graph of jobs;"
        f" not edited by hand.\n\n{basis} Downloading data and waiting in a queue are not counted, nor are "
        f"rows of methods that the project"
        " does not have or whose weights are not at hand."
    )


def _tables(alone: dict[str, list[Node]], together: Sums, split: int | None, sets: int) -> str:
    def row(name: str, sums: Sums) -> str:
        counts = [len(sums.nodes), len(sums.of("gather")), len(sums.of("teach")), len(sums.metrics)]
        hours = [*(sums.hours(stage) for stage in GPU_STAGES), sums.hours()]
        return (
            f"| {name} | {' | '.join(f'{count}' for count in counts)} | "
            f"{' | '.join(f'{value:,.1f}' for value in hours)} |"
        )

    rows = [row(f"`{name}`", Sums(nodes)) for name, nodes in alone.items()] + [
        row("**all, shared jobs once**", together)
    ]
    return (
        f"## Each table and figure\n\nAs if it were made alone, in jobs of {in_classes(split)}, of {sets} "
        f"sets at most where they share"
        " the real side (`sets_per_job`; a table alone pays for sets of others in its jobs), and of some "
        "networks where the scale splits"
        " evaluations (`networks_per_job`). The last four columns are GPU-hours.\n\n"
        + table_head("target|jobs|sets|teachers|evaluations|teach|condense|evaluate|in all")
        + "\n".join(rows)
    )


def _needs(plan: Plan, split: int | None, nodes: Sequence[Node]) -> str:
    """What the longest and the largest jobs of every stage on a GPU take, beside what the scale asks for."""
    lines = []
    for stage in GPU_STAGES:
        of_stage, asked = (
            [node for node in nodes if node.stage == stage],
            plan.scale.resources.get(stage, specs.Resources()),
        )
        if of_stage:
            longest, host = max(node.seconds for node in of_stage), max(node.host_bytes for node in of_stage)
            on_gpu = max(node.gpu_bytes for node in of_stage)
            cells = [
                in_hours(longest),
                in_hours(asked.runtime * 60),
                f"{host / 1e9:.1f}",
                f"{asked.mem_mb / 1e3:.1f}",
                f"{on_gpu / 1e9:.1f}",
            ]
            lines.append(f"| {stage} | {' | '.join(cells)} |")
    counts = [
        f"{sum(node.gpu_bytes > size * 1e9 for node in nodes if node.on_gpu):,} take more than {size} GB"
        for size in GPU_SIZES
    ]
    return (
        f"## What a job needs\n\nThe largest of each stage, in jobs of {in_classes(split)}, beside the most "
        f"that the scale lets a job"
        " ask for. `mem_mb` is memory of the machine; a job on a GPU holds there its data and the libraries, "
        "and"
        " activations in the memory of the GPU, which SLURM gives out whole.\n\n"
        + table_head("stage|longest job|most run time|machine GB|most GB|GPU GB")
        + "\n".join(lines)
        + f"\n\nOf the GPU's memory {', '.join(counts[:-1])} and {counts[-1]}. Where GPUs are of several "
        "sizes, `gpu_model` in the profile says by rule which one a job gets."
    )


def _storage(sums: Sums, seconds: float) -> str:
    stages = {"prepared data": "data", "teachers": "teach", "synthetic sets and snapshots": "gather"}
    kinds = {kind: sums.of(stage) for kind, stage in stages.items()} | {"metrics": sums.metrics}
    lines = [f"| {kind} | {len(nodes):,} | {Sums(nodes).gigabytes():,.2f} |" for kind, nodes in kinds.items()]
    size = {node.output: node.bytes_out for node in sums.nodes}
    read = sum(size[parent] for node in sums.nodes for parent in node.parents)
    most = max(sum(size[parent] for parent in node.parents) for node in sums.nodes if node.on_gpu)
    return (
        "## Storage\n\n"
        + table_head("what|results|GB")
        + "\n".join(lines)
        + f"\n\nIn all {sums.gigabytes():,.1f} GB. Shards and parts are temporary and take as much again as "
        f"what is being made of them."
        f" Beside each result lie a log and a benchmark, so the number of files, about "
        f"{4 * len(sums.nodes):,}, meets a quota"
        f" sooner than their size does.\n\nJobs read {read / 1e9:,.0f} GB, {read / seconds / 1e6:,.1f} MB/s "
        f"on average on {GPUS[-1]} GPUs."
        f" The peak counts: {GPUS[-1]} jobs of the largest data that start together read "
        f"{GPUS[-1] * most / 1e9:,.0f} GB, in a minute only"
        f" from storage that gives {GPUS[-1] * most / 60e9:,.1f} GB/s."
    )
