"""Which evaluations may stand beside which: those by one judge, on one dataset. Floor 0.

A judge is all that decides what networks trained on a set make of it: the data, the architecture and the
protocol (`MetricsCell.judge`). Beside the accuracy of a method stand those of the baselines, under the same
judge, at the same images a class; a number of another judge never takes their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from condense.plan.cells import MetricsCell, SyntheticCell
from condense.plan.maker import Maker
from condense.plan.rows import Run
from condense.specs import catalogue
from condense.specs.common import Ipc

Cells = tuple[MetricsCell, ...]
_KEPT = ("snapshots",)  # settings of recipes that decide what is kept of a set on its way, not the set


class Place(NamedTuple):
    """Where an accuracy stands: what judged, which method, condensed by which architecture ('none' by none),
    at how many images a class."""

    judge: str
    method: str
    arch: str
    ipc: Ipc


def place_of(cell: MetricsCell) -> Place:
    """Where the accuracy of a cell stands."""
    made = cell.synthetic
    return Place(cell.judge, made.recipe.name, made.arch, made.ipc)


@dataclass(frozen=True)
class Baseline:
    """What stands beside a run: the run of a baseline, or (None) why there is none."""

    run: Run | None
    reason: str = ""


class Comparable:
    """The accuracies of a scale, each of one number a network, of sets whose recipes nothing but the scale
    has changed."""

    def __init__(self, maker: Maker, cells: Iterable[MetricsCell]):
        self._maker = maker
        # By place and number of networks, by seed
        self._asked: dict[Place, dict[int, dict[int, MetricsCell]]] = {}
        over_steps: dict[Place, dict[int, dict[int, MetricsCell]]] = {}
        for cell in cells:
            if (cell.task.comparable or cell.task.traces_accuracy) and self.is_unchanged(cell):
                places = over_steps if cell.task.over_steps else self._asked
                of_networks = places.setdefault(place_of(cell), {})
                of_networks.setdefault(cell.n_networks, {})[cell.synthetic.seed] = cell
        # Of each place the cells of most networks, where several tables ask for other numbers; and those over
        # the steps of the condensation
        self.by_place, self.over_steps = _of_most(self._asked), _of_most(over_steps)
        self._archs: dict[Place, list[str]] = {}
        for place in self.by_place:
            self._archs.setdefault(place._replace(arch=""), []).append(place.arch)

    def is_unchanged(self, cell: MetricsCell) -> bool:
        """Whether its set is what the scale makes by its method, without a table's or figure's own change."""
        return not self.changed(cell)

    def changed(self, cell: MetricsCell) -> dict[str, Any]:
        """The settings of the recipe of its set that a table or figure changes, as they are there; None is
        one that is left out."""
        made = cell.synthetic
        plain = self._maker.recipe(made.recipe.name, made.data, made.ipc, {})
        over = _KEPT if cell.task.over_steps else ()
        part, wanted = made.recipe.computed_part(), plain.computed_part()
        differing = [name for name in {**part, **wanted} if part.get(name) != wanted.get(name)]
        return {name: part.get(name) for name in differing if name not in over}

    def baselines(self, run: Run, alike: bool = True) -> dict[str, Baseline]:
        """By the names of `catalogue.BASELINES`, what stands beside a run; empty for the whole training set,
        beside which nothing has the same size. `alike` as in `beside`."""
        if any(cell.synthetic.ipc == "full" or not cell.task.comparable for cell in run.cells):
            return {}
        return {name: self._baseline(name, run, alike) for name in catalogue.BASELINES}

    def _baseline(self, name: str, run: Run, alike: bool) -> Baseline:
        groups = [self.beside(name, group, alike) for group in run.groups]
        missing = [group[0] for group, cells in zip(run.groups, groups, strict=True) if not cells]
        if not missing:
            return Baseline(Run(run.dataset, tuple(groups)))
        judges = ", ".join(dict.fromkeys(f"{cell.protocol.name} with {cell.eval_arch}" for cell in missing))
        return Baseline(None, f"{name} was not judged by {judges}, ipc {missing[0].synthetic.ipc}")

    def beside(self, name: str, cells: Sequence[MetricsCell], alike: bool = True) -> Cells:
        """The cells of the baseline `name` beside those of one method; () where it was not judged so.

        Where an architecture chooses, it is that which the method's own chose, else that of the only
        architecture that chose here. With `alike` they are of the seeds and the number
        of networks of `cells`, where there are such ones; else all seeds of most networks.
        """
        place = place_of(cells[0])._replace(method=name)
        here = self._archs.get(place._replace(arch=""), [])
        archs = [place.arch, "none", *(here if len(here) == 1 else ())]
        asked = [place._replace(arch=arch) for arch in archs]
        at = next((other for other in asked if other in self.by_place), None)
        if at is None:
            return ()
        of_networks = self._asked[at].get(cells[0].n_networks, {}) if alike else {}
        seeds = [cell.synthetic.seed for cell in cells]
        same = tuple(of_networks[seed] for seed in seeds if seed in of_networks)
        return same if len(same) == len(seeds) else self.by_place[at]

    def judged(self, cells: Sequence[MetricsCell], protocol: str, baseline: str = "") -> Cells:
        """The cells of the sets of `cells`, or of a `baseline` beside them, with networks of the same
        architecture by another `protocol` as the scale has it; () where there are none."""
        arch = cells[0].eval_arch
        asked = [self._judged(cell.synthetic, arch, protocol, cell.n_networks) for cell in cells]
        planned = [cell for cell in asked if cell]
        return self.beside(baseline or cells[0].synthetic.recipe.name, planned) if planned else ()

    def is_judged_by(self, cell: MetricsCell, protocol: str) -> bool:
        """Whether `protocol`, as the scale has it for the method, is what judged a cell."""
        asked = self._judged(cell.synthetic, cell.eval_arch, protocol)
        return asked is not None and asked.judge == cell.judge

    def whole(self, cell: MetricsCell, protocol: str) -> Cells:
        """The cells of networks of the same architecture that `protocol`, with the scale's changes for it,
        trained on the whole training set; () where there are none."""
        made = self._maker.synthetic(cell.synthetic.data, catalogue.WHOLE, cell.eval_arch, "full", 0)
        asked = self._judged(made, cell.eval_arch, protocol)
        return self.by_place.get(place_of(asked), ()) if asked else ()

    def _judged(
        self, synthetic: SyntheticCell, arch: str, protocol: str, n_networks: int | None = None
    ) -> MetricsCell | None:
        """The cell of a set, or of the whole training set, by a protocol; None where the protocol cannot
        judge it."""
        if not synthetic.recipe.makes_set and self._maker.protocol(protocol).stores_labels:
            return None
        return self._maker.metrics(synthetic, arch, protocol, n_networks)


def _of_most(asked: Mapping[Place, Mapping[int, Mapping[int, MetricsCell]]]) -> dict[Place, Cells]:
    """Of each place the cells of most networks, by seed."""
    most = {place: of_networks[max(of_networks)] for place, of_networks in asked.items()}
    return {place: tuple(cells[seed] for seed in sorted(cells)) for place, cells in most.items()}
