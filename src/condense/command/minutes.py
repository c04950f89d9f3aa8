"""How many networks, epochs and steps fit into the minutes that a user of `condense run` has, by the
estimate."""

from __future__ import annotations

import math
import shlex
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from condense.command.requests import CHOSEN, Request, Work, is_dataset, plan_request
from condense.config import UserError
from condense.estimate import estimate_cells
from condense.files import read_request
from condense.machine import runtime
from condense.plan import DataCell, MetricsCell, ParentCell, SyntheticCell
from condense.specs import catalogue

# Of the minutes, what is trained beforehand may take so much, or what all steps of the method leave
SHARE = 1 / 3
# Networks that were trained for so many epochs serve nearly as well as those of all epochs: where the time is
# short, there are rather fewer networks of so many epochs than more of fewer
ENOUGH_EPOCHS = 4

Planned = Callable[[Request], Work]


def fitted(
    request: Request, data: DataCell, planned: Planned | None = None, *, steps_given: bool = False
) -> Request:
    """`request` with the networks and epochs of what is trained beforehand, and with the steps, that fit into
    its `minutes` together, and with the epochs of judging that fit into as many minutes again.

    Without minutes and steps the recipe may say how many minutes; where it does not, the request is returned
    as it is. There are at most as many steps, networks and epochs as the method's recipe has; what the
    request says is taken as it is. Epochs of judging are named only where those of the scale do not fit. A
    folder that holds this run already says what was chosen. `planned`: the cells of a request for `data`, if
    they are not those of `plan_request`. `steps_given`: elsewhere than in the request.
    Raises UserError if no step fits, and for what `planned` refuses.
    """
    request = _with_minutes(request, steps_given)
    if request.minutes is None:
        return request
    if request.minutes <= 0 or not math.isfinite(request.minutes):
        raise UserError(f"--minutes: a positive number is needed, found {request.minutes:g}")
    recipe = catalogue.recipe(request.method)
    if steps_given or request.steps is not None:
        raise UserError("--steps: --minutes chooses these; leave one of both options out")
    if not recipe.number_of_steps and recipe.makes_set:
        raise UserError(f"--minutes: '{recipe.name}' takes no steps to choose; leave the option out")
    planned = planned or partial(plan_request, data=data)
    return _chosen_before(request) or _Choice(planned, 60 * request.minutes).of(request)


def _with_minutes(request: Request, steps_given: bool) -> Request:
    own = catalogue.recipe(request.method).minutes
    if own is None or steps_given or (request.minutes, request.steps) != (None, None):
        return request
    return replace(request, minutes=own)


def command(request: Request) -> str:
    """What does the same with all that was chosen, for whoever wants to repeat it elsewhere."""
    plain, words = Request(request.images, request.out), [str(request.images)]
    always = ("method", "ipc", "steps", "out")
    chosen = ("pretrain_networks", "pretrain_epochs", "epochs", "scale", "arch", "resize", "test")
    asked = (*always[:-1], *chosen, "image_column", "label_column", "ground", "seed", "device", "threads")
    for name in (*asked, "mlflow", "out"):
        value = getattr(request, name)
        if name in always or value != getattr(plain, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(["condense", "run", *words])


def recipe_steps(request: Request, data: DataCell) -> int:
    """The steps of the method's own recipe for so many images a class."""
    return plan_request(_as_published(request), data).sets[0].recipe.number_of_steps


def _as_published(request: Request) -> Request:
    """The request at the method's own settings, before anything is chosen."""
    return replace(request, scale="paper", steps=None)


def _chosen_before(request: Request) -> Request | None:
    path = Path(request.out) / "request.json"
    if not path.is_file():
        return None
    try:
        known = read_request(path)
    except UserError:
        return None  # whoever binds the folder says so
    if (known.method, known.minutes) != (request.method, request.minutes) or known.steps is None:
        return None
    asked = {name: getattr(request, name) for name in CHOSEN}
    return replace(
        request, **{name: getattr(known, name) if asked[name] is None else asked[name] for name in CHOSEN}
    )


@dataclass(frozen=True)
class _Choice:
    """What fits into so many seconds."""

    planned: Planned
    seconds: float

    def of(self, request: Request) -> Request:
        return self.with_epochs(self.with_steps(self.with_pretraining(request)))

    def with_pretraining(self, request: Request) -> Request:
        """The networks and the epochs of what is trained beforehand.

        As many epochs as the recipe has, and with these as many networks; where not even a few do, a few
        networks of as many epochs; where these have not enough epochs, fewer networks.
        """
        own = self.planned(_as_published(request))
        recipe, parents = own.sets[0].recipe, [cell for cell in own.parents if cell.epochs]
        if not parents:
            return request
        most = request.pretrain_networks or recipe.networks_before
        epochs = request.pretrain_epochs or min(cell.epochs for cell in parents)
        steps = replace(request, steps=recipe.number_of_steps)
        left = self.seconds - _cost(request, (), self.planned(steps).sets[:1], ())
        seconds = max(SHARE * self.seconds, left)

        def fits(networks: int, epochs: int) -> bool:
            return self.costs_beforehand(given(networks, epochs)) <= seconds

        def given(networks: int, epochs: int) -> Request:
            return replace(request, pretrain_networks=networks or None, pretrain_epochs=epochs)

        few = request.pretrain_networks or min(most, recipe.few_before)
        if fits(few, epochs):
            return given(_most(few, most, lambda networks: fits(networks, epochs)), epochs)
        least = request.pretrain_epochs or 1
        enough = max(least, min(epochs, ENOUGH_EPOCHS))
        fewest = request.pretrain_networks or min(few, 1)
        networks = _most(fewest, few, lambda networks: fits(networks, enough))
        return given(networks, _most(least, epochs, lambda epochs: fits(networks, epochs)))

    def costs_beforehand(self, request: Request) -> float:
        """Without end where a term needs more networks, or a schedule more epochs."""
        try:
            parents = self.planned(request).parents
        except UserError:
            return math.inf
        return _cost(request, [cell for cell in parents if cell.epochs], (), ())

    def with_steps(self, request: Request) -> Request:
        """Raises UserError if what has to be made before the first step leaves no time for it."""

        def cost(steps: int) -> float:
            work = self.planned(replace(request, steps=steps))
            return _cost(request, work.parents, work.sets[:1], ())

        own = self.planned(_as_published(request)).sets[0].recipe.number_of_steps
        steps = bisect_right(range(1, own + 1), self.seconds, key=cost)
        if not steps:
            smaller = "" if is_dataset(request.images) else "smaller images (--resize), or "
            raise UserError(
                f"--minutes {self.seconds / 60:g}: '{request.method}' takes about {cost(1) / 60:.1f} minutes "
                "here for one step and what has to be made before it, the least of it; give more minutes, "
                f"{smaller}a method that trains nothing before, such as --method dm"
            )
        return replace(request, steps=steps)

    def with_epochs(self, request: Request) -> Request:
        """Without epochs of its own where those of the scale fit; at least one."""
        scales = self.planned(request).metrics
        if not scales or request.epochs is not None or _cost(request, (), (), scales) <= self.seconds:
            return request

        def cost(epochs: int) -> float:
            return _cost(request, (), (), self.planned(replace(request, epochs=epochs)).metrics)

        longest = max(cell.protocol.epochs for cell in scales)
        return replace(request, epochs=max(1, bisect_right(range(1, longest + 1), self.seconds, key=cost)))


def _most(least: int, most: int, fits: Callable[[int], bool]) -> int:
    """The largest number from `least` to `most` that fits, less fitting wherever more does; `least` if none
    does."""
    return max(
        least, least - 1 + bisect_left(range(least, most + 1), True, key=lambda number: not fits(number))
    )


def _cost(
    request: Request,
    parents: Iterable[ParentCell],
    sets: Iterable[SyntheticCell],
    metrics: Iterable[MetricsCell],
) -> float:
    on_gpu = runtime.gpu_usable(request.device)
    return estimate_cells(parents, sets, metrics, threads=request.threads, gpu=on_gpu).seconds
