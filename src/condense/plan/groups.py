"""Which synthetic sets are condensed in one job, because they are matched to the same real side.

Floor 0. At most `sets_per_job` of the scale go together. Groups are cut from all sets that the scale asks
for, made or not, so that the borders, and with them the names of the jobs, stay where they are while sets are
being made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from condense.files.artifacts import digest
from condense.files.store import offered
from condense.plan import RESULTS, ParentCell, SyntheticCell
from condense.plan.ranges import Share
from condense.plan.tables import Plan


@dataclass(frozen=True)
class Group:
    """Sets of which one job makes the share `shard`. `key` is that of all sets that belong to it."""

    key: str
    shard: Share
    cells: tuple[SyntheticCell, ...]

    @property
    def name(self) -> str:
        """A name that no other group of the plan has."""
        return f"synthesize_{self.key}_{self.shard}"

    @property
    def path(self) -> str:
        """The index that the job writes last, when all `outputs` are there."""
        first = self.cells[0]
        return f"{RESULTS}/groups/{first.data.name}/{first.arch}/{self.key}/{self.shard}.json"

    @cached_property
    def outputs(self) -> list[str]:
        return [cell.shard_path(self.shard) for cell in self.cells]

    @property
    def parents(self) -> dict[str, ParentCell]:
        """What its sets are made with, by name: of several that serve for so many steps that which serves for
        most."""
        asked: dict[str, ParentCell] = {}
        for name, parent in [entry for cell in self.cells for entry in cell.parents.items()]:
            asked[name] = max(asked.get(name, parent), parent, key=lambda cell: cell.reach)
        return asked

    def left(self) -> Group | None:
        """The group without the sets that are made or kept; None if it is empty then.

        The job leaves these out when it runs; the rules of the workflow do not depend on what is made.
        """
        cells = tuple(cell for cell in self.cells if not (Path(cell.path).exists() or offered(cell.path)))
        return replace(self, cells=cells) if cells else None

    def incomplete(self) -> bool:
        """Whether the index is there, but not a shard that it tells of, or its cost, whose set is still to be
        made."""
        left = self.left() if Path(self.path).exists() else None
        shards = [Path(shard) for shard in left.outputs] if left else []
        return not all(
            path.exists() for shard in shards for path in (shard, shard.with_name(f"{shard.stem}.run.json"))
        )


def groups(plan: Plan, shards: Callable[[SyntheticCell], list[Share]] | None = None) -> list[Group]:
    """The groups of all sets of `plan`, each set once for every share in `shards` of it
    (None: those of the scale).

    Sets go together if they agree in data, network, seed, share and `Recipe.stream`, and differ in no parent
    that two of them have. Sets that the same tables and figures ask for stand beside each other, so that one
    table alone seldom makes sets of others; then come method and ipc. A set that shares with nobody is a
    group of its own.
    """
    asking, shards = _asking(plan), shards or plan.shards
    cells = sorted(
        (cell for cell in plan.synthetic.values() if not cell.joins),
        key=lambda cell: (asking[cell.key], cell.recipe.name, cell.images_a_class, cell.key),
    )
    streams = {cell.key: _stream(cell) for cell in cells if cell.recipe.stream is not None}
    # Of those that share a stream, the first parents: sets without them join these
    first: dict[tuple, dict[str, str]] = {}
    for cell in cells:
        if cell.key in streams:
            first.setdefault(streams[cell.key], {}).update(_parents(cell) | first.get(streams[cell.key], {}))
    together: dict[tuple, list[SyntheticCell]] = {}
    alone: list[tuple[Share, list[SyntheticCell]]] = []
    for cell in cells:
        for shard in shards(cell):
            if cell.key in streams:
                parents = first[streams[cell.key]] | _parents(cell)
                together.setdefault((shard, *sorted(parents.items()), streams[cell.key]), []).append(cell)
            else:
                alone.append((shard, [cell]))
    most = plan.scale.sets_per_job
    chunks = [
        (shard, cells[at : at + most])
        for (shard, *_), cells in together.items()
        for at in range(0, len(cells), most)
    ]
    return [
        Group(digest([cell.key for cell in cells]), shard, tuple(cells)) for shard, cells in [*chunks, *alone]
    ]


def _parents(cell: SyntheticCell) -> dict[str, str]:
    """Name -> key of the parents that sets condensed together have in common if they have them at all."""
    return {name: parent.key for name, parent in cell.parents.items() if not parent.of_stream}


def _stream(cell: SyntheticCell) -> tuple:
    # A queue trained as it goes and one from a bank are not put together; of banks, those that differ in
    # nothing but their steps are.
    made = [(name, parent.for_all()) for name, parent in cell.parents.items() if parent.of_stream]
    return (
        *made,
        cell.data.key,
        cell.arch,
        cell.options,
        cell.seed,
        *sorted((cell.recipe.stream or {}).items()),
    )


def _asking(plan: Plan) -> dict[str, list[str]]:
    """Key of a set -> the tables and figures that ask for it."""
    names_by_set: dict[str, list[str]] = {}
    for name in plan.targets:
        cells = [synthetic for cell in plan.metrics_of(name) for synthetic in cell.all_sets]
        if name in plan.figures:
            cells += [cell for curve in plan.figures[name].curves for cell in curve.shown]
        cells += [part for cell in cells for part in cell.joins]
        for key in {cell.key for cell in cells}:
            names_by_set.setdefault(key, []).append(name)
    return names_by_set
