"""One-level matching: the synthetic images follow the gradient of a sum of terms over freshly drawn networks.

All classes of a shard go through each step together, with a leading class axis. What is drawn for a class depends on
the run seed, the class and the step only, so a class gives the same images alone, in a shard, or with all others. Several sets
with the same stream, such as other methods or ipc, go through each step together too, and share its real side.
Source: DM (Zhao and Bilen 2023), algorithm 1; cpdm, algorithm 1.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from condense.augment import formations
from condense.checkpoints import Checkpoint, stop_if_asked
from condense.config import UserError
from condense.engines.starts import check_starts, initial_images
from condense.engines.statistics import Statistic
from condense.engines.streams import RealStream
from condense.engines.terms import TERMS, weight_at
from condense.engines.views import RealSide, Views, WatchedSide
from condense.graphs import Recorded
from condense.progress import Progress
from condense.specs import Recipe, Weight
from condense.training.optimizers import Stalling, optimizer_of
from condense.transfer import Slots

_log = logging.getLogger(__name__)
_DIVERGED = 1e4  # normalised pixels beyond this are no images any more
_ROWS = 200  # rows of the history of a run, about


@dataclass
class Outcome:
    """Normalised images (C, ipc, channels, size, size), the history of the loss terms, and snapshots {step: images}.

    `recorded`: whether steps were repeated as recorded, as CUDA graphs.
    """

    images: Tensor
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)
    recorded: bool = False


@dataclass(frozen=True)
class Progressed:
    """How many steps a checkpoint of a set has seen, and the history of the loss so far."""

    done: int
    history: list[dict[str, int | float]]


class Matching:
    """One set: its images, its optimiser and its history. `run` alone or `run_together` with others makes it."""

    def __init__(self, recipe: Recipe, stream: RealStream, *, ipc: int, critic: nn.Module | None, checkpoint: Checkpoint):
        check_starts(recipe, stream.data, stream.classes, ipc)
        if not stream.serves(recipe):
            raise ValueError(f"{recipe.name}: its networks, batches or augmentation are not those of the stream")
        self.recipe, self.stream, self.critic, self.checkpoint = recipe, stream, critic, checkpoint
        self.data = stream.data
        start = initial_images(self.data, stream.classes, ipc, recipe.init, stream.seed, recipe.decode)
        start = self.data.denormalise(start) if recipe.optimised == "pixels" else start
        self.values = start.to(stream.device).requires_grad_(True)  # what the optimiser moves
        decoded = ipc * (recipe.decode.factor**2 if recipe.decode else 1)
        self.averaged = self.values.detach().clone() if recipe.averaging is not None else None
        self.labels = torch.tensor(stream.classes, device=stream.device)[:, None].expand(-1, decoded)
        self.optimizer = optimizer_of([self.values], recipe.optimizer, len(self.data.counts))
        self.plateau = Stalling(self.optimizer, recipe.optimizer.plateau, stream.device) if recipe.optimizer.plateau else None
        self.statistics: tuple[Statistic, ...] = tuple(one for term in recipe.terms for one in TERMS[term.name].statistics(term))
        stream.want(self.statistics)
        self.outcome = Outcome(self.images)
        self.window: list[Tensor] = []
        self.memory: dict[str, dict[str, Tensor]] = {label: {} for label in recipe.term_labels}  # of each term
        self.done = 0
        self._side: RealSide | None = None  # of the step at work
        repeats = stream.recorder is not None and self.optimizer.repeats and self.plateau is None
        self._recorded = self._recorded_step() if repeats else None
        falling = repeats and any(isinstance(term.weight, Weight) for term in recipe.terms)
        self._weights = Slots([torch.zeros(len(recipe.terms))], stream.device) if falling else None
        self._rows = max(1, min(100, recipe.steps // _ROWS))
        # Pixels of 0 and 1, in units of what is optimised; and of 0.5, which fills up what a formation does not divide.
        constants = list(zip(self.data.mean, self.data.std, strict=True))
        low, high, grey = ([(level - mean) / std for mean, std in constants] for level in (0.0, 1.0, 0.5))
        self._grey = torch.tensor(grey, device=stream.device)
        ends = ([0.0], [1.0]) if recipe.optimised == "pixels" else (low, high)
        self._ends = [torch.tensor(end, device=stream.device)[:, None, None] for end in ends]

    def _recorded_step(self) -> Recorded:
        name, coarsest = f"{self.recipe.name}: a step", self.stream.synthetic_type
        return Recorded(self._step, self.stream.recorder, state=self._changing, computed_in=coarsest, name=name)

    def _changing(self) -> list[Tensor]:
        """The tensors that a step changes."""
        return [self.values, *self.optimizer.state().values()]

    @property
    def images(self) -> Tensor:
        """The normalised images (C, ipc, ...), without gradient: the last ones, or their mean over the steps."""
        return self._normalised(self.values.detach() if self.averaged is None else self.averaged)

    def _normalised(self, values: Tensor) -> Tensor:
        return self.data.normalise(values) if self.recipe.optimised == "pixels" else values

    def run(self) -> Outcome:
        """All steps, from the last checkpoint if there is one. Raises UserError if the loss or the images diverge."""
        return run_together([self])[0]

    @property
    def finished(self) -> bool:
        return self.done >= self.recipe.steps

    def advance(self, side: RealSide) -> None:
        """One step, against the real side of that step."""
        self._side = side
        self.window.append(self._repeated(side) if self._recorded is not None else self._step())
        self.done += 1
        if self.averaged is not None:
            # Polynomial-decay averaging (Shamir and Zhang 2013, section 4): a constant share of the run, whatever its length.
            eta = self.recipe.averaging
            self.averaged.lerp_(self.values.detach(), (eta + 1) / (eta + self.done))
        if self.done % self._rows == 0 or self.finished:
            self._record()
        if self.recipe.snapshots and self.done % self.recipe.snapshots == 0:
            self.outcome.snapshots[self.done] = self.images.clone()

    def _repeated(self, side: WatchedSide) -> Tensor:
        """A step by recorded work, which this set leaves to others as soon as one shows that steps are not all the same work."""
        side.read = False
        if self._weights is not None:
            weights = [weight_at(term.weight, self.done, self.recipe.steps) for term in self.recipe.terms]
            self._weights.fill([torch.tensor(weights)])
        row = self._recorded().clone()
        if side.read or any(self.memory.values()):
            why = "asks the host at every step" if side.read else "keeps something from step to step"
            _log.info("%s: a term %s, so steps are not recorded", self.recipe.name, why)
            self._recorded = self._weights = None
        return row

    def _step(self) -> Tensor:
        """A step of the optimiser for every turn of the terms: the loss and each term before it, (1 + terms,)."""
        if self.recipe.clip:
            with torch.no_grad():
                self.values.clamp_(*self._ends)
        values: dict[int, Tensor] = {}
        total = torch.zeros((), device=self.stream.device)
        for turn in sorted({term.turn for term in self.recipe.terms}):
            total = total + self._take_turn(self._side, turn, values)
        if self.plateau is not None:
            self.plateau.see(total)
        return torch.stack([total, *(values[place] for place in range(len(values)))])

    def _take_turn(self, side: RealSide, turn: int, values: dict[int, Tensor]) -> Tensor:
        """A step of the optimiser along the terms of a turn, whose values it adds by their place; their weighted sum."""
        synthetic = formations.decode(self._normalised(self.values), self.recipe.decode, self._grey)
        views = Views(side, synthetic, self.labels, self.critic, self.stream.synthetic_type, self.statistics)
        total = torch.zeros((), device=self.stream.device)
        for place, (term, memory) in enumerate(zip(self.recipe.terms, self.memory.values(), strict=True)):
            if term.turn != turn:
                continue
            weight = self._weight(place)
            views.memory = memory
            # What weighs nothing is not computed, where the host knows of it.
            weighs = isinstance(weight, Tensor) or weight != 0
            value = TERMS[term.name].value(views, term).sum() if weighs else torch.zeros((), device=self.stream.device)
            total = total + weight * value
            values[place] = value.detach()
        self.optimizer.zero_grad()
        if total.requires_grad:  # not where all weights of the turn are 0
            total.backward()
            self.optimizer.step()
        return total.detach()

    def _weight(self, place: int) -> float | Tensor:
        """The weight of a term at this step: where steps are recorded and it changes, a tensor that stays where it is."""
        weight = self.recipe.terms[place].weight
        if self._weights is not None and isinstance(weight, Weight):
            return self._weights.tensors[0][place]
        return weight_at(weight, self.done, self.recipe.steps)

    def _record(self) -> None:
        """Adds the means of the last steps to the history, after looking for the first value that is no number."""
        values = torch.stack(self.window)
        names = ["loss", *self.recipe.term_labels]
        hint = f"lower the learning rate of the images (optimizer: lr) in the recipe{self.checkpoint.blame}"
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            row, column = bad[bad[:, 0] == bad[0, 0]][-1].tolist()
            step = self.done - len(values) + row + 1
            raise UserError(f"{self.recipe.name}: '{names[column]}' is {values[row, column].item()} at step {step}; {hint}")
        largest = self._normalised(self.values.detach()).abs().max().item()
        if not largest < _DIVERGED:
            raise UserError(f"{self.recipe.name}: the images diverge at step {self.done}: a normalised pixel is {largest:.3g}; {hint}")
        means = values.double().mean(0).tolist()
        self.outcome.history.append({"step": self.done, **dict(zip(names, means, strict=True))})
        self.window.clear()

    def save(self) -> None:
        """Writes a checkpoint."""
        tensors = {"values": self.values.detach(), **self._kept()}
        tensors |= {f"snapshot.{step}": images for step, images in self.outcome.snapshots.items()}
        if self.window:
            tensors["window"] = torch.stack(self.window)
        state = {"done": self.done, "history": self.outcome.history}
        self.checkpoint.write({name: tensor.cpu().numpy() for name, tensor in tensors.items()}, state)

    def _kept(self) -> dict[str, Tensor]:
        """What the optimiser and the terms keep from step to step."""
        kept = {f"memory.{label}.{name}": tensor for label, own in self.memory.items() for name, tensor in own.items()}
        kept |= {"averaged": self.averaged} if self.averaged is not None else {}
        kept |= {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}
        return kept | {f"plateau.{name}": tensor for name, tensor in (self.plateau.state() if self.plateau else {}).items()}

    def resume(self) -> None:
        """Takes up the last checkpoint, if there is one. Raises UserError if it is damaged, or of another set."""
        found = self.checkpoint.load(Progressed, unbounded=("plateau.best",))  # which is infinite before the first step
        if found is None:
            return
        tensors, state = {name: torch.from_numpy(value).to(self.stream.device) for name, value in found[0].items()}, found[1]
        self._check(tensors, state)
        with torch.no_grad():
            self.values.copy_(tensors["values"])
            if self.averaged is not None:
                self.averaged.copy_(tensors["averaged"])
        self.optimizer.load(_below(tensors, "optimizer."))
        self.memory = {label: _below(tensors, f"memory.{label}.") for label in self.memory}
        if self.plateau:
            self.plateau.load(_below(tensors, "plateau."))
        self.done, self.outcome.history, self.window = state.done, state.history, list(tensors.get("window", ()))
        _log.info("resumed from step %d of %d", self.done, self.recipe.steps)
        self.outcome.snapshots = {int(step): tensor for step, tensor in _below(tensors, "snapshot.").items()}

    def _check(self, tensors: dict[str, Tensor], state: Progressed) -> None:
        """Raises UserError for a checkpoint that is not of this set, or whose steps, history and snapshots do not fit each other."""
        check, steps, every = self.checkpoint.check, self.recipe.steps, self.recipe.snapshots
        kept = {name: value for name, value in self._kept().items() if not name.startswith("memory.")}
        check_shapes = self.checkpoint.check_shapes
        check_shapes(tensors, {"values": self.values, **kept})
        check(0 < state.done <= steps, f"step {state.done} is none of {steps}")
        told = list(range(self._rows, state.done + 1, self._rows)) + ([steps] if state.done == steps and steps % self._rows else [])
        names = {"step", "loss", *self.recipe.term_labels}
        rows_fit = [row.get("step") for row in state.history] == told and all(row.keys() == names for row in state.history)
        check(rows_fit, f"its history is not that of {state.done} steps of {self.recipe.name}")
        waiting = state.done - (told[-1] if told else 0)
        check(("window" in tensors) == (waiting > 0), "it has no history of its last steps, or too much of it")
        if waiting:
            check_shapes(tensors, {"window": torch.empty(waiting, 1 + len(self.recipe.terms))})
        taken = [str(step) for step in range(every, state.done + 1, every)] if every else []
        check(sorted(_below(tensors, "snapshot.")) == sorted(taken), "its snapshots are not those of its steps")
        check_shapes(tensors, {f"snapshot.{step}": self.outcome.images for step in taken})
        sizes = _below(tensors, "optimizer.squares.").values()
        check(all((size >= 0).all() for size in sizes), "squares that its optimiser keeps are negative")
        check(self.plateau is None or 0 < tensors["plateau.rate"].item() <= self.recipe.optimizer.lr, "its rate is not one of the recipe")


def _below(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def run_together(sets: Sequence[Matching]) -> list[Outcome]:
    """All steps of sets that share one stream, from their last checkpoints; each ends as it would alone.

    Raises UserError if the loss or the images of one of them diverge.
    """
    stream = sets[0].stream
    if any(one.stream is not stream for one in sets):
        raise ValueError("sets that run together share one stream")
    for one in sets:
        one.resume()
    first, steps = min(one.done for one in sets), max(one.recipe.steps for one in sets)
    names = ", ".join(dict.fromkeys(one.recipe.name for one in sets))
    bar = Progress(f"{names} on {stream.data.dataset}, classes {stream.classes[0]}-{stream.classes[-1]}", steps, start=first)
    try:
        for step in range(first, steps):
            side = stream.at(step)
            working = [one for one in sets if one.done == step and not one.finished]
            for one in working:
                one.advance(side)
            history = working[0].outcome.history
            bar.update(step + 1, {"loss": history[-1]["loss"]} if history else {})
            if step + 1 < steps and any(one.checkpoint.due() for one in sets):
                for one in sets:
                    one.save()
                stop_if_asked()
    finally:
        bar.close()
        stream.close()
    for one in sets:
        one.outcome.images, one.outcome.recorded = one.images, one._recorded is not None and one._recorded.replays
    return [one.outcome for one in sets]
