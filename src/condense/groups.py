"""Which synthetic sets are condensed in one job, because they are matched to the same real side.

Floor 0. At most `sets_per_job` of the scale go together. Groups are cut from all sets that the scale asks for, made or not, so
that the borders, and with them the names of the jobs, stay where they are while sets are being made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from condense.artifacts import digest
from condense.plan import RESULTS, BankCell, SyntheticCell, TeacherCell
from condense.store import offered
from condense.tableplan import Plan


@dataclass(frozen=True)
class Group:
    """Sets whose classes `shard` ('first-last') are condensed in one job. `key` is that of all sets that belong to it."""

    key: str
    shard: str
    cells: tuple[SyntheticCell, ...]

    @property
    def name(self) -> str:
        """A name that no other group of the plan has."""
        return f"synthesize_{self.key}_{self.shard}"

    @property
    def path(self) -> str:
        """The index that the job writes last, when all `outputs` are there."""
        first = self.cells[0]
        return f"{RESULTS}/groups/{first.data.name}/{first.arch}/{self.key}/classes{self.shard}.json"

    @cached_property
    def outputs(self) -> list[str]:
        return [cell.shard_path(self.shard) for cell in self.cells]

    @property
    def teacher(self) -> TeacherCell | None:
        """The one teacher that its sets use, if any does."""
        return next((cell.teacher for cell in self.cells if cell.teacher), None)

    @property
    def bank(self) -> BankCell | None:
        """The bank of its networks, if there is one: of a queue that for the most steps, which holds those of all."""
        return max((cell.bank for cell in self.cells if cell.bank), key=lambda bank: bank.steps, default=None)

    def left(self) -> Group | None:
        """The group without the sets that are made or kept; None if it is empty then.

        The job leaves these out when it runs; the rules of the workflow do not depend on what is made.
        """
        cells = tuple(cell for cell in self.cells if not (Path(cell.path).exists() or offered(cell.path)))
        return replace(self, cells=cells) if cells else None

    def incomplete(self) -> bool:
        """Whether the index is there, but not a shard that it tells of, or its cost, whose set is still to be made."""
        left = self.left() if Path(self.path).exists() else None
        shards = [Path(shard) for shard in left.outputs] if left else []
        return not all(path.exists() for shard in shards for path in (shard, shard.with_name(f"{shard.stem}.run.json")))


def groups(plan: Plan, shards: Callable[[SyntheticCell], list[str]] | None = None) -> list[Group]:
    """The groups of all sets of `plan`, each set once for every class range in `shards` of it (None: those of the scale).

    Sets go together if they agree in data, network, seed, classes and `Recipe.stream`, and use one teacher at most. Sets that the same
    tables and figures ask for stand beside each other, so that one table alone seldom makes sets of others; then come method and ipc.
    """
    asking, shards = _asking(plan), shards or plan.shards
    cells = [cell for cell in plan.synthetic.values() if cell.recipe.engine == "matching"]
    cells.sort(key=lambda cell: (asking[cell.key], cell.recipe.name, cell.ipc, cell.key))
    teachers = {}  # of those that share a stream, the first: sets without one join it
    for cell in cells:
        if cell.teacher:
            teachers.setdefault(_stream(cell), cell.teacher.key)
    together: dict[tuple, list[SyntheticCell]] = {}
    for cell in cells:
        stream = _stream(cell)
        teacher = cell.teacher.key if cell.teacher else teachers.get(stream)
        for shard in shards(cell):
            together.setdefault((shard, teacher, stream), []).append(cell)
    most = plan.scale.sets_per_job
    chunks = [(shard, found[at : at + most]) for (shard, *_), found in together.items() for at in range(0, len(found), most)]
    return [_group(shard, cells) for shard, cells in chunks]


def all_groups(plan: Plan) -> list[Group]:
    """Every job that condenses or selects at the scale of `plan`: its groups, and a group of one for each selection."""
    alone = [cell for cell in plan.synthetic.values() if cell.recipe.engine != "matching"]
    return [*groups(plan), *(_group(shard, [cell]) for cell in alone for shard in plan.shards(cell))]


def _group(shard: str, cells: list[SyntheticCell]) -> Group:
    return Group(digest([cell.key for cell in cells]), shard, tuple(cells))


def _stream(cell: SyntheticCell) -> tuple:
    # A queue trained as it goes and one from a bank are not put together; of banks, those that differ in nothing but their steps are.
    banked = replace(cell.bank, steps=0).key if cell.bank else ""
    return (banked, cell.data.key, cell.arch, cell.options, cell.seed, *cell.recipe.stream.values())


def _asking(plan: Plan) -> dict[str, list[str]]:
    """Key of a set -> the tables and figures that ask for it."""
    found: dict[str, list[str]] = {}
    for name in [*plan.tables, *plan.figures]:
        cells = [one for cell in plan.metrics_of(name) for one in cell.sets]
        if name in plan.figures:
            cells += [curve.synthetic for curve in plan.figures[name].curves if curve.synthetic]
        for key in {cell.key for cell in cells}:
            found.setdefault(key, []).append(name)
    return found
