"""How many steps and epochs fit into the minutes that a user of `condense run` has, by the estimate."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from condense.command.requests import Request, plan_request
from condense.config import UserError
from condense.estimate import estimate_cells
from condense.files import read_request
from condense.machine import runtime
from condense.plan import DataCell, MetricsCell, ParentCell, SyntheticCell
from condense.specs import catalogue


def fitted(request: Request, data: DataCell) -> Request:
    """`request` with the steps and the epochs that fit into its `minutes`: these hold for condensing, with
    critics and banks, and once more for judging.

    There are at most as many steps as the method's recipe has; epochs are named only where those of the scale
    do not fit. A folder that holds this run already says what was chosen.
    Raises UserError if no step fits, and for what `plan_request` refuses.
    """
    if request.minutes is None:
        return request
    if request.minutes <= 0 or not math.isfinite(request.minutes):
        raise UserError(f"--minutes: a positive number is needed, found {request.minutes:g}")
    recipe = catalogue.recipe(request.method)
    for name, given in (("steps", request.steps), ("epochs", request.epochs)):
        if given is not None:
            raise UserError(f"--{name}: --minutes chooses these; leave one of both options out")
    if not recipe.number_of_steps and recipe.makes_set:
        raise UserError(f"--minutes: '{recipe.name}' takes no steps to choose; leave the option out")
    if earlier := _chosen_before(request):
        return earlier
    chosen = _with_steps(request, data, 60 * request.minutes)
    return _with_epochs(chosen, data, 60 * request.minutes)


def command(request: Request) -> str:
    """What says the same with the chosen steps and epochs, for whoever wants to repeat it elsewhere."""
    epochs = "" if request.epochs is None else f" --epochs {request.epochs}"
    return f"--method {request.method} --steps {request.steps}{epochs}"


def recipe_steps(request: Request, data: DataCell) -> int:
    """The steps of the method's own recipe for so many images a class."""
    cell = plan_request(replace(request, scale="paper", steps=None), data).sets[0]
    return cell.recipe.number_of_steps


def _chosen_before(request: Request) -> Request | None:
    path = Path(request.out) / "request.json"
    if not path.is_file():
        return None
    try:
        known = read_request(path)
    except UserError:
        return None  # whoever binds the folder says so
    if known.minutes != request.minutes or known.steps is None:
        return None
    return replace(request, steps=known.steps, epochs=known.epochs)


def _with_steps(request: Request, data: DataCell, seconds: float) -> Request:
    """Raises UserError if what has to be made before the first step leaves no time for it."""

    def cost(steps: int) -> float:
        work = plan_request(replace(request, steps=steps), data)
        return _cost(request, work.parents, work.sets[:1], ())

    steps = _most(recipe_steps(request, data), cost, seconds)
    if not steps:
        raise UserError(
            f"--minutes {seconds / 60:g}: '{request.method}' takes about {cost(1) / 60:.1f} minutes here for "
            "one step and what has to be made before it; give more minutes, or a method that trains nothing "
            "before, such as --method dm"
        )
    return replace(request, steps=steps)


def _with_epochs(request: Request, data: DataCell, seconds: float) -> Request:
    """Without epochs of its own where those of the scale fit; at least one."""
    scales = plan_request(request, data).metrics
    if _cost(request, (), (), scales) <= seconds:
        return request

    def cost(epochs: int) -> float:
        return _cost(request, (), (), plan_request(replace(request, epochs=epochs), data).metrics)

    longest = max(cell.protocol.epochs for cell in scales)
    return replace(request, epochs=max(1, _most(longest, cost, seconds)))


def _most(full: int, cost: Callable[[int], float], seconds: float) -> int:
    """The largest number up to `full` that costs no more than so many seconds, more costing more; 0 if none
    does."""
    return bisect_right(range(1, full + 1), seconds, key=cost)


def _cost(
    request: Request,
    parents: Iterable[ParentCell],
    sets: Iterable[SyntheticCell],
    metrics: Iterable[MetricsCell],
) -> float:
    on_gpu = runtime.gpu_usable(request.device)
    return estimate_cells(parents, sets, metrics, threads=request.threads, gpu=on_gpu).seconds
