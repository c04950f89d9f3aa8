"""How many steps and epochs fit into the minutes that a user of `condense run` has, by the estimate."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from condense.command.requests import Request, Work, plan_request
from condense.config import UserError
from condense.estimate import estimate_cells
from condense.files import read_request
from condense.machine import runtime
from condense.plan import DataCell
from condense.specs import catalogue

_SHARES = (0.2, 0.8)  # of all steps: where the cost is asked, which is a line


def fitted(request: Request, data: DataCell) -> Request:
    """`request` with the steps and the epochs that fit into its `minutes`: these hold for condensing, with
    critics and banks, and once more for judging.

    There are at most as many steps as the method's recipe has, and epochs as the protocol has; no step and no
    epoch is tuned. A folder that holds this run already says what was chosen.
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
    earlier = _chosen_before(request)
    return earlier or _with_epochs(_with_steps(request, data), data)


def command(request: Request) -> str:
    """What says the same with the chosen steps and epochs, for whoever wants to repeat it elsewhere."""
    return f"--method {request.method} --steps {request.steps} --epochs {request.epochs}"


def _chosen_before(request: Request) -> Request | None:
    path = Path(request.out) / "request.json"
    if not path.is_file():
        return None
    try:
        known = read_request(path)
    except UserError:
        return None  # whoever binds the folder says so
    if known.minutes != request.minutes or known.steps is None or known.epochs is None:
        return None
    return replace(request, steps=known.steps, epochs=known.epochs)


def _with_steps(request: Request, data: DataCell) -> Request:
    """Raises UserError if what has to be made before the first step leaves no time for it."""
    full = recipe_steps(request, data)
    low, high = (
        sorted({max(1, round(share * full)) for share in _SHARES} | {full})[:2] if full > 1 else (1, 1)
    )
    ends = [_seconds(plan_request(replace(request, steps=steps), data), request) for steps in (low, high)]
    slope = (ends[1] - ends[0]) / max(high - low, 1)
    before, most = ends[0] - slope * low, 60 * request.minutes_given
    steps = full if slope <= 0 else min(full, math.floor((most - before) / slope))
    # The estimate rounds short jobs up
    while steps > 1 and _seconds(plan_request(replace(request, steps=steps), data), request) > most:
        steps = math.floor(0.95 * steps)
    if steps < 1 or _seconds(plan_request(replace(request, steps=steps), data), request) > 1.02 * most:
        raise UserError(
            f"--minutes {request.minutes_given:g}: what '{request.method}' needs before its first step takes "
            f"about {before / 60:.1f} minutes here; give more, or a method that trains nothing before, "
            "such as --method dm"
        )
    return replace(request, steps=steps)


def recipe_steps(request: Request, data: DataCell) -> int:
    """The steps of the method's own recipe for so many images a class."""
    cell = plan_request(replace(request, scale="paper", steps=None), data).sets[0]
    return cell.recipe.number_of_steps


def _with_epochs(request: Request, data: DataCell) -> Request:
    cells = plan_request(request, data).metrics
    full, most = max(cell.protocol.epochs for cell in cells), 60 * request.minutes_given
    epochs = full
    while epochs > 1 and _judging(plan_request(replace(request, epochs=epochs), data), request) > most:
        epochs = math.floor(0.9 * epochs)
    return replace(request, epochs=epochs)


def _seconds(work: Work, request: Request) -> float:
    """Of condensing, with all that is made before."""
    on_gpu = runtime.gpu_usable(request.device)
    return estimate_cells(work.parents, work.sets[:1], (), threads=request.threads, gpu=on_gpu).seconds


def _judging(work: Work, request: Request) -> float:
    on_gpu = runtime.gpu_usable(request.device)
    return estimate_cells((), (), work.metrics, threads=request.threads, gpu=on_gpu).seconds
