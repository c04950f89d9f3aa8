"""Differentiable siamese augmentation (DSA): one random operation for a whole batch, the same for real and
synthetic images.

Source: DSA (Zhao & Bilen 2021), with the parameter ranges of its authors' code. A strategy such as
`color_crop_cutout_flip_scale_rotate` names the operations of which every draw takes one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from condense.config import unknown

BRIGHTNESS = 1.0  # width of the range of shifts, in units of the images
SATURATION = 2.0  # greatest factor; the least is 0
CONTRAST = 0.5  # the factor lies in [CONTRAST, CONTRAST + 1)
CROP = 0.125  # greatest shift, as a share of the side
CUTOUT = 0.5  # side of the erased square, as a share of the side
MODES = ("one", "all")
_MOVING = ("crop", "scale", "rotate")
FLIP = 0.5  # probability
SCALE = 1.2  # the grid factor lies in [1 / SCALE, SCALE]
ROTATE = 15.0  # greatest angle, in degrees


@dataclass(frozen=True)
class Draw:
    """What was drawn: an operation ('none' is the identity) and its parameters.

    Every parameter is a tensor with one entry for a whole batch, or with one entry an image. Those in [0, 1)
    (brightness, saturation, contrast, flip, scale_x, scale_y, angle) are uniform draws, mapped to their range
    when they are applied; shift_rows, shift_cols, offset_rows and offset_cols are integers, in pixels. `then`
    comes after it.
    """

    operation: str
    parameters: Mapping[str, Tensor] = field(default_factory=dict)
    then: Draw | None = None


def operations(strategy: str) -> tuple[str, ...]:
    """The operations that a strategy names; none for '' and 'none'. Raises UserError for an unknown one."""
    if strategy in ("", "none"):
        return ()
    names = tuple(strategy.split("_"))
    for name in names:
        if name not in OPERATIONS:
            raise unknown("augmentation", name, OPERATIONS, f"augmentation strategy '{strategy}'")
    return names


def stages(strategy: str, mode: str) -> list[tuple[str, ...]]:
    """Of which operations a draw takes one, one stage after the other. Raises UserError for an unknown
    operation or mode.

    `mode` 'one': of all that are named. 'all', as IDC has it: flip and color, if named, then of those that
    move the image, then cutout.
    """
    names = operations(strategy)
    if mode not in MODES:
        raise unknown("mode of augmentation", mode, MODES)
    groups = [names] if mode == "one" else [("flip",), ("color",), _MOVING, ("cutout",)]
    return [kept for group in groups if (kept := tuple(name for name in group if name in names))]


def draw(strategy: str, size: int, generator: Generator, mode: str = "one") -> Draw:
    """One siamese draw for square images of `size` pixels: an operation of the strategy, uniformly, with one
    set of parameters."""
    return draw_each(strategy, size, 1, generator, mode)


def draw_each(strategy: str, size: int, count: int, generator: Generator, mode: str = "one") -> Draw:
    """One operation for a batch of `count` images of `size` pixels, with parameters of its own for every
    image.

    This is how networks are trained on augmented images. `generator` is a CPU generator; `mode` as in
    `stages`.
    Raises UserError for an unknown operation or mode.
    """
    chosen = []
    for names in stages(strategy, mode):
        # A stage of one operation by its nature takes no number
        alone = mode == "all" and names[0] not in _MOVING
        chosen.append(names[0] if alone else names[int(torch.randint(len(names), (1,), generator=generator))])
    drawn = [_parameters(name, size, count, generator) for name in chosen]
    chain = None
    for stage in reversed(drawn):
        chain = Draw(stage.operation, stage.parameters, chain)
    return chain or Draw("none")


def _parameters(name: str, size: int, count: int, generator: Generator) -> Draw:
    ranges = {parameter: limits(size) for parameter, limits in OPERATIONS[name].integers.items()}
    integers = {
        parameter: torch.randint(low, high + 1, (count,), generator=generator)
        for parameter, (low, high) in ranges.items()
    }
    uniforms = {parameter: torch.rand(count, generator=generator) for parameter in OPERATIONS[name].uniforms}
    return Draw(name, {**integers, **uniforms})


def apply(images: Tensor, drawn: Draw) -> Tensor:
    """`images` (n, c, h, w) under a draw, differentiable; shape, dtype and device are kept.

    A siamese draw commutes with concatenation, so real and synthetic images may be given together or apart.
    Raises ValueError if the draw has neither one entry nor one an image, UserError if its operation is not
    known.
    """
    if drawn.then is not None:
        return apply(apply(images, replace(drawn, then=None)), drawn.then)
    if drawn.operation == "none":
        return images
    if drawn.operation not in OPERATIONS:
        raise unknown("augmentation", drawn.operation, OPERATIONS)
    if any(len(entries) not in (1, len(images)) for entries in drawn.parameters.values()):
        raise ValueError(
            f"a draw of '{drawn.operation}' has neither one entry nor one for each of {len(images)} images"
        )
    return OPERATIONS[drawn.operation].function(images, **drawn.parameters)


def apply_each_class(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """`images` (C, n, c, h, w), every class under its own draw. Raises ValueError if there are not C
    draws."""
    if len(images) != len(draws):
        raise ValueError(f"{len(draws)} draws for {len(images)} classes")
    return torch.stack([apply(batch, drawn) for batch, drawn in zip(images, draws, strict=True)])


def _rounded(value: float) -> int:
    """The nearest integer, halves up (`round` takes halves to the even neighbour)."""
    return math.floor(value + 0.5)


def _is_number(entries: Tensor) -> bool:
    """Whether the host may take the one entry for all images; it would have to wait for one on a GPU."""
    return len(entries) == 1 and entries.device.type == "cpu"


def _factor(entries: Tensor, images: Tensor) -> Tensor | float:
    """Parameters ready to multiply images: a number for a siamese draw, which needs no copy to the device,
    else (n, 1, 1, 1)."""
    if _is_number(entries):
        return float(entries)
    return _entries(entries.to(images.dtype), images.device)


def _color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    images = images + (_factor(brightness, images) - 0.5) * BRIGHTNESS
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (_factor(saturation, images) * SATURATION) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (_factor(contrast, images) + CONTRAST) + mean


def _entries(entries: Tensor, device: torch.device) -> Tensor:
    return entries.to(device, non_blocking=True).view(-1, 1, 1, 1)


def _crop(images: Tensor, shift_rows: Tensor, shift_cols: Tensor) -> Tensor:
    """The window that lies `shift` pixels down and right of the image's own place, zero outside the image."""
    height, width = images.shape[-2:]
    reach_rows, reach_cols = (_rounded(side * CROP) for side in (height, width))
    padded = F.pad(images, (reach_cols, reach_cols, reach_rows, reach_rows))
    if _is_number(shift_rows):
        top, left = reach_rows + int(shift_rows), reach_cols + int(shift_cols)
        return padded[..., top : top + height, left : left + width]
    device = images.device
    image = torch.arange(len(images), device=device).view(-1, 1, 1, 1)
    channel = torch.arange(images.shape[1], device=device).view(1, -1, 1, 1)
    rows = _entries(shift_rows, device) + (torch.arange(height, device=device) + reach_rows).view(1, 1, -1, 1)
    cols = _entries(shift_cols, device) + (torch.arange(width, device=device) + reach_cols).view(1, 1, 1, -1)
    return padded[image, channel, rows, cols]


def _cutout(images: Tensor, offset_rows: Tensor, offset_cols: Tensor) -> Tensor:
    """Zeroes a square around the given centre, clipped at the border; an even square reaches further up and
    left."""
    height, width = images.shape[-2:]
    rows = _erased(offset_rows, height, images.device).unsqueeze(-1)
    cols = _erased(offset_cols, width, images.device).unsqueeze(-2)
    return images.masked_fill((rows & cols).unsqueeze(1), 0)


def _erased(offset: Tensor, side: int, device: torch.device) -> Tensor:
    """Which of `side` pixels lie in the square: (k,) centres -> (k, side) boolean."""
    square = _rounded(side * CUTOUT)
    start = offset.view(-1, 1) - square // 2
    pixel = torch.arange(side, device=offset.device)
    return ((pixel >= start) & (pixel < start + square)).to(device, non_blocking=True)


def _flip(images: Tensor, flip: Tensor) -> Tensor:
    if _is_number(flip):
        return images.flip(-1) if float(flip) < FLIP else images
    return torch.where(_entries(flip < FLIP, images.device), images.flip(-1), images)


def _scale(images: Tensor, scale_x: Tensor, scale_y: Tensor) -> Tensor:
    factor_x, factor_y = (
        _factor(entries.double() * (SCALE - 1 / SCALE) + 1 / SCALE, images) for entries in (scale_x, scale_y)
    )
    return _resampled(images, ((factor_x, 0), (0, factor_y)))


def _rotate(images: Tensor, angle: Tensor) -> Tensor:
    radians = (angle.double() - 0.5) * 2 * math.radians(ROTATE)
    cosine, sine = _factor(radians.cos(), images), _factor(radians.sin(), images)
    return _resampled(images, ((cosine, -sine), (sine, cosine)))


def _resampled(images: Tensor, matrix: Sequence[Sequence[Tensor | float]]) -> Tensor:
    """Bilinear samples where `matrix` maps the pixel centres of [-1, 1] x [-1, 1] (x first), zero outside the
    image.

    Written out rather than with `affine_grid`, whose matrix product may be rounded to TF32; a siamese grid is
    shared, not copied.
    """
    height, width = images.shape[-2:]
    x, y = (
        (2 * torch.arange(side, device=images.device, dtype=images.dtype) + 1) / side - 1
        for side in (width, height)
    )
    grid = torch.stack([to_x * x + to_y * y.view(1, 1, -1, 1) for to_x, to_y in matrix], -1).squeeze(1)
    grid = grid.expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class _Operation:
    """A function of images and parameters, the uniform parameters, and the ranges of the integer ones as
    functions of the side."""

    function: Callable[..., Tensor]
    uniforms: tuple[str, ...] = ()
    integers: Mapping[str, Callable[[int], tuple[int, int]]] = field(default_factory=dict)


def _shifts(size: int) -> tuple[int, int]:
    return -_rounded(size * CROP), _rounded(size * CROP)


def _centres(size: int) -> tuple[int, int]:
    return 0, size - _rounded(size * CUTOUT) % 2


OPERATIONS = {
    "color": _Operation(_color, ("brightness", "saturation", "contrast")),
    "crop": _Operation(_crop, integers={"shift_rows": _shifts, "shift_cols": _shifts}),
    "cutout": _Operation(_cutout, integers={"offset_rows": _centres, "offset_cols": _centres}),
    "flip": _Operation(_flip, ("flip",)),
    "scale": _Operation(_scale, ("scale_x", "scale_y")),
    "rotate": _Operation(_rotate, ("angle",)),
}
