"""What of a scale costs most, what leaving it out saves, where the disk goes, and which jobs exceed what they
may ask for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from condense.estimate.asked import Asked, on_cores
from condense.estimate.measured import Pace, measured_rows
from condense.estimate.rates import REFERENCE, REFERENCE_CPU, REFERENCE_CPU_NAME, REFERENCE_NAME, Rates
from condense.estimate.schedule import Node, graph
from condense.estimate.work import CARD
from condense.machine.terminal import in_bytes
from condense.plan import parent_files
from condense.plan.groups import groups
from condense.plan.ranges import number_in
from condense.plan.tables import Plan
from condense.plan.together import evaluations_together

_SHOWN = 5
_WORTH = 0.3  # share of the hours; so many of the dearest are left out together that it is saved


@dataclass(frozen=True)
class Wish:
    """Metrics, or a set that is only shown: the job that makes it, and the target and the method it is made
    for."""

    job: str
    target: str
    method: str


class Shares:
    """The hours of a scale by target and by method; a job that several need belongs to each of them."""

    def __init__(self, plan: Plan, nodes: Sequence[Node]):
        self.nodes = {node.output: node for node in nodes}
        self.wishes = list(_wishes(plan))

    def hours(self, wishes: Iterable[Wish]) -> float:
        """Of all jobs behind `wishes`, each once."""
        waiting, seen = [wish.job for wish in wishes], set()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self.nodes[name].parents
        return sum(self.nodes[name].seconds for name in seen) / 3600

    def dearest(self, kind: str) -> list[tuple[str, float, float, float]]:
        """Targets or methods ('target', 'method') from the dearest on: name, hours alone, saved without it,
        and without all so far."""
        names = {getattr(wish, kind) for wish in self.wishes}
        alone = {
            name: self.hours(wish for wish in self.wishes if getattr(wish, kind) == name) for name in names
        }
        shown = sorted(names, key=lambda name: (-alone[name], name))[:_SHOWN]
        whole = self.hours(self.wishes)

        def saved(left_out: Sequence[str]) -> float:
            return whole - self.hours(wish for wish in self.wishes if getattr(wish, kind) not in left_out)

        return [
            (name, alone[name], saved([name]), saved(shown[: index + 1])) for index, name in enumerate(shown)
        ]


def _wishes(plan: Plan) -> Iterable[Wish]:
    for name in plan.targets:
        for cell in plan.metrics_of(name):
            yield Wish(cell.path, name, cell.synthetic.recipe.name)
        for curve in plan.figures[name].curves if name in plan.figures else ():
            for shown in curve.shown:
                yield Wish(shown.path, name, shown.recipe.name)


def advice(plan: Plan, here: Rates | None = None, device: str = "") -> list[str]:
    """Lines about the whole scale, whatever of it is made; by the rates of a device that are `here`, or
    (None) of the reference GPU where the scale asks for one, else of the reference CPU."""
    on_gpu = here is None and any(resources.gpu for resources in plan.scale.resources.values())
    if here is None:
        threads = max((resources.threads for resources in plan.scale.resources.values()), default=1)
        here = REFERENCE if on_gpu else on_cores(REFERENCE_CPU, threads)
        device = f"one {REFERENCE_NAME if on_gpu else f'{threads} x {REFERENCE_CPU_NAME}'}"
    pace = Pace(plan.maker, measured_rows() if on_gpu else (), here)
    nodes = graph(plan, plan.targets, plan.scale.classes_per_job, pace)
    shares = Shares(plan, nodes)
    return [*_dearest(plan, shares, device), *_disk(plan, nodes), *over_limits(plan)]


def _dearest(plan: Plan, shares: Shares, device: str) -> list[str]:
    whole, lines = shares.hours(shares.wishes), []
    if not whole:
        return []
    unit, each = ("minutes", 60) if whole < 1 else ("hours", 1)
    for kind, plural in (("target", "tables and figures"), ("method", "methods")):
        dearest = shares.dearest(kind)
        lines.append(
            f"the dearest {plural} ({unit} on {device}, of {whole * each:,.1f} in all; jobs of several count "
            "for each):"
        )
        heads = "share", "saved without it", "without all so far"
        lines.append("  {:<28}{:>14}{:>8}{:>18}{:>20}".format("name", f"{unit} alone", *heads))
        lines += [
            f"  {name:<28}{alone * each:>14,.1f}{alone / whole:>8.0%}"
            f"{saved * each:>18,.1f}{together * each:>20,.1f}"
            for name, alone, saved, together in dearest
        ]
        count = next((number for number, entry in enumerate(dearest, 1) if entry[3] > whole * _WORTH), 1)
        setting = _setting(shares, kind, [entry[0] for entry in dearest[:count]])
        lines.append(
            f"  to save {dearest[count - 1][3] * each:,.1f} {unit}, in {plan.maker.where}: {setting}"
        )
    return lines


def _setting(shares: Shares, kind: str, names: Sequence[str]) -> str:
    """The line of a scale that leaves out targets or methods."""
    if kind == "target":
        return f"tables: {{{', '.join(f'{name}: {{run: false}}' for name in names)}}}"
    return f"methods: [{', '.join(sorted({wish.method for wish in shares.wishes} - set(names)))}]"


def _disk(plan: Plan, nodes: Sequence[Node]) -> list[str]:
    parents = {cell.path: cell for cell in plan.parents.values()}
    sizes = dict.fromkeys([*parent_files().values(), "sets", "data", "metrics"], 0)
    for node in nodes:
        kind = {"gather": "sets", "data": "data"}.get(node.stage, "metrics")
        sizes[parents[node.output].title if node.output in parents else kind] += node.bytes_out
    whole = sum(sizes.values())
    shown = ", ".join(f"{name} {in_bytes(size)}" for name, size in sizes.items() if size >= whole / 100)
    lines = [f"disk of the whole scale: {in_bytes(whole)}" + (f" ({shown})" if shown else "")]
    queues = [node.bytes_out for node in nodes if node.output in parents and parents[node.output].fills_room]
    if sum(queues) > whole / 4 and plan.scale.bank_mb:
        room = plan.scale.bank_mb // 4
        less = sum(size - min(size, room * 10**6) for size in queues)
        lines.append(
            f"  {len(queues)} banks of queues take up to {plan.scale.bank_mb / 1e3:,.0f} GB each; bank_mb: "
            f"{room} saves {less / 1e9:,.0f} GB of disk, and what does not fit is trained again when it is "
            "read; bank_mb: 0 makes none, and every job trains its queue as it goes"
        )
    return lines


def over_limits(plan: Plan) -> list[str]:
    """Jobs that are estimated to need more than the scale lets them ask for, or than a GPU has, and what
    makes them smaller."""
    asked = Asked(plan.scale)
    jobs = [("synthesize", asked.need_of_group(group.cells, group.shard)) for group in groups(plan)]
    jobs += [("teach", asked.need("teach", cell)) for cell in plan.parents.values()]
    jobs += [
        ("evaluate", asked.need("evaluate", cell, number_in(networks)))
        for cell in plan.metrics.values()
        for networks in plan.parts(cell)
    ]
    jobs += [("evaluate", asked.need_together(group.cells)) for group in evaluations_together(plan)]
    fewer = ", or evaluations_per_job" if plan.scale.evaluations_per_job > 1 else ""
    remedies = {
        "synthesize": "lower classes_per_job, images_per_job or sets_per_job",
        "evaluate": f"lower networks_per_job, such as networks_per_job: "
        f"{json.dumps(_longest_evaluation(plan, asked))}{fewer}",
        "teach": "raise",
    }
    lines = []
    for stage, remedy in remedies.items():
        most, needs = asked.most(stage), [need for kind, need in jobs if kind == stage]
        limits = [
            (
                [need for need in needs if need.seconds > 60 * most.runtime],
                f"more time than runtime: {most.runtime} (minutes)",
            ),
            (
                [need for need in needs if need.host_bytes > 1e6 * most.mem_mb],
                f"more memory than mem_mb: {most.mem_mb}",
            ),
        ]
        for over, excess in limits:
            if over:
                change = (
                    f"raise resources: {stage}"
                    if remedy == "raise"
                    else f"{remedy}, or raise resources: {stage}"
                )
                lines.append(
                    f"{len(over)} jobs of stage {stage} are estimated to need {excess}: {change} in "
                    f"{plan.maker.where}"
                )
        large = sum(need.gpu_bytes > CARD for need in needs)
        if large:
            lines.append(
                f"{large} jobs of stage {stage} are estimated to need more than a GPU of {CARD / 1e9:.0f} GB"
            )
    return lines or ["no job is estimated to need more than the scale lets it ask for"]


def _longest_evaluation(plan: Plan, asked: Asked) -> dict[str, int]:
    """A setting that halves the longest evaluation."""
    cells = [
        (asked.need("evaluate", cell, number_in(networks)).seconds, cell, networks)
        for cell in plan.metrics.values()
        for networks in plan.parts(cell)
    ]
    if not cells:
        return {}
    _, cell, networks = max(cells, key=lambda entry: entry[0])
    return {f"{cell.eval_arch}/{cell.synthetic.data.name}": max(1, number_in(networks) // 2)}
