"""Where the optimisation of synthetic images starts."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.augment import formations
from condense.config import UserError
from condense.data.dataset import Images
from condense.machine import seeds
from condense.specs import Decode, MovedRecipe

MOSAICS = {"mosaic": "bilinear", "mosaic_nearest": "nearest"}  # how real images are made small


def check_starts(recipe: MovedRecipe, data: Images, classes: tuple[int, ...], ipc: int) -> None:
    """Raises UserError if these classes do not have the images that `ipc` synthetic ones start from or are
    paired with."""
    held = [data.class_slice(label) for label in classes]
    smallest = min(rows.stop - rows.start for rows in held)
    recipe.check_ipc(ipc)
    if recipe.images_needed(ipc) > smallest:
        raise UserError(f"{data.dataset}: {recipe.asked(ipc)}, but a class has only {smallest} images")


def initial_images(
    data: Images, classes: tuple[int, ...], ipc: int, kind: str, seed: int, decode: Decode | None = None
) -> Tensor:
    """Where the optimisation starts: (C, ipc, ...) normalised.

    `real`: distinct images of each class; `mosaic`, `mosaic_nearest`: each made of as many as it is decoded
    into; `noise`: N(0, 1).
    """
    starts = []
    for label in classes:
        generator = seeds.generator(seed, "init", label)
        count = data.counts[data.classes.index(label)]
        if kind == "noise":
            starts.append(torch.randn(ipc, data.channels, data.size, data.size, generator=generator))
        elif kind in MOSAICS:
            if decode is None:
                raise ValueError(f"{kind}: formations to lay the images into are not given")
            chosen = data.of_class(
                label, torch.randperm(count, generator=generator)[: ipc * decode.factor**2]
            )
            starts.append(formations.mosaic(chosen, decode, MOSAICS[kind]))
        else:
            starts.append(data.of_class(label, torch.randperm(count, generator=generator)[:ipc]))
    return torch.stack(starts)


def numbered_images(
    data: Images, classes: tuple[int, ...], first: int, count: int, recipe: MovedRecipe, seed: int
) -> Tensor:
    """The same for the images from number `first` on, `count` of each class, whatever comes after them:
    (C, count, ...) normalised. Noise is drawn for each image by itself."""
    shape = (data.channels, data.size, data.size)
    if recipe.init == "noise":
        drawn = [
            torch.randn(shape, generator=seeds.generator(seed, "init", label, number))
            for label in classes
            for number in range(first, first + count)
        ]
        return torch.stack(drawn).view(len(classes), count, *shape)
    return initial_images(data, classes, first + count, recipe.init, seed, recipe.decode)[:, first:]
