"""The run of one set through its steps, whatever the engine: steps of the optimiser, history, divergence,
snapshots, checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from condense.config import UserError
from condense.engines.moving import MovingImages
from condense.engines.orders import Outcome
from condense.engines.progressed import Progressed, below, check_progress
from condense.files.checkpoints import Checkpoint
from condense.kernels.precision import Types
from condense.machine.progress import Progress
from condense.machine.runtime import note
from condense.machine.stopping import stop_if_asked
from condense.specs import MovedRecipe
from condense.training.image_optimizers import Stalling, optimizer_of

_log = logging.getLogger(__name__)
_DIVERGED = 1e4  # normalised pixels beyond this are no images any more
_ROWS = 200  # rows of the history of a run, about
# (), with gradient, and its parts by the names of their columns, without
Loss = tuple[Tensor, Mapping[str, Tensor]]


class Run:
    """One set on its way through the steps of its recipe.

    An engine's subclass writes `step`, which gives the loss, and says in `kept` and `take_up` what else it
    keeps from step to step. Everything that the settings of `MovedRecipe` ask for is done here: pixels are
    brought back into their bounds, the optimiser steps, a plateau lowers its rate, images are averaged and
    kept.
    """

    clips_first = True  # whether pixels are brought back before a step; else `step` does it where it belongs

    def __init__(
        self,
        recipe: MovedRecipe,
        images: MovingImages,
        columns: Sequence[str],
        checkpoint: Checkpoint,
        classes: int,
        types: Types | None = None,
    ):
        """`columns` name the parts of the loss, which stand beside it in the history; `classes`: how many the
        whole dataset has.

        `types`: in which the engine computes, where recipes have the setting `precision`. Raises ValueError
        if they are not those of it.
        """
        if getattr(recipe, "precision", None) != (types.precision if types else None):
            raise ValueError(
                f"engine '{recipe.engine}': its recipes have a 'precision', of which Run gets no `types`, or "
                "those of another"
            )
        self.types = types
        self.recipe, self.moving, self.columns, self.checkpoint = (
            recipe,
            images,
            ["loss", *columns],
            checkpoint,
        )
        self.device = images.values.device
        turns = images.labels[:, 0].tolist()
        self.optimizer = optimizer_of(images.values, recipe.optimizer, turns, classes)
        self.plateau = (
            Stalling(self.optimizer, recipe.optimizer.plateau, self.device)
            if recipe.optimizer.plateau
            else None
        )
        self.outcome = Outcome(images.kept, decode=recipe.decode)
        self.window: list[Tensor] = []  # the losses of the steps since the last row of the history
        self.done = 0
        self.steps = recipe.number_of_steps
        self.every = max(1, min(100, self.steps // _ROWS))

    def step(self, shared: Any) -> Iterator[Loss]:
        """Gives the loss of a step, or one after the other those of its turns, with what all sets of the job
        share at it.

        The images move along the gradient of a loss before the next is asked for. What an engine does after
        they moved, such as training a network on them, stands behind its last `yield`.
        """
        raise NotImplementedError

    def move(self, shared: Any) -> Tensor:
        """Moves the images by the losses of a step; their sum and their parts before they moved,
        (columns,)."""
        total = torch.zeros((), device=self.device)
        parts = dict.fromkeys(self.columns[1:], total)
        moved = False
        for loss, told in self.step(shared):
            self._descend(loss)
            moved = moved or loss.requires_grad
            total = total + loss.detach()
            if not told.keys() <= parts.keys():
                names = [name for name in told if name not in parts]
                raise ValueError(
                    f"engine '{self.recipe.engine}': a step tells of {names}, which are none of its columns"
                )
            parts |= {name: value.detach() for name, value in told.items()}
        if not moved:
            raise UserError(
                f"{self.recipe.name}: nothing in its loss depends on the images at step {self.done + 1}, so "
                "they would stay as they are; give a term a weight above 0, or compute the loss from the "
                "images that the engine shows"
            )
        return torch.stack([total, *parts.values()])

    def kept(self) -> dict[str, Tensor]:
        """What the engine keeps from step to step beside the images and the optimiser, by name; always the
        same names and shapes."""
        return {}

    @property
    def remembers(self) -> bool:
        """Whether something of the engine's is kept from step to step."""
        return bool(self.remembered())

    def remembered(self) -> dict[str, Tensor]:
        """The same for what comes and goes, whose names and shapes nobody knows before."""
        return {}

    def take_up(self, tensors: dict[str, Tensor]) -> None:
        """Takes up what a checkpoint has of `kept` and `remembered`."""

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.done >= self.steps

    @property
    def values(self) -> Tensor:
        """What the optimiser moves, (C, ipc, ...)."""
        return self.moving.values

    @property
    def images(self) -> Tensor:
        """The normalised images (C, ipc, ...), without gradient: the last ones, or their mean over the
        steps."""
        return self.moving.kept

    def advance(self, shared: Any) -> None:
        """One step and its bookkeeping. Raises ValueError for an engine that leaves a setting of its recipe
        unused."""
        if self.clips_first:
            self.moving.clip()
        self.optimizer.begin()
        row = self.move(shared)
        if self.types is not None and self.types.forgotten():
            sides = ", ".join(sorted(self.types.forgotten()))
            raise ValueError(
                f"engine '{self.recipe.engine}': 'precision' is not used: a step asks `types` for no type "
                f"of: {sides}"
            )
        if self.plateau is not None:
            self.plateau.see(row[0])
        self.window.append(row)
        self.done += 1
        self.moving.average(self.done)
        if self.done % self.every == 0 or self.finished:
            self._record()
        if self.recipe.snapshots and self.done % self.recipe.snapshots == 0:
            self.outcome.snapshots[self.done] = self.images.clone()

    def _descend(self, loss: Tensor) -> None:
        """A step of the optimiser along the gradient of `loss`; none where nothing in it depends on the
        images."""
        self.optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
            self.optimizer.step()

    def _record(self) -> None:
        """Adds the means of the last steps to the history, after looking for the first value that is no
        number."""
        values = torch.stack(self.window)
        hint = f"lower the learning rate of the images (optimizer: lr) in the recipe{self.checkpoint.blame}"
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            row, column = bad[bad[:, 0] == bad[0, 0]][-1].tolist()
            step = self.done - len(values) + row + 1
            if step == 1:
                hint = "it is so before any image has moved: look at what it computes of these images"
            raise UserError(
                f"{self.recipe.name}: '{self.columns[column]}' is {values[row, column].item()} at step "
                f"{step}; {hint}"
            )
        largest = self.moving.largest
        if not largest < _DIVERGED:
            raise UserError(
                f"{self.recipe.name}: the images diverge at step {self.done}: a normalised pixel is "
                f"{largest:.3g}; {hint}"
            )
        if not self.outcome.history and self.moving.unmoved:
            note(
                f"{self.recipe.name}: step {self.done} moves no image: its loss does not change with them, "
                "as a variance does not with one image a class"
            )
        means = values.double().mean(0).tolist()
        self.outcome.history.append({"step": self.done, **dict(zip(self.columns, means, strict=True))})
        self.window.clear()

    def finish(self) -> Outcome:
        """The outcome, after the last step."""
        self.outcome.images = self.images
        self.outcome.precision = self.types.told() if self.types is not None else {}
        return self.outcome

    def save(self) -> None:
        """Writes a checkpoint."""
        tensors = {**self._state(), **self.remembered()}
        tensors |= {f"snapshot.{step}": images for step, images in self.outcome.snapshots.items()}
        if self.window:
            tensors["window"] = torch.stack(self.window)
        state = {"done": self.done, "history": self.outcome.history}
        self.checkpoint.write({name: tensor.cpu().numpy() for name, tensor in tensors.items()}, state)

    def _state(self) -> dict[str, Tensor]:
        optimizer = {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}
        plateau = {
            f"plateau.{name}": tensor
            for name, tensor in (self.plateau.state() if self.plateau else {}).items()
        }
        return self.moving.state() | optimizer | plateau | self.kept()

    def resume(self) -> None:
        """Takes up the last checkpoint, if there is one. Raises UserError if it is damaged, or of another
        set."""
        # Which is infinite before the first step
        loaded = self.checkpoint.load(Progressed, unbounded=("plateau.best",))
        if loaded is None:
            return
        tensors, state = (
            {name: torch.from_numpy(value).to(self.device) for name, value in loaded[0].items()},
            loaded[1],
        )
        check_progress(self, tensors, state, self._state())
        self.moving.load(tensors)
        self.optimizer.load(below(tensors, "optimizer."))
        if self.plateau:
            self.plateau.load(below(tensors, "plateau."))
        self.take_up(tensors)
        self.done, self.outcome.history, self.window = (
            state.done,
            state.history,
            list(tensors.get("window", ())),
        )
        _log.info("resumed from step %d of %d", self.done, self.steps)
        self.outcome.snapshots = {int(step): tensor for step, tensor in below(tensors, "snapshot.").items()}


def run_steps(runs: Sequence[Run], subject: str, shared_at: Callable[[int], Any]) -> list[Outcome]:
    """All steps of the runs of a job, from their last checkpoints; each ends as it would alone.

    `subject` is shown beside the progress; `shared_at` gives what the runs share at a step, which is used
    before the next is asked for.
    Raises UserError if the loss or the images of one of them diverge.
    """
    for run in runs:
        run.resume()
    first, steps = min(run.done for run in runs), max(run.steps for run in runs)
    names = ", ".join(dict.fromkeys(run.recipe.name for run in runs))
    bar = Progress(f"{names} on {subject}", steps, start=first)
    try:
        for step in range(first, steps):
            shared = shared_at(step)
            working = [run for run in runs if run.done == step and not run.finished]
            for run in working:
                run.advance(shared)
            history = working[0].outcome.history
            bar.update(step + 1, {"loss": history[-1]["loss"]} if history else {})
            if step + 1 < steps and any(run.checkpoint.due() for run in runs):
                for run in runs:
                    run.save()
                stop_if_asked()
    finally:
        bar.close()
    return [run.finish() for run in runs]
