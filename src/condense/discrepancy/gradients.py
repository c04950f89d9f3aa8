"""Distances between two gradients of a network, each a sequence of tensors, one a parameter.

A distance of several classes at once is that of each: every tensor then begins with the same `leading` axes,
such as (C, out, in, h, w) for the gradients of C class losses by one convolution. Tensors that a distance
does not look at need not be computed: it looks at those with at least `least_axes` axes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condense.config import unknown

EPS = 1e-6  # added to the product of two norms, as in the authors' code


def layerwise_cosine(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], leading: int = 0, least_axes: int = 2
) -> Tensor:
    """Sum over tensors and their rows of 1 - cosine; a row is what belongs to one output of a layer.

    Convolution (out, in, h, w): rows of in * h * w numbers; linear (out, in): of in; layer norm (c, h, w): of
    h * w. Biases and the two vectors of other norms, with one axis, count 0. A row that is 0 on either side
    counts 1; with respect to a synthetic one its gradient is -real / EPS, that of the formula, finite and
    very large.
    Shapes: each tensor of `real` and `synthetic` (*classes, *parameter), with `leading` axes of classes ->
    (*classes).
    Units: none; from 0, less what `EPS` makes of small rows, to twice the number of rows. The scale of a row
    hardly matters.
    Raises: ValueError if the sequences differ in length or shapes, or have no tensor that counts.
    Source: DC (Zhao et al. 2021); its code: match_loss with `ours`.
    """
    return _sum_over_tensors(_rows_apart, real, synthetic, leading, least_axes)


def squared_difference(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], leading: int = 0, least_axes: int = 1
) -> Tensor:
    """Sum of the squared differences of all numbers, biases included.

    Shapes and errors as in `layerwise_cosine`. Units: those of the gradients, squared.
    Source: DC, its code: match_loss with `mse`; IDC (Kim et al. 2022), which leaves out tensors with fewer
    than three axes.
    """
    return _sum_over_tensors(
        lambda a, b: (b - a).square().sum(-1).sum(-1), real, synthetic, leading, least_axes
    )


def absolute_difference(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], leading: int = 0, least_axes: int = 1
) -> Tensor:
    """Sum of the absolute differences of all numbers.

    Shapes and errors as in `layerwise_cosine`. Units: those of the gradients. The gradient is 0 where two
    numbers are equal.
    Source: IDC, `l1`, for convolutions only.
    """
    return _sum_over_tensors(lambda a, b: (b - a).abs().sum(-1).sum(-1), real, synthetic, leading, least_axes)


def whole_cosine(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], leading: int = 0, least_axes: int = 1
) -> Tensor:
    """1 - cosine of the two gradients, each all its tensors in one row, biases included.

    Shapes and errors as in `layerwise_cosine`. Units: none; from 0 to 2. 1, with gradient 0, where a gradient
    is 0.
    Source: DC, its code: match_loss with `cos`.
    """
    pairs, dtype = _pairs(real, synthetic, leading, least_axes)
    products, ours, theirs = (
        torch.stack([(a * b).flatten(leading).sum(-1) for a, b in chosen]).sum(0)
        for chosen in (pairs, [(a, a) for a, _ in pairs], [(b, b) for _, b in pairs])
    )
    return (1 - products / (_root(ours) * _root(theirs) + EPS)).to(dtype)


@dataclass(frozen=True)
class GradientDistance:
    """A distance of gradients, and the least number of axes that a parameter has whose gradient it looks
    at."""

    function: Callable[..., Tensor]
    least_axes: int

    def __call__(self, real: Sequence[Tensor], synthetic: Sequence[Tensor], leading: int = 0) -> Tensor:
        """See the function; tensors (*classes, *parameter) with `leading` axes of classes -> (*classes)."""
        return self.function(real, synthetic, leading, self.least_axes)

    def counted(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Those of a network's parameters whose gradients it looks at, in their order."""
        return [parameter for parameter in parameters if parameter.ndim >= self.least_axes]


DISTANCES = {
    "layerwise_cosine": GradientDistance(layerwise_cosine, 2),
    "squared_difference": GradientDistance(squared_difference, 1),
    "whole_cosine": GradientDistance(whole_cosine, 1),
    "squared_difference_of_convolutions": GradientDistance(squared_difference, 3),
    "absolute_difference_of_convolutions": GradientDistance(absolute_difference, 3),
}


def gradient_distance(name: str) -> GradientDistance:
    """The distance of that name. Raises UserError for one that is not known."""
    if name not in DISTANCES:
        raise unknown("distance of gradients", name, DISTANCES)
    return DISTANCES[name]


def _rows_apart(real: Tensor, synthetic: Tensor) -> Tensor:
    """1 - cosine of every row, summed: (*classes, rows, k) twice -> (*classes)."""
    sizes = _root(real.square().sum(-1)) * _root(synthetic.square().sum(-1))
    return (1 - (real * synthetic).sum(-1) / (sizes + EPS)).sum(-1)


def _root(squared: Tensor) -> Tensor:
    """The square root; where it is 0, or as good as that, its gradients of every order are 0 instead of
    infinite."""
    there = squared > torch.finfo(squared.dtype).tiny ** 0.5
    return torch.where(there, squared, 1).sqrt() * there


def _sum_over_tensors(
    apart: Callable[[Tensor, Tensor], Tensor],
    real: Sequence[Tensor],
    synthetic: Sequence[Tensor],
    leading: int,
    least_axes: int,
) -> Tensor:
    """The sum of `apart` over tensors as rows (*classes, rows, k); a tensor with a single axis is a column of
    k = 1."""
    pairs, dtype = _pairs(real, synthetic, leading, least_axes)
    values = [
        apart(*(tensor.unflatten(leading, (-1, 1)).flatten(leading + 1) for tensor in pair)) for pair in pairs
    ]
    return torch.stack(values).sum(0).to(dtype)


def _pairs(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], leading: int, least_axes: int
) -> tuple[list[tuple[Tensor, Tensor]], torch.dtype]:
    """The tensors that count, side by side in at least single precision, and the type that the distance is to
    have."""
    shapes = [[tuple(tensor.shape) for tensor in side] for side in (real, synthetic)]
    classes = {shape[:leading] for side in shapes for shape in side}
    if shapes[0] != shapes[1] or len(classes) > 1:
        raise ValueError(
            f"need two gradients of the same shapes, with {leading} axes of classes; got {shapes[0]} and "
            f"{shapes[1]}"
        )
    counted = [(a, b) for a, b in zip(real, synthetic, strict=True) if a.ndim - leading >= least_axes]
    if not counted:
        raise ValueError(
            f"no tensor has {least_axes} axes or more; got {shapes[0]} with {leading} axes of classes"
        )
    kept = torch.promote_types(counted[0][0].dtype, counted[0][1].dtype)
    dtype = torch.promote_types(kept, torch.float32)
    return [(a.to(dtype), b.to(dtype)) for a, b in counted], kept
