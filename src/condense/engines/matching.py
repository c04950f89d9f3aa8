"""One-level matching: the synthetic images follow the gradient of a sum of terms over freshly drawn networks.

All classes of a shard go through each step together, with a leading class axis. What is drawn for a class depends on
the run seed, the class and the step only, so a class gives the same images alone, in a shard, or with all others.
Source: DM (Zhao and Bilen 2023), algorithm 1; cpdm, algorithm 1.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from condense import models, seeds
from condense.augment import siamese
from condense.checkpoints import Checkpoint
from condense.config import UserError
from condense.data.dataset import Images
from condense.engines.terms import TERMS, weight_at
from condense.engines.views import Views
from condense.progress import Progress
from condense.specs import Recipe
from condense.training.optimizers import SGD

_log = logging.getLogger(__name__)
_DIVERGED = 1e4  # normalised pixels beyond this are no images any more
_ROWS = 200  # rows of the history of a run, about


@dataclass
class Outcome:
    """Normalised images (C, ipc, channels, size, size), the history of the loss terms, and snapshots {step: images}."""

    images: Tensor
    history: list[dict[str, float]] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)


def _check(recipe: Recipe, data: Images, classes: tuple[int, ...], ipc: int) -> None:
    held = [data.class_slice(label) for label in classes]
    smallest = min(part.stop - part.start for part in held)
    if ipc > smallest:
        raise UserError(f"{data.dataset}: ipc {ipc} asked for, but a class has only {smallest} images")
    if ipc < 1:
        raise UserError(f"{data.dataset}: ipc {ipc} asked for; at least 1 image per class is needed")
    if ipc > recipe.batch_real and any(term.name == "prediction_kl" for term in recipe.terms):
        raise UserError(
            f"{recipe.name}: 'prediction_kl' pairs every synthetic image with a real one, but ipc is {ipc} and batch_real only"
            f" {recipe.batch_real}: raise batch_real to at least {ipc} in the recipe or the scale"
        )


def initial_images(data: Images, classes: tuple[int, ...], ipc: int, kind: str, seed: int) -> Tensor:
    """Where the optimisation starts: (C, ipc, ...) normalised. `real`: distinct images of each class; `noise`: N(0, 1)."""
    starts = []
    for label in classes:
        generator = seeds.generator(seed, "init", label)
        count = data.counts[data.classes.index(label)]
        if kind == "noise":
            starts.append(torch.randn(ipc, data.channels, data.size, data.size, generator=generator))
        else:
            starts.append(data.of_class(label, torch.randperm(count, generator=generator)[:ipc]))
    return torch.stack(starts)


class RealBatches:
    """The real batches of every step: the first `size` of a fresh permutation of each class."""

    def __init__(self, data: Images, classes: tuple[int, ...], size: int, seed: int, device: torch.device):
        self.data, self.classes, self.seed, self.device = data, classes, seed, device
        self.pixels = [data.images[data.class_slice(label)].to(device) for label in classes]
        self.sizes = [min(size, len(pixels)) for pixels in self.pixels]
        self.mask = None
        if min(self.sizes) < max(self.sizes):
            self.mask = torch.tensor([[place < held for place in range(max(self.sizes))] for held in self.sizes], device=device)

    def at(self, step: int) -> Tensor:
        """(C, B, ...) normalised; a class with fewer images than B is padded with its first, which the mask leaves out."""
        chosen = []
        for label, pixels, held in zip(self.classes, self.pixels, self.sizes, strict=True):
            order = torch.randperm(len(pixels), generator=seeds.generator(self.seed, "real-batch", label, step))[:held]
            if held < max(self.sizes):
                order = torch.cat([order, order[:1].expand(max(self.sizes) - held)])
            chosen.append(pixels[order.to(self.device)])
        return self.data.normalise(torch.stack(chosen))


class Matching:
    """One run of the engine; `run` gives its outcome."""

    def __init__(
        self,
        recipe: Recipe,
        data: Images,
        classes: tuple[int, ...],
        *,
        arch: str,
        options: dict[str, Any],
        ipc: int,
        seed: int,
        device: torch.device,
        critic: nn.Module | None,
        checkpoint: Checkpoint,
    ):
        _check(recipe, data, classes, ipc)
        self.recipe, self.data, self.classes, self.seed, self.device = recipe, data, classes, seed, device
        self.critic, self.checkpoint = critic, checkpoint
        with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced at every step
            self.network = models.build(arch, channels=data.channels, size=data.size, classes=len(data.counts), **options)
        self.network.to(device).requires_grad_(False)
        # Batch statistics belong to the whole batch, so it cannot go through the network in parts.
        self.chunked = not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.network.modules())
        start = initial_images(data, classes, ipc, recipe.init, seed)
        self.images = start.to(device).requires_grad_(True)
        self.labels = torch.tensor(classes, device=device)[:, None].expand(-1, ipc)
        self.batches = RealBatches(data, classes, recipe.batch_real, seed, device)
        self.optimizer = SGD([self.images], recipe.optimizer)
        self.outcome = Outcome(self.images)
        self.window: list[Tensor] = []

    def run(self) -> Outcome:
        """All steps, from the last checkpoint if there is one. Raises UserError if the loss or the images diverge."""
        steps, first = self.recipe.steps, self._resume()
        rows = max(1, min(100, steps // _ROWS))
        bar = Progress(f"{self.recipe.name} on {self.data.dataset}, classes {self.classes[0]}-{self.classes[-1]}", steps, start=first)
        step = first
        try:
            for step in range(first, steps):
                self._step(step)
                done = step + 1
                if done % rows == 0 or done == steps:
                    self._record(done)
                    bar.update(done, {"loss": self.outcome.history[-1]["loss"]})
                if self.recipe.snapshots and done % self.recipe.snapshots == 0:
                    self.outcome.snapshots[done] = self.images.detach().clone()
                if not self.window and done < steps and self.checkpoint.due():
                    self._save(done)
        finally:
            bar.close()
        self.outcome.images = self.images.detach()
        return self.outcome

    def _step(self, step: int) -> None:
        models.reinitialise(self.network, seeds.stream(self.seed, "network", step))
        strategy, size = self.recipe.augment.siamese, self.data.size
        draws = [siamese.draw(strategy, size, seeds.generator(self.seed, "augment", label, step)) for label in self.classes]
        views = Views(self.batches.at(step), self.images, self.batches.mask, self.labels, draws, self.network, self.critic, self.chunked)
        total, values = 0.0, []
        for term in self.recipe.terms:
            weight = weight_at(term.weight, step, self.recipe.steps)
            value = TERMS[term.name](views, term).sum() if weight else torch.zeros((), device=self.device)
            total = total + weight * value
            values.append(value.detach())
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        self.window.append(torch.stack([total.detach(), *values]))

    def _record(self, done: int) -> None:
        """Adds the means of the last steps to the history, after looking for the first value that is no number."""
        values = torch.stack(self.window)
        names = ["loss", *(term.name for term in self.recipe.terms)]
        hint = "lower the learning rate of the images (optimizer: lr) in the recipe"
        bad = (~torch.isfinite(values)).nonzero()
        if len(bad):
            row, column = bad[bad[:, 0] == bad[0, 0]][-1].tolist()
            step = done - len(values) + row + 1
            raise UserError(f"{self.recipe.name}: '{names[column]}' is {values[row, column].item()} at step {step}; {hint}")
        largest = self.images.detach().abs().max().item()
        if not largest < _DIVERGED:
            raise UserError(f"{self.recipe.name}: the images diverge at step {done}: a normalised pixel is {largest:.3g}; {hint}")
        means = values.double().mean(0).tolist()
        self.outcome.history.append({"step": done, **dict(zip(names, means, strict=True))})
        self.window.clear()

    def _save(self, done: int) -> None:
        tensors = {"images": self.images.detach(), "velocity": self.optimizer.velocity[0]}
        tensors |= {f"snapshot.{step}": images for step, images in self.outcome.snapshots.items()}
        state = {"done": done, "history": self.outcome.history}
        self.checkpoint.save({name: tensor.cpu().numpy() for name, tensor in tensors.items()}, state)

    def _resume(self) -> int:
        found = self.checkpoint.load()
        if found is None:
            return 0
        tensors, state = {name: torch.from_numpy(value).to(self.device) for name, value in found[0].items()}, found[1]
        with torch.no_grad():
            self.images.copy_(tensors["images"])
            self.optimizer.velocity[0].copy_(tensors["velocity"])
        _log.info("resumed from step %d of %d", state["done"], self.recipe.steps)
        self.outcome.history = state["history"]
        self.outcome.snapshots = {int(name[9:]): tensor for name, tensor in tensors.items() if name.startswith("snapshot.")}
        return state["done"]
