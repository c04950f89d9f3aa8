"""How far a recipe can carry its images: the length of its first steps, times the number of its steps."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from condense import models, plan, specs
from condense.engines.matching import Matching
from condense.engines.streams import RealStream
from condense.files.checkpoints import Checkpoint
from condense.specs import catalogue

STEPS, BATCH, CLASSES = 2, 16, (0, 1)
CPU = torch.device("cpu")


def measurable(name):
    """Whether the networks of a method need no training beforehand."""
    recipe = catalogue.recipe(name)
    return (
        isinstance(recipe, specs.MatchingRecipe)
        and not recipe.requires
        and isinstance(recipe.networks, (specs.Networks, specs.QueueNetworks))
    )


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


def reach(recipe, data, options):
    """Root mean square of what a pixel moves in a step, in normalised units, times the steps of the recipe.

    No image gets farther than this from where it starts, if its gradients stay as long.
    """
    few = replace(recipe, steps=STEPS, batch_real=BATCH, precision="fp32", snapshots=0, averaging=None)
    if isinstance(recipe.networks, specs.QueueNetworks):
        few = replace(few, networks=replace(recipe.networks, train_steps=1, batch=BATCH))
    critic = None
    if recipe.teacher is not None:
        shape = {"channels": data.channels, "size": data.size, "classes": len(data.counts)}
        critic = models.build("convnet", **shape, **options).requires_grad_(False).eval()
    stream = RealStream(few, data, CLASSES, arch="convnet", options=options, seed=0, device=CPU)
    made = Matching(few, stream, ipc=10, critic=critic, checkpoint=Checkpoint(None, ""))
    start = made.moving.values.detach().clone()
    made.run()
    moved = made.moving.values.detach() - start
    if recipe.optimised == "pixels":
        moved = moved / torch.tensor(data.std)[:, None, None]
    return moved.square().mean().sqrt().item() / STEPS * recipe.steps
