"""Views of single images, by the names that protocols give them: each image of a batch is changed by numbers
of its own, which are drawn first and can be kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from condense.config import unknown
from condense.data.dataset import denormalise, normalise
from condense.specs import AnyView

Draws = Mapping[str, Tensor]
_TRIES = 10  # boxes that are drawn for one that fits, as torchvision does
_RATIO = math.log(4 / 3)  # the logarithm of the greatest width over height; the least is the inverse


@dataclass(frozen=True)
class Scaling:
    """By which constants, one a channel, images are normalised: (pixel - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Drawn:
    """What was drawn for a batch: for each view its numbers, each a tensor (b, ...) on the CPU."""

    views: Sequence[AnyView] = ()
    draws: Sequence[Draws] = field(default_factory=tuple)

    def apply(self, images: Tensor, scaling: Scaling | None) -> Tensor:
        """Normalised images (b, c, h, w) under all views, one after the other; shape, type and device are
        kept. Raises ValueError where a view needs the pixels and `scaling` is not known."""
        for view, draws in zip(self.views, self.draws, strict=True):
            images = VIEWS[view.name].apply(view, images, draws, scaling)
        return images


def draw(views: Sequence[AnyView], count: int, size: int, generator: Generator) -> Drawn:
    """The numbers of `views` for `count` images of `size` pixels a side; nothing is drawn without views.
    Raises UserError for an unknown view."""
    for view in views:
        if view.name not in VIEWS:
            raise unknown("view", view.name, VIEWS)
    return Drawn(views, tuple(VIEWS[view.name].draw(view, count, size, generator) for view in views))


def _draw_box(settings: Any, count: int, size: int, generator: Generator) -> Draws:
    """Rows and columns of boxes: first, and how many; the first of ten that fits into the image, else all of
    it."""
    areas = (
        size**2
        * (settings.area + (1 - settings.area) * torch.rand(count, _TRIES, generator=generator)).double()
    )
    ratios = torch.exp((2 * torch.rand(count, _TRIES, generator=generator) - 1).double() * _RATIO)
    widths, heights = ((areas * ratios).sqrt().round(), (areas / ratios).sqrt().round())
    fits = (widths >= 1) & (widths <= size) & (heights >= 1) & (heights <= size)
    first = fits.to(torch.int64).argmax(1, keepdim=True)  # 0 where none fits

    def chosen(sides: Tensor) -> Tensor:
        return torch.where(fits.any(1), sides.gather(1, first)[:, 0], float(size)).long()

    height, width = chosen(heights), chosen(widths)
    places = torch.rand(2, count, generator=generator).double()
    top, left = (
        (place * (size - side + 1)).long().clamp(max=size - side)
        for place, side in zip(places, (height, width), strict=True)
    )
    return {"top": top, "left": left, "height": height, "width": width}


def _crop(settings: Any, images: Tensor, draws: Draws, scaling: Scaling | None) -> Tensor:
    boxes = zip(*(draws[name].tolist() for name in ("top", "left", "height", "width")), strict=True)
    size = images.shape[-2:]
    resized = [
        F.interpolate(
            image[None, :, top : top + height, left : left + width],
            size,
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        for image, (top, left, height, width) in zip(images, boxes, strict=True)
    ]
    return torch.cat(resized)


def _draw_seed(settings: Any, count: int, size: int, generator: Generator) -> Draws:
    return {"seed": torch.randint(1 << 62, (count,), generator=generator)}


def _randaugment(settings: Any, images: Tensor, draws: Draws, scaling: Scaling | None) -> Tensor:
    """Each image by what torchvision draws from its seed. The generator that torchvision draws from is put
    back, since dropout draws from it too."""
    from torchvision.transforms import RandAugment

    if scaling is None:
        raise ValueError("RandAugment changes pixels, and it is not known how the images were normalised")
    policy = RandAugment(settings.operations, settings.magnitude)
    pixels = denormalise(images, scaling.mean, scaling.std)
    pixels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    before, changed = torch.default_generator.get_state(), []
    try:
        for image, seed in zip(pixels, draws["seed"].tolist(), strict=True):
            torch.default_generator.manual_seed(seed)
            changed.append(policy(image))
    finally:
        torch.default_generator.set_state(before)
    shown = torch.stack(changed).to(images.dtype) / 255
    return normalise(shown, scaling.mean, scaling.std)


def _draw_places(settings: Any, count: int, size: int, generator: Generator) -> Draws:
    keys = torch.rand(2, count, settings.factor, generator=generator)
    return dict(zip(("rows", "cols"), keys.argsort(2), strict=True))


def _shuffle(settings: Any, images: Tensor, draws: Draws, scaling: Scaling | None) -> Tensor:
    """The last row and column of patches take what does not divide by the factor, wherever they come to
    lie."""
    moved = []
    for image, rows, cols in zip(images, draws["rows"].tolist(), draws["cols"].tolist(), strict=True):
        for axis, order in ((-2, rows), (-1, cols)):
            step = image.shape[axis] // settings.factor
            ends = [step * number for number in range(1, settings.factor)]
            parts = image.tensor_split(ends, axis)
            image = torch.cat([parts[number] for number in order], axis)
        moved.append(image)
    return torch.stack(moved)


@dataclass(frozen=True)
class _View:
    """`draw`: settings, images, their size and a generator -> numbers; `apply`: settings, images
    (b, c, h, w), numbers and how the images are normalised -> images."""

    draw: Callable[[Any, int, int, Generator], Draws]
    apply: Callable[[Any, Tensor, Draws, Scaling | None], Tensor]


VIEWS: dict[str, _View] = {
    "resized_crop": _View(_draw_box, _crop),
    "randaugment": _View(_draw_seed, _randaugment),
    "shuffled_patches": _View(_draw_places, _shuffle),
}
