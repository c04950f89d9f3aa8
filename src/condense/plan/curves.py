"""The cells that a figure is drawn from, or why a method of it has none. Floor 0."""

from __future__ import annotations

from condense import plan
from condense.config import merged
from condense.plan import MetricsCell, SyntheticCell
from condense.plan.choices import Choices, require_taken, taken
from condense.plan.rows import Curve, DriftCurve, FigurePlan, PointCurve, SetCurve
from condense.specs import DEFAULT_TASK, FigureSpec, Point, TableLimits, Task


def figure_of(choices: Choices, name: str, spec: FigureSpec) -> FigurePlan:
    """The curves of a figure at a scale, the methods that have none with the reason, and the points that the
    scale leaves out. Raises UserError for a change that none of its methods takes."""
    limits = choices.limits(name)
    asked = [*spec.methods, *spec.further]
    require_taken(spec.changes, asked, "changes")
    require_taken(limits.changes, asked, "changes")
    missing = {method: why for method in asked if (why := _missing(choices, spec, limits, method))}
    cut = tuple(point.name for _, point in spec.lines if point and not choices.wanted(limits, point.name))
    lines = [
        (method, point)
        for method, point in spec.lines
        if method not in missing and not (point and point.name in cut)
    ]
    lines = [] if missing.keys() & set(spec.further) else lines
    curves = []
    for dataset in choices.datasets_of(name).get(spec.dataset, []):
        ipcs = limits.ipc or spec.ipc
        curves += [
            _curve(choices, spec, limits, dataset, *line, ipc)
            for ipc in ipcs
            for line in lines
            if ipc in choices.scale.ipc_of.get(line[0], ipcs)
        ]
    return FigurePlan(spec, tuple(curve for curve in curves if curve), missing, cut)


def _missing(choices: Choices, spec: FigureSpec, limits: TableLimits, method: str) -> str:
    """Why a method has no curve; '' where it has one."""
    why = choices.absent(method) or limits.empty.get(method, "")
    numbers, made = limits.ipc or spec.ipc, choices.scale.ipc_of.get(method)
    if not why and made is not None and not set(made) & set(numbers):
        return f"made only at ipc {', '.join(map(str, made))} at {choices.scale.name}"
    return why


def _curve(
    choices: Choices,
    spec: FigureSpec,
    limits: TableLimits,
    dataset: str,
    method: str,
    point: Point | None,
    ipc: int,
) -> Curve | None:
    sets = (limits.n_sets or choices.scale.n_sets) if spec.judged else 1
    asked = point.change if point else {}
    further = {name: merged(taken(name, spec.changes), taken(name, asked)) for name in spec.further}
    own = merged(taken(method, spec.changes), spec.changes_of.get(method, {}))
    changes = further | {method: merged(own, asked)}
    changes = {name: merged(change, taken(name, limits.changes)) for name, change in changes.items()}
    data = plan.data_cell(dataset)
    if not all(choices.enough(name, data, ipc, change) for name, change in changes.items()):
        return None

    def made(name: str, task: Task = DEFAULT_TASK) -> list[SyntheticCell]:
        asked = (dataset, name, spec.train_arch, ipc)
        steps = task.class_steps(data.spec.classes)
        return [choices.maker.synthetic(*asked, seed, changes[name], steps) for seed in range(sets)]

    if spec.judged:
        judged = []
        for task, further in spec.judged:
            # What stands beside the figure's own task is taken as other tables and figures have it
            networks = (limits.n_networks or spec.networks) if spec.task in (None, task) else None
            settings = (spec.eval_arch, spec.protocol, networks)
            if task is spec.task:
                task = choices.changed(spec, limits, task)
            of_task: list[MetricsCell] = []
            for variant in choices.variants(limits, task, data):
                others = {name: made(other, variant) for name, other in further.items()}
                of_task += [
                    choices.maker.metrics(
                        cell, *settings, variant, {name: cells[seed] for name, cells in others.items()}
                    )
                    for seed, cell in enumerate(made(method, variant))
                ]
            judged.append(tuple(of_task))
        measured = tuple(cell for of_task in judged for cell in of_task)
        if spec.drift:
            at = dict(zip(spec.drift.ratios, judged, strict=True))
            return DriftCurve(method, dataset, ipc, measured, drift=spec.drift, at=at)
        return (
            PointCurve(method, dataset, ipc, measured, point=point)
            if point
            else Curve(method, dataset, ipc, measured)
        )
    parents = (
        {"teacher": choices.maker.teacher(data, spec.feature_arch, "selection")} if spec.feature_arch else {}
    )
    return SetCurve(method, dataset, ipc, (), parents, synthetic=made(method)[0])
