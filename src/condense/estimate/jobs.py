"""The jobs behind a target of a scale, and which of them are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from condense.config import UserError, unknown
from condense.estimate.work import (
    gather_work,
    group_work,
    join_work,
    steps_work,
    together_work,
    work_of,
)
from condense.files.artifacts import read_json
from condense.plan import ClassesCell, DataCell, MetricsCell, ParentCell, SyntheticCell
from condense.plan.groups import groups
from condense.plan.manifests import manifest
from condense.plan.parent import with_their_own
from condense.plan.ranges import number_in
from condense.plan.rows import Curve
from condense.plan.tables import Plan
from condense.plan.together import evaluations_together
from condense.specs import catalogue
from condense.specs.costs.work import Work

# The files of a table and of a figure, by their ends
_OF_TABLES, _OF_FIGURES = ("csv", "md", "tex", "json"), ("png", "svg", "json")


@dataclass(frozen=True)
class Job:
    """One job: its stage, its work, and whether it is done."""

    stage: str
    cell: Any  # the cell whose data decides the rates; None for what only reads results
    work: Work
    done: bool = False


def data_of(cell: Any) -> DataCell:
    """The data that a cell is about."""
    if isinstance(cell, DataCell):
        return cell
    return cell.synthetic.data if isinstance(cell, MetricsCell) else cell.data


def named(plan: Plan, target: str | None) -> tuple[list[str], list[MetricsCell]]:
    """The tables and figures, and the metrics, that `target` asks for."""
    if target is None:
        return plan.targets, list(plan.metrics.values())
    path = target.removeprefix("./")
    if path in plan.metrics:
        return [], [plan.metrics[path]]
    name = path.removeprefix("results/tables/").removeprefix("results/figures/")
    name, _, suffix = name.partition(".")
    if name in plan.specs_by_path() and name not in plan.targets:
        others = ", ".join(catalogue.names_in("scales"))
        raise UserError(
            f"{name}: is not made at scale {plan.scale.name}; choose another with --scale ({others})"
        )
    if name not in plan.specs_by_path():
        raise unknown("target", target, plan.specs_by_path(), f"scale {plan.scale.name}")
    folder, suffixes = ("figures", _OF_FIGURES) if name in plan.figures else ("tables", _OF_TABLES)
    files = [f"results/{folder}/{name}.{known}" for known in suffixes]
    if path not in (name, *files, *(f"{name}.{known}" for known in suffixes)):
        raise UserError(
            f"{target}: is no file of the workflow, which makes {', '.join(files)}; name one of these, or "
            f"{name}"
        )
    cells = {cell.path: cell for cell in [*plan.metrics_of(name), *plan.beside(name)]}
    return [name], list(cells.values())


def why_nothing_runs(plan: Plan, names: list[str]) -> str:
    """A sentence for tables and figures of which the scale makes no cell."""
    rows = [row for name in names for row in plan.tables.get(name, [])]
    reasons = {row.cause or row.reason for row in rows if row.reason}
    if any(name in plan.settings for name in names):
        reasons.add("a table of settings is made from the recipes alone, in seconds")
    for name in names:
        if name in plan.figures:
            figure = plan.figures[name]
            reasons |= set(figure.missing.values())
            if figure.spec.computed:
                reasons.add("the figure is drawn of what it computes itself, in seconds")
            elif not plan.datasets_of(name).get(figure.spec.dataset):
                reasons.add(f"no dataset stands in for '{figure.spec.dataset}' (`datasets` of the scale)")
    why = "; ".join(sorted(reasons)) or "no dataset of the scale has the images that it asks for"
    others = ", ".join(name for name in catalogue.names_in("scales") if name != plan.scale.name)
    return (
        f"nothing of it runs at this scale: {why}; choose another with --scale ({others}), or change "
        f"{plan.maker.where}"
    )


def jobs_behind(
    plan: Plan, names: list[str], metrics: list[MetricsCell], whole: bool, on_gpu: bool
) -> Iterator[Job]:
    """The jobs behind tables, figures and metrics, from the last to the first: what is made needs none of its
    own inputs."""
    metrics = _with_companions(plan, metrics)
    curves = [curve for name in names if name in plan.figures for curve in plan.figures[name].curves]
    undrawn = [name for name in names if not _is_drawn(plan, name)]
    drawn = [curve for name in undrawn if name in plan.figures for curve in plan.figures[name].curves]
    for name in names:
        yield Job("tables/figures", None, Work(light=True), name not in undrawn)
    if whole:
        yield Job(
            "tables/figures", None, Work(light=True), Path("results/report.html").exists() and not undrawn
        )
    yield from _judging_jobs(plan, metrics, on_gpu)
    unmeasured = [cell for cell in metrics if not _is_evaluated(plan, cell)]
    behind = _Behind(plan, [*curves, *metrics], [*drawn, *unmeasured], whole, on_gpu)
    yield from behind.joining_jobs()
    yield from behind.condensing_jobs()
    yield from behind.teaching_jobs()
    yield from behind.data_jobs()


class _Behind:
    """What stands behind evaluations and curves, all that are `asked` for and those that are `left` to make:
    sets, their parents, data. Its jobs are to be asked for in the order of its methods."""

    def __init__(
        self,
        plan: Plan,
        asked: list[Curve | MetricsCell],
        left: list[Curve | MetricsCell],
        whole: bool,
        on_gpu: bool,
    ):
        self.plan, self.asked, self.on_gpu = plan, asked, on_gpu
        with_parts = list if plan.scale.steps_in_one_job else _with_parts
        self.sets = _distinct(cell for cell in with_parts(_sets_of(asked)) if cell.recipe.makes_set)
        wanted = self.sets if whole else _distinct(with_parts(_sets_of(left)))
        # The parts of a set that is there are not missed
        unneeded = {
            part.key for cell in self.sets.values() if Path(cell.path).exists() for part in cell.joins
        }
        self.missing = {
            key
            for key, cell in self.sets.items()
            if key in wanted and key not in unneeded and not Path(cell.path).exists()
        }
        # What reads data, and the parents that are asked for and not there
        self.reading: list[Any] = [*(self.sets[key] for key in self.missing), *_sets_of(left)]
        self.parents, self.unmade = (
            _distinct(cell for asked in selection for cell in asked.parents.values())
            for selection in (asked, left)
        )

    def joining_jobs(self) -> Iterator[Job]:
        """Those that put sets together of their shards, or of sets of some classes."""
        for key, cell in self.sets.items():
            if cell.joins and self.plan.scale.steps_in_one_job:
                yield Job("synthesize", cell.joins[0], steps_work(cell, self.on_gpu), key not in self.missing)
            else:
                yield Job("gather", cell, gather_work(cell), key not in self.missing)

    def condensing_jobs(self) -> Iterator[Job]:
        """Those of groups of sets that share the real side."""
        for group in groups(self.plan):
            asked = [cell for cell in group.cells if cell.key in self.sets]
            if not asked:
                continue
            left = group.left() or group
            done = all(
                cell.key not in self.missing or Path(cell.shard_path(group.shard)).exists()
                for cell in left.cells
                if cell.key in self.sets
            )
            if not done:
                self.reading += left.cells
                self.unmade |= _distinct(left.parents.values())
            # A group has those of its other sets, too
            parent_keys = {parent.key for cell in asked for parent in cell.parents.values()}
            self.parents |= _distinct(
                parent
                for parent in left.parents.values()
                if not done or parent.of_stream or parent.key in parent_keys
            )
            yield Job("synthesize", left.cells[0], group_work(left.cells, group.shard, self.on_gpu), done)

    def teaching_jobs(self) -> Iterator[Job]:
        """Those of parents, with what these are made from."""
        self.unmade = _distinct(_unmade(self.unmade.values()))
        for key, cell in _distinct(with_their_own(self.parents.values())).items():
            yield Job("teach", cell, work_of(cell), key not in self.unmade)

    def data_jobs(self) -> Iterator[Job]:
        """Those that prepare images."""
        used = _distinct(data_of(cell) for cell in [*self.reading, *self.unmade.values()] if cell)
        used |= _distinct(cell.whole for cell in used.values() if isinstance(cell, ClassesCell))
        judged = [cell for cell in self.asked if isinstance(cell, MetricsCell)]
        of = [data_of(cell) for cell in [*self.sets.values(), *judged]]
        of += [cell.whole for cell in of if isinstance(cell, ClassesCell)]
        for key, cell in _distinct(of).items():
            done = key not in used or Path(cell.train).exists() and Path(cell.test).exists()
            yield Job("data", cell, work_of(cell), done)


def _distinct(cells: Iterable[Any]) -> dict[str, Any]:
    return {cell.key: cell for cell in cells if cell}


def _unmade(parents: Iterable[ParentCell]) -> list[ParentCell]:
    """Those that are not there, with what they are made from in their turn and is not there either."""
    asked = with_their_own(cell for cell in parents if not Path(cell.path).exists())
    return [cell for cell in asked if not Path(cell.path).exists()]


def _sets_of(asking: Iterable[MetricsCell | Curve]) -> Iterator[SyntheticCell]:
    """The sets that evaluations train on and that curves show."""
    for asked in asking:
        yield from asked.all_sets if isinstance(asked, MetricsCell) else asked.shown


def _with_parts(sets: Iterable[SyntheticCell]) -> Iterator[SyntheticCell]:
    """Sets, each with those that it is put together of."""
    for cell in sets:
        yield from (cell, *cell.joins)


def _is_evaluated(plan: Plan, cell: MetricsCell) -> bool:
    """Whether nothing is to be trained for `cell` any more: its metrics are there, or all its parts."""
    parts = plan.parts(cell)
    return Path(cell.path).exists() or (
        len(parts) > 1 and all(Path(cell.part_path(networks)).exists() for networks in parts)
    )


def _with_companions(plan: Plan, metrics: list[MetricsCell]) -> list[MetricsCell]:
    """Evaluations with those that the jobs of the missing ones make too."""
    cells = {cell.path: cell for cell in metrics}
    missing = {path for path in cells if not Path(path).exists()}
    for group in evaluations_together(plan):
        if not missing.isdisjoint(cell.path for cell in group.cells):
            cells |= {cell.path: cell for cell in group.cells}
    return list(cells.values())


def _judging_jobs(plan: Plan, metrics: list[MetricsCell], on_gpu: bool) -> Iterator[Job]:
    """The jobs of evaluations: those that several share, then those of each."""
    asked = {cell.path for cell in metrics}
    for group in evaluations_together(plan):
        if not asked.isdisjoint(cell.path for cell in group.cells):
            left = [cell for cell in group.cells if not Path(cell.path).exists()]
            yield Job("evaluate", group.cells[0], together_work(left or group.cells, on_gpu), not left)
            asked -= {cell.path for cell in group.cells}
    for cell in metrics:
        if cell.path in asked:
            yield from _evaluation_jobs(plan, cell, on_gpu)
        else:
            yield Job("join", cell, join_work(cell), Path(cell.path).exists())


def _evaluation_jobs(plan: Plan, cell: MetricsCell, on_gpu: bool) -> Iterator[Job]:
    """The one job of an evaluation, or those of its parts and the one that joins them."""
    parts, made = plan.parts(cell), Path(cell.path).exists()
    if len(parts) == 1:
        yield Job("evaluate", cell, work_of(cell, on_gpu=on_gpu), made)
        return
    for networks in parts:
        yield Job(
            "evaluate",
            cell,
            replace(work_of(cell, number_in(networks), on_gpu), bytes_out=0),
            made or Path(cell.part_path(networks)).exists(),
        )
    yield Job("join", cell, join_work(cell), made)


def _is_drawn(plan: Plan, name: str) -> bool:
    """Whether the table or figure in `results` was made from what this scale asks for."""
    folder, ending = ("figures", "png") if name in plan.figures else ("tables", "csv")
    note = Path("results") / folder / f"{name}.json"
    return (
        note.exists() and note.with_suffix(f".{ending}").exists() and read_json(note) == manifest(plan, name)
    )
