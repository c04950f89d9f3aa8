"""Gradient matching: images follow the distance between the gradients that real and synthetic images of a
class give a network.

A network is drawn anew for every `loop` of image steps; between these it is trained on the synthetic images
of all classes. What is drawn for a class depends on the run seed, the class and the number of the image step
only; networks and their training on the seed and their number.
Source: DC (Zhao et al. 2021), algorithm 1; DSA (Zhao and Bilen 2021), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from condense import models
from condense.augment import siamese
from condense.augment.selected import apply_each_class
from condense.discrepancy.gradients import gradient_distance
from condense.engines.moving import MovingImages
from condense.engines.orders import Order, Outcome, Site
from condense.engines.progressed import below
from condense.engines.run import Loss, Run, run_steps
from condense.engines.streams import RealBatches
from condense.files.checkpoints import Checkpoint
from condense.kernels.precision import Types
from condense.machine import seeds
from condense.specs import GradientRecipe, Protocol
from condense.specs.gradient import STATISTICS
from condense.specs.schedules import ConstantSchedule
from condense.training.class_gradients import class_gradients, freeze_statistics, gradient_discrepancy
from condense.training.loop import train
from condense.training.optimizers import network_optimizer
from condense.training.sets import tensor_set


class GradientMatching(Run):
    """One set."""

    def __init__(self, recipe: GradientRecipe, site: Site, *, ipc: int, checkpoint: Checkpoint):
        data, device = site.data, site.device
        images = MovingImages(recipe, data, site.classes, ipc=ipc, seed=site.seed, device=device)
        with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced at every loop
            network = models.build(
                site.arch, channels=data.channels, size=data.size, classes=len(data.counts), **site.options
            )
        self.network = network.to(device)
        types = Types(recipe.precision, self.network, device)
        super().__init__(recipe, images, [], checkpoint, len(data.counts), types)
        self.settings, self.site = recipe, site
        self.distance = gradient_distance(recipe.distance)
        self.parameters = self.distance.counted(list(self.network.parameters()))
        self.batches = RealBatches(data, site.classes, recipe.batch_real, site.seed, device)
        self.real_type = types.of("real")
        self.real_labels = torch.tensor(site.classes, device=device)[:, None].expand(
            -1, max(self.batches.sizes)
        )
        self._drawing = models.Drawing(self.network)
        self._descent = network_optimizer(self.network, recipe.network_optimizer)

    def step(self, shared: None) -> Iterator[Loss]:
        """The sum over the classes of the distance of their gradients (DC: algorithm 1); every
        `loop.outer` steps under another network, which between them is trained on the set."""
        number, age = divmod(self.done, self.settings.loop.outer)
        if age == 0:
            models.take(self.network, self._drawing(seeds.stream(self.site.seed, "network", number)))
            self._descent.forget()
        self.network.train()
        pixels = self.batches.taken(self.batches.chosen(self.done).to(self.device))
        freeze_statistics(self.network, self.site.data.normalise(pixels[:, :STATISTICS]).flatten(0, 1))
        draws = self._draws()
        real = class_gradients(
            self.network,
            self._augmented(pixels, draws),
            self.real_labels,
            self.parameters,
            self.batches.mask,
            self.real_type,
        )
        images, labels = self.moving.matched()
        seen = apply_each_class(images, draws)
        loss = gradient_discrepancy(self.network, real, seen, labels, self.parameters, self.distance).sum()
        yield loss, {}
        if age + 1 < self.settings.loop.outer:
            self._train_network()

    def _draws(self) -> list[siamese.Draw]:
        """The augmentation of each class at this step, for its real and its synthetic images alike."""
        augment, data = self.settings.augment, self.site.data
        generators = [
            seeds.generator(self.site.seed, "augment", label, self.done) for label in self.site.classes
        ]
        return [siamese.draw(augment.siamese, data.size, generator, augment.mode) for generator in generators]

    def _augmented(self, pixels: Tensor, draws: Sequence[siamese.Draw]) -> Iterator[Tensor]:
        """The normalised real images (n, ...) of one class after the other, under its draw: never those of
        all at once."""
        for images, draw in zip(pixels, draws, strict=True):
            yield siamese.apply(self.site.data.normalise(images), draw)

    def _train_network(self) -> None:
        """The epochs of the network on the synthetic images between two of their steps."""
        recipe = self.settings
        protocol = Protocol(
            name="inner",
            title="between two steps of the images",
            source=recipe.source,
            epochs=recipe.loop.inner,
            batch=recipe.batch_network,
            optimizer=recipe.network_optimizer,
            schedule=ConstantSchedule("constant"),
            augment=("all" if recipe.augment.mode == "all" else "dataset")
            if recipe.augment_network
            else "none",
            precision=recipe.precision,
        )
        images = tensor_set(self.moving.shown().detach().flatten(0, 1), self.moving.labels.flatten())
        name = ("gradient", self.done)
        nowhere = Checkpoint(None, "")
        train(
            self.network,
            images,
            protocol,
            strategy=recipe.augment.siamese,
            seed=self.site.seed,
            name=name,
            checkpoint=nowhere,
            optimizer=self._descent,  # one for all trainings of a network, as in DC's code
        )

    def kept(self) -> dict[str, Tensor]:
        if self.settings.loop.outer == 1:  # every step draws its own
            return {}
        network = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        if not self.settings.network_optimizer.momentum:
            return network
        return network | {f"descent.{name}": tensor for name, tensor in self._descent.state().items()}

    def take_up(self, tensors: dict[str, Tensor]) -> None:
        if self.settings.loop.outer > 1:
            self.network.load_state_dict(below(tensors, "network."))
            if self.settings.network_optimizer.momentum:
                self._descent.load(below(tensors, "descent."))


def match_gradients(site: Site, orders: Sequence[Order[GradientRecipe]]) -> list[Outcome]:
    """The engine `gradient`: every set by itself, since networks are trained on its own images.

    Raises UserError if the loss or the images diverge.
    """
    outcomes = []
    for order in orders:
        run = GradientMatching(order.recipe, site, ipc=order.ipc, checkpoint=order.checkpoint)
        classes = f"classes {site.classes[0]}-{site.classes[-1]}"
        outcomes += run_steps([run], f"{site.data.dataset}, {classes}", lambda step: None)
    return outcomes
