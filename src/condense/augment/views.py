"""How a batch of images is looked at, by one draw for all of them: an enlarged crop, a shift, a flip, a
roll."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from condense.specs.statistics import Crop, View

_SIDES = (3 / 4, 4 / 3)  # width to height of a box
_TRIES = 10  # boxes that are drawn before the whole image is taken


@dataclass(frozen=True)
class Look:
    """A draw: a box in pixels (None: the whole image), whether it is flipped left for right, and by how many
    pixels it is rolled, and before that shifted, down and to the right."""

    box: tuple[int, int, int, int] | None = None  # top, left, height, width
    flipped: bool = False
    rolled: tuple[int, int] = (0, 0)
    shifted: tuple[int, int] = (0, 0)


def least_area(crop: Crop, step: int, steps: int) -> float:
    """The least share of the area that a box may have at `step`, from 0, of `steps`.

    Source: CDA (Yin and Shen 2023), section 3, as its authors' code.
    """
    passed = min(step / (crop.over * steps), 1.0)
    if crop.falls == "cosine":
        left = (1 + math.cos(math.pi * passed)) / 2
    elif crop.falls == "linear":
        left = 1 - passed
    else:
        left = 1.0 if crop.falls == "step" and passed < 1 else 0.0
    return crop.least + (crop.most - crop.least) * left


def draw(view: View, size: int, step: int, steps: int, generator: torch.Generator) -> Look:
    """How images of `size` pixels a side are looked at, at `step` of `steps`."""
    box = None
    if view.crop is not None:
        box = _box(size, least_area(view.crop, step, steps), view.crop.most, generator)
    flipped = view.flip and bool(torch.rand((), generator=generator) < 0.5)
    least = 0 if view.one_way else -view.roll
    down, right = (
        torch.randint(least, view.roll + 1, (2,), generator=generator).tolist() if view.roll else (0, 0)
    )
    shift = view.shift
    shifted = torch.randint(-shift, shift + 1, (2,), generator=generator).tolist() if shift else (0, 0)
    return Look(box, flipped, (down, right), (shifted[0], shifted[1]))


def _box(size: int, least: float, most: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """A box whose area is uniform and the logarithm of whose sides is, as torchvision draws it; the whole
    image, if none fits."""
    for _ in range(_TRIES):
        area, ratio, *place = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        area = size**2 * (least + (most - least) * area)
        ratio = math.exp(math.log(_SIDES[0]) + (math.log(_SIDES[1]) - math.log(_SIDES[0])) * ratio)
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= size and 0 < height <= size:
            top, left = (
                int(part * (size - side + 1)) for part, side in zip(place, (height, width), strict=True)
            )
            return top, left, height, width
    return 0, 0, size, size


def seen(images: Tensor, look: Look) -> Tensor:
    """What is seen of images (n, c, h, w), in their size; differentiable.

    A box is enlarged bilinearly, without a filter, as when SRe2L's code was written.
    """
    if look.box is not None:
        top, left, height, width = look.box
        size = images.shape[-2:]
        images = images[..., top : top + height, left : left + width]
        if images.shape[-2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    if any(look.shifted):
        images = _shifted(images, *look.shifted)
    if look.flipped:
        images = images.flip(-1)
    return images.roll(look.rolled, (-2, -1)) if any(look.rolled) else images


def _shifted(images: Tensor, down: int, right: int) -> Tensor:
    """With 0, which is grey where images are normalised, in the places that are left."""
    padded = F.pad(images, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
    height, width = images.shape[-2:]
    top, left = max(-down, 0), max(-right, 0)
    return padded[..., top : top + height, left : left + width]
