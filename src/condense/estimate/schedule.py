"""When the jobs of a scale would end on so many GPUs: its graph of jobs, and list scheduling of that
graph."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from condense.estimate.measured import JobCost, Pace
from condense.plan import ClassesCell, DataCell, MetricsCell, ParentCell, SyntheticCell
from condense.plan.groups import Group, groups
from condense.plan.ranges import Share, number_in
from condense.plan.tables import Plan
from condense.plan.together import Evaluations, evaluations_together

GPU_STAGES = ("teach", "synthesize", "evaluate")


@dataclass(frozen=True)
class Node:
    """One job: its output (of a group its name), its stage, its seconds, the bytes that stay of it, and the
    outputs that it waits for."""

    output: str
    stage: str
    seconds: float
    bytes_out: int
    parents: tuple[str, ...] = ()
    gpu_bytes: int = 0
    host_bytes: int = 0

    @property
    def on_gpu(self) -> bool:
        return self.stage in GPU_STAGES


def sharing(plan: Plan, classes_per_job: int | None) -> dict[str, Group]:
    """Path of a shard -> the group of sets that are condensed with it, in jobs of so many classes
    (None: all)."""
    shared = groups(plan, lambda cell: cell.shards(classes_per_job, plan.scale.images_per_job))
    return {output: group for group in shared for output in group.outputs}


def graph(
    plan: Plan,
    names: Sequence[str],
    classes_per_job: int | None,
    pace: Pace,
    shared: Mapping[str, Group] | None = None,
) -> list[Node]:
    """The jobs behind the tables and figures `names`, parents first, with sets condensed in jobs of so many
    classes (None: all).

    Sets share jobs, and evaluations and images of a class are split, as the scale says; `shared`: what
    `sharing` gives, where several graphs need it.
    """
    jobs = _Graph(plan, classes_per_job, pace, sharing(plan, classes_per_job) if shared is None else shared)
    for name in names:
        curves = plan.figures[name].curves if name in plan.figures else ()
        parents = [jobs.metrics(cell) for cell in [*plan.metrics_of(name), *plan.beside(name)]]
        parents += [jobs.set(cell) for curve in curves for cell in curve.shown]
        parents += [jobs.made("teach", parent) for curve in curves for parent in curve.parents.values()]
        jobs.add(name, "tables/figures", None, parents)
    return list(jobs.nodes.values())


class _Graph:
    """Jobs by what they make; each is added once, after those that it waits for."""

    def __init__(self, plan: Plan, classes_per_job: int | None, pace: Pace, shared: Mapping[str, Group]):
        self.nodes: dict[str, Node] = {}
        self.plan, self.pace, self.groups = plan, pace, shared
        self.together = {cell.path: group for group in evaluations_together(plan) for cell in group.cells}
        self.shards = lambda cell: cell.shards(classes_per_job, plan.scale.images_per_job)

    def add(
        self,
        output: str,
        stage: str,
        cell: Any,
        parents: Sequence[str] = (),
        count: int | Share | None = None,
    ) -> str:
        if output not in self.nodes:
            self._put(output, stage, self.pace.job(stage, cell, count), parents)
        return output

    def _put(self, output: str, stage: str, cost: JobCost, parents: Sequence[str]) -> None:
        before = tuple(dict.fromkeys(parents))
        self.nodes[output] = Node(
            output, stage, cost.seconds, cost.bytes_out, before, cost.gpu_bytes, cost.host_bytes
        )

    def made(self, stage: str, cell: DataCell | ParentCell) -> str:
        """A dataset, or what sets need beforehand."""
        if isinstance(cell, DataCell):
            before = [self.made(stage, cell.whole)] if isinstance(cell, ClassesCell) else []
            return self.add(cell.folder, stage, cell, before)
        earlier = [self.made(stage, parent) for parent in cell.parents.values()]
        return self.add(cell.path, stage, cell, [self.made("data", cell.data), *earlier])

    def set(self, cell: SyntheticCell) -> str:
        """A synthetic set with its shards, and the data and the parents they need; or with the sets that it
        is put together of."""
        if cell.path in self.nodes:
            return cell.path
        if cell.joins and self.plan.scale.steps_in_one_job:
            self._put(cell.path, "synthesize", self.pace.steps(cell), [self.made("data", cell.data)])
            return cell.path
        if cell.joins:
            return self.add(cell.path, "gather", cell, [self.set(part) for part in cell.joins])
        return self.add(cell.path, "gather", cell, [self.shard(cell, shard) for shard in self.shards(cell)])

    def shard(self, cell: SyntheticCell, shard: Share) -> str:
        """The job that condenses or selects this share of `cell`, and of the sets of its group."""
        group, path = self.groups.get(cell.shard_path(shard)), cell.shard_path(shard)
        cells, made_with = (group.cells if group else (cell,)), (group or cell).parents
        before = [
            self.made("data", cell.data),
            *(self.made("teach", parent) for parent in made_with.values()),
        ]
        if group is None or len(cells) == 1:
            return self.add(path, "synthesize", cell, before, shard)
        if group.name not in self.nodes:
            self._put(group.name, "synthesize", self.pace.group(cells, shard), before)
        return group.name

    def before(self, cell: MetricsCell) -> list[str]:
        """The data, the sets and what else is made beforehand that an evaluation waits for."""
        sets = [self.set(synthetic) for synthetic in cell.all_sets if synthetic.recipe.makes_set]
        parents = [self.made("teach", parent) for parent in cell.parents.values()]
        return [self.made("data", cell.synthetic.data), *sets, *parents]

    def metrics(self, cell: MetricsCell) -> str:
        """An evaluation, in parts where the scale splits it, or by a job that makes others too, after what it
        waits for."""
        if cell.path in self.together:
            return self.add(cell.path, "join", cell, [self.together_job(self.together[cell.path])])
        parents, ranges = self.before(cell), self.plan.parts(cell)
        if len(ranges) == 1:
            return self.add(cell.path, "evaluate", cell, parents)
        parts = [
            self.add(cell.part_path(networks), "evaluate", cell, parents, number_in(networks))
            for networks in ranges
        ]
        return self.add(cell.path, "join", cell, parts)

    def together_job(self, group: Evaluations) -> str:
        """The job that makes several evaluations, with all that any of them waits for."""
        if group.path not in self.nodes:
            parents = [parent for cell in group.cells for parent in self.before(cell)]
            self._put(group.path, "evaluate", self.pace.together(group.cells), parents)
        return group.path


def remaining(nodes: Sequence[Node]) -> dict[str, float]:
    """Seconds from the start of each job to the end of the last that waits for it, if nothing else held them
    up."""
    after: dict[str, float] = {}
    for node in reversed(nodes):
        total = after.get(node.output, 0.0) + node.seconds
        after[node.output] = total
        for parent in node.parents:
            after[parent] = max(after.get(parent, 0.0), total)
    return after


def wall_seconds(nodes: Sequence[Node], gpus: int, per_minute: float | None = None) -> float:
    """The end of the last job on so many GPUs, of the ready ones that with the longest path behind it first.

    Jobs without a GPU never wait for a place. `per_minute` jobs at most are handed to the scheduler, in the
    order in which they become ready (None: at once). Raises ValueError if the graph has a circle.
    """
    order, children, waits = (
        remaining(nodes),
        _children(nodes),
        {node.output: len(node.parents) for node in nodes},
    )
    known, gap = {node.output: node for node in nodes}, 60.0 / per_minute if per_minute else 0.0
    # (time, 0 ready | 1 handed over | 2 ended, job)
    events = [(0.0, 0, name) for name, count in waits.items() if not count]
    heapq.heapify(events)
    queue: list[tuple[float, str]] = []
    free, handed, end, done = gpus, -gap, 0.0, 0
    while events:
        now = events[0][0]
        while events and events[0][0] <= now:
            _, kind, name = heapq.heappop(events)
            if kind == 0:
                handed = max(handed + gap, now)
                heapq.heappush(events, (handed, 1, name))
            elif kind == 1 and known[name].on_gpu:
                heapq.heappush(queue, (-order[name], name))
            elif kind == 1:
                heapq.heappush(events, (now + known[name].seconds, 2, name))
            else:
                free, end, done = free + known[name].on_gpu, max(end, now), done + 1
                for child in children.get(name, ()):
                    waits[child] -= 1
                    if not waits[child]:
                        heapq.heappush(events, (now, 0, child))
        while queue and free:
            free -= 1
            _, name = heapq.heappop(queue)
            heapq.heappush(events, (now + known[name].seconds, 2, name))
    if done < len(known):
        raise ValueError("the jobs wait for each other in a circle")
    return end


def _children(nodes: Sequence[Node]) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {}
    for node in nodes:
        for parent in node.parents:
            children.setdefault(parent, []).append(node.output)
    return children
