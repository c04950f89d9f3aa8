"""How far a run had come at its last checkpoint, and whether that fits the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from condense.engines.run import Run


@dataclass(frozen=True)
class Progressed:
    """How many steps a checkpoint of a set has seen, and the history of the loss so far."""

    done: int
    history: list[dict[str, int | float]]


def below(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `start`, by the rest of their names."""
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def check_progress(
    run: Run, tensors: dict[str, Tensor], state: Progressed, expected: dict[str, Tensor]
) -> None:
    """Raises UserError for a checkpoint that is not of this set, or whose steps, history and snapshots do
    not fit each other."""
    check, steps, every = run.checkpoint.check, run.steps, run.recipe.snapshots
    check_shapes = run.checkpoint.check_shapes
    check_shapes(tensors, expected)
    check(0 < state.done <= steps, f"step {state.done} is none of {steps}")
    told = list(range(run.every, state.done + 1, run.every)) + (
        [steps] if state.done == steps and steps % run.every else []
    )
    names = {"step", *run.columns}
    rows_fit = [row.get("step") for row in state.history] == told and all(
        row.keys() == names for row in state.history
    )
    check(rows_fit, f"its history is not that of {state.done} steps of {run.recipe.name}")
    waiting = state.done - (told[-1] if told else 0)
    check(("window" in tensors) == (waiting > 0), "it has no history of its last steps, or too much of it")
    if waiting:
        check_shapes(tensors, {"window": torch.empty(waiting, len(run.columns))})
    taken = [str(step) for step in range(every, state.done + 1, every)] if every else []
    check(sorted(below(tensors, "snapshot.")) == sorted(taken), "its snapshots are not those of its steps")
    check_shapes(tensors, {f"snapshot.{step}": run.outcome.images for step in taken})
    sizes = below(tensors, "optimizer.squares.").values()
    check(all((size >= 0).all() for size in sizes), "squares that its optimiser keeps are negative")
    check(
        run.plateau is None or 0 < tensors["plateau.rate"].item() <= run.recipe.optimizer.lr,
        "its rate is not one of the recipe",
    )
