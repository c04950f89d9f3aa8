"""How far a recipe can carry its images: the length of its first steps, times the number of its steps."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from condense import models, plan, specs
from condense.engines.gradient import GradientMatching
from condense.engines.matching import Matching
from condense.engines.orders import Site
from condense.engines.run import run_steps
from condense.engines.streams import RealStream
from condense.files.checkpoints import Checkpoint
from condense.networks.making import Making
from condense.networks.trained import make_trained_bank
from condense.specs import catalogue

STEPS, BATCH, CLASSES = 2, 16, (0, 1)
CPU, NOWHERE = torch.device("cpu"), Checkpoint(None, "")
TRAINED_ON, EPOCHS, NETWORKS = 6, 3, 2  # images a class that networks of a bank are trained on


def measurable(name):
    """Whether a method moves images, and everything that it needs is here."""
    recipe = catalogue.recipe(name)
    return isinstance(recipe, (specs.MatchingRecipe, specs.GradientRecipe)) and not recipe.requires


def enlarged(data, times):
    """The images with so many times as many pixels a side, smoothly."""
    large = F.interpolate(data.images.float(), scale_factor=times, mode="bilinear").round().to(torch.uint8)
    return replace(data, images=large, size=times * data.size)


def as_colour(data):
    """Images of digits as three channels of 32 x 32 pixels, with the constants of CIFAR-10."""
    large = F.interpolate(data.images.float(), scale_factor=4, mode="nearest").to(torch.uint8)
    of_cifar = plan.data_cell("cifar10").spec
    return replace(
        data, images=large.expand(-1, 3, -1, -1), channels=3, size=32, mean=of_cifar.mean, std=of_cifar.std
    )


def of_each_class(data, count):
    """The first so many images of every class."""
    places = torch.cat([torch.arange(count) + data.class_slice(label).start for label in data.classes])
    counts = (count,) * len(data.classes)
    return replace(data, images=data.images[places], labels=data.labels[places], counts=counts)


class Banks:
    """Banks of a few networks that were trained for a moment, each made once."""

    def __init__(self, folder):
        self.folder, self.made = folder, {}

    def of(self, networks, data, options):
        """The networks of a recipe, made few, and their bank."""
        few = replace(networks, count=min(NETWORKS, networks.count))
        trained = few.trained if isinstance(few, specs.SubspaceNetworks) else few
        name = f"{trained.protocol}-{trained.of_all_epochs}-{data.size}-{len(self.made)}"
        key = trained.protocol, trained.of_all_epochs, trained.count, data.size, str(options)
        if key not in self.made:
            self.made[key] = self.folder / f"{name}.safetensors"
            protocol = replace(catalogue.protocol(trained.protocol), epochs=EPOCHS, batch=32)
            images = of_each_class(data, TRAINED_ON)
            making = Making(self.made[key], images, "convnet", options, 0, "k", CPU)
            make_trained_bank(making, trained, protocol, "none")
        return few, self.made[key]


def reach(recipe, data, options, banks):
    """Root mean square of what a pixel moves in a step, in normalised units, times the steps of the recipe.

    No image gets farther than this from where it starts, if its gradients stay as long.
    """
    few = replace(recipe, batch_real=BATCH, precision="fp32", snapshots=0, averaging=None)
    make = gradients if isinstance(recipe, specs.GradientRecipe) else matching
    made, run = make(few, data, options, banks)
    start = made.moving.values.detach().clone()
    run()
    moved = made.moving.values.detach() - start
    if recipe.optimised == "pixels":
        moved = moved / torch.tensor(data.std)[:, None, None]
    return moved.square().mean().sqrt().item() / made.done * recipe.number_of_steps


def gradients(recipe, data, options, banks):
    """An engine of gradient matching, and what runs it: two steps of one network, trained a little."""
    few = replace(recipe, steps=1, loop=specs.gradient.Loop(STEPS, 2), batch_network=32)
    site = Site(data, CLASSES, "convnet", options, 0, CPU)
    made = GradientMatching(few, site, ipc=10, checkpoint=NOWHERE)
    return made, lambda: run_steps([made], "two steps", lambda step: None)


def matching(recipe, data, options, banks):
    """An engine of matching with networks as the recipe asks for them, and what runs it for two steps."""
    few, bank = replace(recipe, steps=STEPS), None
    if isinstance(recipe.networks, specs.QueueNetworks):
        few = replace(few, networks=replace(recipe.networks, train_steps=1, batch=BATCH))
    elif not isinstance(recipe.networks, specs.Networks):
        networks, bank = banks.of(recipe.networks, data, options)
        few = replace(few, networks=networks)
    critic = None
    if recipe.teacher is not None:
        shape = {"channels": data.channels, "size": data.size, "classes": len(data.counts)}
        critic = models.build("convnet", **shape, **options).requires_grad_(False).eval()
    stream = RealStream(few, data, CLASSES, arch="convnet", options=options, seed=0, device=CPU, bank=bank)
    made = Matching(few, stream, ipc=10, critic=critic, checkpoint=NOWHERE)
    return made, made.run
