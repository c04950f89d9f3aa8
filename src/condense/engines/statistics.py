"""Statistics matching: images that trained observers take for their classes, and whose statistics in the
observers' layers are those of the real images.

No real image is looked at but those that the images start from: the observers know the statistics of all, and
those of classes were gathered beforehand. A step moves all images, batch by batch, so the memory of a step is
that of a batch; a batch depends on no other. What is drawn for a batch depends on the run seed, the number of
its images and the number of the step.
Source: SRe2L (Yin et al. 2023); CDA (Yin and Shen 2023); G-VBSM (Shao et al. 2023); EDC (2024).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condense.augment import views
from condense.engines.beside import MatchingBeside
from condense.engines.flattening import FLATTENED
from condense.engines.moving import MovingImages
from condense.engines.observers import BatchLoss, Observer, RunningMeans
from condense.engines.orders import Order, Outcome, Site
from condense.engines.patches import images_of_patches
from condense.engines.run import Loss, Run, run_steps
from condense.engines.starts import numbered_images
from condense.engines.units import eight_bit
from condense.machine import seeds
from condense.models import Network
from condense.networks.layer_statistics import check_layers, load_statistics
from condense.networks.pretrain import load_teacher
from condense.specs import StatisticsRecipe
from condense.specs.schedules import CosineSchedule
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


def observers_of(site: Site, order: Order[StatisticsRecipe]) -> list[Observer]:
    """The observers of an order, in the order of the recipe, whatever that of the files: they serve in
    turn."""
    recipe, found = order.recipe, []
    for arch in recipe.observers.archs:
        name = f"observer_{arch}"
        network, known = load_teacher(order.parents[name], site.data, site.device)[0], None
        if recipe.statistics.gathered:
            path = order.parents[f"statistics_{arch}"]
            known = load_statistics(
                path, order.parents[name], site.data, site.device, classes=recipe.statistics.classes > 0
            )
            check_layers(path, known, network)
        found.append(Observer(network, name, recipe.statistics, known))
    return found


def start_of(site: Site, order: Order[StatisticsRecipe], network: Network) -> Tensor:
    """The normalised images (C, ipc, ...) that an order starts from; patches are the easiest for
    `network`."""
    recipe, last = order.recipe, order.first + order.ipc
    if recipe.patches is None:
        return numbered_images(site.data, site.classes, order.first, order.ipc, recipe, site.seed)
    images = images_of_patches(
        recipe.patches,
        site.data,
        site.classes,
        ipc=last,
        network=network,
        seed=site.seed,
        device=site.device,
    )
    return images[:, order.first :]


class StatisticsMatching(Run):
    """One set, or the images from number `first` on of each of its classes."""

    clips_first = False  # SRe2L's code shows the noise that it starts from as it is

    def __init__(self, site: Site, order: Order[StatisticsRecipe]):
        recipe, data, device = order.recipe, site.data, site.device
        self.observers = observers_of(site, order)
        start = start_of(site, order, self.observers[0].network)
        images = MovingImages(
            recipe, data, site.classes, ipc=order.ipc, seed=site.seed, device=device, start=start
        )
        further = [name for name in ("flatness", "spread", "prior") if getattr(recipe, name) is not None]
        shown = order.ipc * recipe.images_matched
        self.beside = (
            MatchingBeside(recipe.beside, site, shown=shown, at_once=recipe.batches.images)
            if recipe.beside
            else None
        )
        columns = ["classification", "statistics", *further, *(self.beside.labels if self.beside else [])]
        super().__init__(recipe, images, columns, order.checkpoint, len(data.counts))
        self.settings, self.seed, self.size, self.data = recipe, site.seed, data.size, data
        self.batch_columns = ["classification", "statistics", *further]
        self.batches = batches_of(recipe, len(site.classes), shown, order.first * recipe.images_matched)
        self.means = (
            [RunningMeans(observer, len(self.batches)) for observer in self.observers]
            if recipe.statistics.running
            else []
        )
        # The mean of the images over the steps, where their flatness is that around it
        around_mean = recipe.flatness is not None and recipe.flatness.decay is not None
        self.mean = images.matched()[0].detach().clone() if around_mean else None

    def step(self, shared: None) -> Iterator[Loss]:
        """The mean over batches of the losses; the images follow the gradients of their sums."""
        if isinstance(self.settings.schedule, CosineSchedule):
            schedule = self.settings.schedule
            factor = cosine_at(self.done, self.steps, schedule.stretch)
            self.optimizer.lr = self.settings.optimizer.lr * (schedule.floor + (1 - schedule.floor) * factor)
        shown, labels = self.moving.matched()
        gradient, told = torch.zeros_like(shown), []
        for number, batch in enumerate(self.batches):
            places = batch.classes.to(self.device), batch.images.to(self.device)
            gradient[places], values_of_batch = self._of_batch(number, shown.detach()[places], labels[places])
            told.append(values_of_batch)
        mean, *means = torch.stack(told).mean(0)
        parts = dict(zip(self.batch_columns, means, strict=True))
        if self.beside is not None:
            network = self.observers[self.done % len(self.observers)].network
            more, values = self.beside.gradient(network, shown.detach(), labels, self.done, self.steps)
            gradient, parts = gradient + more, {**parts, **values}
            mean = mean + self.beside.total(values, self.done, self.steps)
        # Of this value, and of that gradient, without the graphs of all batches at once
        surrogate = ((shown - shown.detach()) * gradient).sum() + mean
        self._follow(shown.detach())
        yield surrogate, parts
        self.moving.clip()  # as in SRe2L's code, after every step

    def _of_batch(self, number: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient (n, ...) of the loss of a batch for its images, and the loss with its parts (k,)."""
        batch, turn = self.batches[number], self.done % len(self.observers)
        observer, means = self.observers[turn], self.means[turn] if self.means else None
        generator = seeds.generator(self.seed, "view", *batch.name, self.done)
        loss_of = BatchLoss(
            self.settings,
            observer,
            labels,
            views.draw(self.settings.view, self.size, self.done, self.steps, generator),
            means.of(number) if means else None,
            self._left_out(observer, batch),
        )
        mean = None if self.mean is None else self.mean[batch.classes, batch.images]
        flattened = FLATTENED[type(self.settings.flatness)]
        found = flattened(self.settings.flatness, loss_of, images.requires_grad_(True), mean)
        if means:
            means.take(number, found.seen.observed.means)
        parts = {**found.seen.parts, "flatness": found.added}
        return found.gradient, torch.stack(
            [found.loss, *(parts[name].detach() for name in self.batch_columns)]
        )

    @property
    def images(self) -> Tensor:
        images = super().images
        return eight_bit(images, self.data) if self.settings.eight_bit else images

    def _left_out(self, observer: Observer, batch: Batch) -> set[int]:
        """The convolutions that do not count for a batch at this step, by chance."""
        chance = self.settings.statistics.skipped
        if not chance:
            return set()
        generator = seeds.generator(self.seed, "skipped", *batch.name, self.done)
        drawn = torch.rand(len(observer.convolutional), generator=generator) < chance
        return {number for number, of in enumerate(observer.convolutional) if of and drawn[number]}

    def _follow(self, shown: Tensor) -> None:
        """Takes the images (C, M, ...) of a step into their running mean, where there is one."""
        decay = None if self.settings.flatness is None else self.settings.flatness.decay
        if self.mean is not None and decay is not None:
            self.mean.mul_(decay).add_(shown, alpha=1 - decay)

    def kept(self) -> dict[str, Tensor]:
        found = {} if self.mean is None else {"mean": self.mean}
        for number, means in enumerate(self.means):
            found |= {f"running.{number}": means.values, f"begun.{number}": means.begun}
        return found

    def take_up(self, tensors: dict[str, Tensor]) -> None:
        for name, value in self.kept().items():
            value.copy_(tensors[name])
        if self.beside is not None:
            self.beside.take_up(tensors)

    def remembered(self) -> dict[str, Tensor]:
        return {} if self.beside is None else self.beside.remembered()


def match_statistics(site: Site, orders: Sequence[Order[StatisticsRecipe]]) -> list[Outcome]:
    """The engine `statistics`: every set by itself.

    Raises UserError for an observer that was trained on other images, or has no layers of which statistics
    are asked for, for statistics of another observer, and if the loss or the images diverge.
    """
    outcomes = []
    for order in orders:
        run = StatisticsMatching(site, order)
        outcomes += run_steps([run], site.data.dataset, lambda step: None)
    return outcomes
