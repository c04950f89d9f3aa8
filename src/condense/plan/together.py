"""Which evaluations are made by one process.

Floor 0. Training a few small networks takes less than starting a process with torch, so a scale may put
short evaluations together (`evaluations_per_job`). As with groups of sets, the borders follow
from what the scale asks for, made or not.
"""

from __future__ import annotations

from dataclasses import dataclass

from condense.files.artifacts import digest
from condense.plan import RESULTS, MetricsCell
from condense.plan.tables import Plan


@dataclass(frozen=True)
class Evaluations:
    """Evaluations that one job makes, in this order."""

    cells: tuple[MetricsCell, ...]

    @property
    def key(self) -> str:
        """That of all its evaluations."""
        return digest([[cell.task.folder, cell.key] for cell in self.cells])

    @property
    def path(self) -> str:
        """What the job writes last: which evaluations it made."""
        return f"{RESULTS}/together/{self.key}.json"


def evaluations_together(plan: Plan) -> list[Evaluations]:
    """The evaluations of `plan` that share a process, at most `evaluations_per_job` of its scale in each.

    They are asked for by the same tables and figures, so that one of these alone makes none of another; those
    of one method stand beside each other, so that a set that cannot be made holds up few others. Those that
    the scale splits, those of the whole training set, which take long, those that measure a recipe, whose
    memory is that of their process, and those that are left alone have jobs of their own.
    """
    most, askers = plan.scale.evaluations_per_job, _askers(plan)
    alike: dict[tuple[str, ...], list[MetricsCell]] = {}
    for path, names in askers.items():
        cell = plan.metrics[path]
        if cell.synthetic.recipe.makes_set and len(plan.parts(cell)) == 1 and not cell.reads_recipe:
            alike.setdefault(tuple(names), []).append(cell)
    shared = [
        cells[at : at + most]
        for cells in (sorted(cells, key=_order) for cells in alike.values())
        for at in range(0, len(cells), most)
    ]
    return [Evaluations(tuple(cells)) for cells in shared if len(cells) > 1]


def _askers(plan: Plan) -> dict[str, list[str]]:
    """Path of an evaluation -> the tables and figures that show it, as their own or beside those."""
    askers: dict[str, list[str]] = {}
    for name in plan.targets:
        for path in {cell.path: None for cell in [*plan.metrics_of(name), *plan.beside(name)]}:
            askers.setdefault(path, []).append(name)
    return askers


def _order(cell: MetricsCell) -> tuple[str, ...]:
    return cell.synthetic.data.name, cell.synthetic.recipe.name, cell.path
