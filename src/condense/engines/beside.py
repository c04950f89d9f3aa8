"""Terms of matching beside another objective: images follow real batches under the network that this has at
the step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from condense.augment import siamese
from condense.config import labels_of
from condense.engines.map_statistics import Statistic
from condense.engines.orders import Site
from condense.engines.streams import RealBatches
from condense.engines.terms import objective, weight_at
from condense.engines.views import RealSide, Views
from condense.machine import seeds
from condense.models import Network
from condense.specs.beside import Beside


class MatchingBeside:
    """The terms of one set. Real batches and augmentation are those that `matching` draws for the seed.

    Classes go through a step some at a time, of `at_once` synthetic images at least, so that its memory does
    not grow with their number.
    """

    def __init__(self, settings: Beside, site: Site, *, shown: int, at_once: int):
        """`shown`: images of a class."""
        self.settings, self.site = settings, site
        self.batches = RealBatches(site.data, site.classes, settings.batch_real, site.seed, site.device)
        each = max(1, at_once // shown)
        numbers = range(len(site.classes))
        self.parts = [slice(start, start + each) for start in numbers[::each]]
        self.labels = labels_of([term.name for term in settings.terms])
        self.statistics: tuple[Statistic, ...] = tuple(
            entry for term in settings.terms for entry in objective(term.name).statistics(term)
        )
        # What a term keeps from step to step, by its name and the part of the classes
        self.memory: dict[str, dict[str, Tensor]] = {
            f"{label}.{number}": {} for label in self.labels for number in range(len(self.parts))
        }

    def gradient(
        self, network: Network, images: Tensor, labels: Tensor, step: int, steps: int
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Of the weighted sum of the terms over all classes, for normalised images (C, M, ...) of `labels`
        (C, M), and that sum of each term (), unweighted."""
        pixels = self.batches.taken(self.batches.chosen(step).to(self.site.device))
        draws, mask = self._draws(step), self.batches.mask
        gradient, told = torch.zeros_like(images), {label: images.new_zeros(()) for label in self.labels}
        for number, part in enumerate(self.parts):
            leaf = images[part].detach().requires_grad_(True)
            side = RealSide(
                self.site.data,
                pixels[part],
                None if mask is None else mask[part],
                draws[part],
                network,
                wanted=self.statistics,
                seed=(self.site.seed, step),
            )
            views = Views(side, leaf, labels[part], network, statistics=self.statistics, steps=steps)
            loss = images.new_zeros(())
            for term, label in zip(self.settings.terms, self.labels, strict=True):
                views.memory = self.memory[f"{label}.{number}"]
                value = objective(term.name).value(views, term).sum()
                loss = loss + self.settings.weight * weight_at(term.weight, step, steps) * value
                told[label] = told[label] + value.detach()
            (gradient[part],) = torch.autograd.grad(loss, leaf)
        return gradient, told

    def total(self, told: Mapping[str, Tensor], step: int, steps: int) -> Tensor:
        """The weighted sum () of what `gradient` told."""
        return torch.stack(
            [
                self.settings.weight * weight_at(term.weight, step, steps) * told[label]
                for term, label in zip(self.settings.terms, self.labels, strict=True)
            ]
        ).sum()

    def _draws(self, step: int) -> list[siamese.Draw]:
        """The augmentation of each class, for its real and its synthetic images alike."""
        augment, size = self.settings.augment, self.site.data.size
        generators = [seeds.generator(self.site.seed, "augment", label, step) for label in self.site.classes]
        return [siamese.draw(augment.siamese, size, generator, augment.mode) for generator in generators]

    def remembered(self) -> dict[str, Tensor]:
        """What a checkpoint keeps of the terms, by name."""
        return {
            f"beside.{place}.{name}": tensor
            for place, kept in self.memory.items()
            for name, tensor in kept.items()
        }

    def take_up(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes up what `remembered` gave, out of all tensors of a checkpoint."""
        for place in self.memory:
            start = f"beside.{place}."
            self.memory[place] = {
                name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)
            }
