"""Statistics matching: images that trained observers take for their classes, and whose statistics in the
observers' layers are those of the real images.

No real image is looked at: the observers know their statistics. A step moves all images, batch by batch, so
the memory of a step is that of a batch; a batch depends on no other. What is drawn for a batch depends on the
run seed, the number of its images and the number of the step.
Source: SRe2L (Yin et al. 2023); CDA (Yin and Shen 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condense.augment import views
from condense.config import naming
from condense.discrepancy.statistics import channel_moments, layered_gap
from condense.engines.moving import MovingImages
from condense.engines.orders import Order, Outcome, Site
from condense.engines.run import Loss, Run, run_steps
from condense.engines.starts import numbered_images
from condense.machine import seeds
from condense.models.observing import LayerInputs
from condense.specs import StatisticsRecipe
from condense.specs.schedules import CosineSchedule
from condense.specs.statistics import LayerStatistics
from condense.teachers.pretrain import load_teacher
from condense.training.schedules import cosine_at


@dataclass(frozen=True)
class Batch:
    """Images that are looked at together: their places among the classes and among the images of a class, and
    what its draws are called."""

    classes: Tensor
    images: Tensor
    name: tuple[str | int, ...]


def batches_of(recipe: StatisticsRecipe, classes: int, count: int, first: int) -> list[Batch]:
    """The batches of `count` images of each of `classes` classes, those from number `first` on."""
    most = recipe.batches.images
    places = torch.arange(classes * count).view(classes, count)
    if recipe.batches.order == "class_by_class":
        return [
            Batch(chunk // count, chunk % count, ("class_by_class", number))
            for number, chunk in enumerate(places.flatten().split(most))
        ]
    return [
        Batch(chunk // count, chunk % count, ("of_each_class", first + image, number))
        for image in range(count)
        for number, chunk in enumerate(places[:, image].split(most))
    ]


class Observer:
    """A trained classifier that looks at batches: its loss of their classes, and the gap of their
    statistics."""

    def __init__(self, network: nn.Module, name: str, settings: LayerStatistics):
        """Raises UserError, beginning with `name`, for a network without batch norm."""
        self.network, self.settings = network, settings
        with naming(name):
            self.layers = LayerInputs(network, nn.BatchNorm2d)
        self.wanted = [(layer.running_mean, layer.running_var) for layer in self.layers.layers]

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Of normalised images (n, ...) and labels (n,): the mean cross-entropy (), and the gap of the
        statistics of all layers (); with gradients."""
        with self.layers as layers:
            logits = self.network(images)
        found = [channel_moments(maps) for maps in layers.taken()]
        return F.cross_entropy(logits, labels), layered_gap(found, self.wanted, self.settings.first)


class StatisticsMatching(Run):
    """One set, or the images from number `first` on of each of its classes."""

    def __init__(self, site: Site, order: Order[StatisticsRecipe]):
        recipe, data, device = order.recipe, site.data, site.device
        start = numbered_images(data, site.classes, order.first, order.ipc, recipe, site.seed)
        images = MovingImages(
            recipe, data, site.classes, ipc=order.ipc, seed=site.seed, device=device, start=start
        )
        super().__init__(recipe, images, ["classification", "statistics"], order.checkpoint, len(data.counts))
        self.settings, self.seed, self.size = recipe, site.seed, data.size
        # In the order of the recipe, whatever that of the files: they serve in turn
        self.observers = [
            Observer(load_teacher(order.parents[name], data, device)[0], name, recipe.statistics)
            for name in recipe.parents()
        ]
        shown = order.ipc * recipe.images_matched
        self.batches = batches_of(recipe, len(site.classes), shown, order.first * recipe.images_matched)

    def step(self, shared: None) -> Iterator[Loss]:
        """The mean over batches of both losses; the images follow the gradients of their sums."""
        if isinstance(self.settings.schedule, CosineSchedule):
            schedule = self.settings.schedule
            factor = cosine_at(self.done, self.steps, schedule.stretch)
            self.optimizer.lr = self.settings.optimizer.lr * (schedule.floor + (1 - schedule.floor) * factor)
        observer = self.observers[self.done % len(self.observers)]
        shown, labels = self.moving.matched()
        gradient, told = torch.zeros_like(shown), []
        for batch in self.batches:
            places = batch.classes.to(self.device), batch.images.to(self.device)
            images = shown.detach()[places].requires_grad_(True)
            generator = seeds.generator(self.seed, "view", *batch.name, self.done)
            look = views.draw(self.settings.view, self.size, self.done, self.steps, generator)
            classification, statistics = observer.losses(views.seen(images, look), labels[places])
            loss = classification + self.settings.statistics.weight * statistics
            (gradient[places],) = torch.autograd.grad(loss, images)
            told.append(torch.stack([loss, classification, statistics]).detach())
        mean, classification, statistics = torch.stack(told).mean(0)
        # Of this value, and of that gradient, without the graphs of all batches at once
        surrogate = ((shown - shown.detach()) * gradient).sum() + mean
        yield surrogate, {"classification": classification, "statistics": statistics}
        self.moving.clip()  # as in SRe2L's code, after every step


def match_statistics(site: Site, orders: Sequence[Order[StatisticsRecipe]]) -> list[Outcome]:
    """The engine `statistics`: every set by itself.

    Raises UserError for an observer that was trained on other images or has no batch norm, and if the loss or
    the images diverge.
    """
    outcomes = []
    for order in orders:
        run = StatisticsMatching(site, order)
        outcomes += run_steps([run], site.data.dataset, lambda step: None)
    return outcomes
