"""One-level matching: the synthetic images follow the gradient of a sum of terms over freshly drawn networks.

All classes of a shard go through each step together, with a leading class axis. What is drawn for a class
depends on the run seed, the class and the step only, so a class gives the same images alone, in a shard, or
with all others. Several sets with the same stream, such as other methods or ipc, go through each step
together too, and share its real side.
Source: DM (Zhao and Bilen 2023), algorithm 1; cpdm, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from condense.config import UserError, naming
from condense.data.dataset import Images
from condense.engines.map_statistics import Statistic
from condense.engines.moving import MovingImages
from condense.engines.orders import Order, Outcome, Site
from condense.engines.progressed import below
from condense.engines.repeated import RepeatedSteps
from condense.engines.run import Loss, Run, run_steps
from condense.engines.streams import RealStream
from condense.engines.terms import objective, weight_at
from condense.engines.views import RealSide, Views
from condense.files.checkpoints import Checkpoint
from condense.machine.graphs import recorder_for
from condense.networks.clip import clip_critic
from condense.networks.pretrain import load_teacher
from condense.specs import MatchingRecipe

# By what a recipe requires
CRITICS: dict[str, Callable[[Images, torch.device], nn.Module]] = {"clip": clip_critic}


class Matching(Run):
    """One set. `run` alone, or `run_together` with others on the same stream, makes it."""

    def __init__(
        self,
        recipe: MatchingRecipe,
        stream: RealStream,
        *,
        ipc: int,
        critic: nn.Module | None,
        checkpoint: Checkpoint,
    ):
        images = MovingImages(
            recipe, stream.data, stream.classes, ipc=ipc, seed=stream.seed, device=stream.device
        )
        if not stream.serves(recipe):
            raise ValueError(
                f"{recipe.name}: its networks, batches or augmentation are not those of the stream"
            )
        _check_classes(recipe, stream, ipc * recipe.images_matched)
        super().__init__(
            recipe, images, recipe.term_labels, checkpoint, len(stream.data.counts), stream.types
        )
        self.terms, self.stream, self.critic = recipe.terms, stream, critic
        self.statistics: tuple[Statistic, ...] = tuple(
            entry for term in recipe.terms for entry in objective(term.name).statistics(term)
        )
        stream.want(self.statistics)
        # Of each term
        self.memory: dict[str, dict[str, Tensor]] = {label: {} for label in recipe.term_labels}
        self._steps = RepeatedSteps(self, recipe.terms, super().move, stream)

    def run(self) -> Outcome:
        """All steps, from the last checkpoint if there is one. Raises UserError if the loss or the images
        diverge."""
        return run_together([self])[0]

    def move(self, shared: RealSide) -> Tensor:
        return self._steps(
            shared, [weight_at(term.weight, self.done, self.recipe.steps) for term in self.terms]
        )

    def step(self, shared: tuple[RealSide, Sequence[float | Tensor]]) -> Iterator[Loss]:
        """The weighted sum of the terms of every turn, against the real side and under the weights of the
        step."""
        side, weights = shared
        # A weight that is a tensor cannot be tested without waiting for the GPU
        weighted = [isinstance(weight, Tensor) or weight != 0 for weight in weights]
        turns = sorted({term.turn for term, counts in zip(self.terms, weighted, strict=True) if counts})
        for number, turn in enumerate(turns):
            if number:
                self.optimizer.begin()
            images, labels = self.moving.matched()
            views = Views(
                side,
                images,
                labels,
                self.critic,
                self.stream.synthetic_type,
                self.statistics,
                self.steps,
            )
            loss, parts = torch.zeros((), device=self.device), {}
            for term, (label, memory), weight, counts in zip(
                self.terms, self.memory.items(), weights, weighted, strict=True
            ):
                if term.turn == turn and counts:
                    views.memory = memory
                    value = objective(term.name).value(views, term)
                    if value.shape != images.shape[:1]:
                        raise UserError(
                            f"{self.recipe.name}: the term '{term.name}' gives a value of shape "
                            f"{tuple(value.shape)}, where one a class is needed, ({images.shape[0]},)"
                        )
                    value = value.sum()
                    loss = loss + weight * value
                    parts[label] = value.detach()
            yield loss, parts
        self._look_back(side)

    @torch.no_grad()
    def _look_back(self, side: RealSide) -> None:
        """What terms do once the images of the step have moved: under its network, and an augmentation of
        their own."""
        looking = [
            (term, memory, after)
            for term, memory in zip(self.terms, self.memory.values(), strict=True)
            if (after := objective(term.name).after) is not None
        ]
        if looking:
            other = self.stream.with_other_draws(side, "look back")
            views = Views(other, *self.moving.matched(), self.critic, self.stream.synthetic_type)
            for term, memory, after in looking:
                views.memory = memory
                after(views, term)

    def remembered(self) -> dict[str, Tensor]:
        return {
            f"memory.{label}.{name}": tensor
            for label, kept in self.memory.items()
            for name, tensor in kept.items()
        }

    def take_up(self, tensors: dict[str, Tensor]) -> None:
        self.memory = {label: below(tensors, f"memory.{label}.") for label in self.memory}

    def finish(self) -> Outcome:
        self.outcome.recorded = self._steps.replays
        return super().finish()


def _check_classes(recipe: MatchingRecipe, stream: RealStream, synthetic: int) -> None:
    """Raises UserError if a class has fewer real images than a term can do with, beside so many synthetic
    ones."""
    batches, data = stream.batches, stream.data
    for label, count in zip(batches.classes, batches.counts, strict=True):
        called = data.class_names[data.classes.index(label)]
        for term in recipe.terms:
            with naming(recipe.name):
                term.check_class(count, synthetic, f"class {label} ({called}) of {data.dataset}")


def run_together(sets: Sequence[Matching]) -> list[Outcome]:
    """All steps of sets that share one stream, from their last checkpoints; each ends as it would alone.

    Raises UserError if the loss or the images of one of them diverge.
    """
    stream = sets[0].stream
    if any(matching.stream is not stream for matching in sets):
        raise ValueError("sets that run together share one stream")
    try:
        return run_steps(
            sets, f"{stream.data.dataset}, classes {stream.classes[0]}-{stream.classes[-1]}", stream.at
        )
    finally:
        stream.close()


def match(site: Site, orders: Sequence[Order[MatchingRecipe]]) -> list[Outcome]:
    """The engine `matching`: all sets against one real side, computed once.

    Raises UserError if they cannot share it: other networks, batches, augmentation or precision.
    """
    first = orders[0]
    stream = RealStream(
        first.recipe,
        site.data,
        site.classes,
        arch=site.arch,
        options=site.options,
        seed=site.seed,
        device=site.device,
        bank=first.parents.get("bank"),
        recorder=recorder_for(site.device),
    )
    sets: list[Matching] = []
    critics: dict[tuple[Path | None, str | None], nn.Module | None] = {}
    for order in orders:
        recipe = order.recipe
        if not stream.serves(recipe):
            raise UserError(
                f"{recipe.name}: its networks, batches, augmentation or precision are not those of "
                f"{first.recipe.name}"
            )
        asked = (order.parents.get("teacher"), recipe.requires)
        if asked not in critics:  # one copy of each, however many sets it judges
            critics[asked] = _critic(*asked, site.data, site.device)
        sets.append(
            Matching(recipe, stream, ipc=order.ipc, critic=critics[asked], checkpoint=order.checkpoint)
        )
    return run_together(sets)


def _critic(
    teacher: Path | None, requires: str | None, images: Images, device: torch.device
) -> nn.Module | None:
    if requires is not None:
        return CRITICS[requires](images, device)
    return load_teacher(teacher, images, device)[0] if teacher else None
