"""Euclidean distances of all pairs, exact near zero, with a gradient that fits in memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from condense.kernels.context import Context


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances of all pairs: a (..., n, d), b (..., m, d) -> (..., n, m); leading axes broadcast.

    Computed from differences, so that equal points are at distance 0 exactly; their gradient is 0.
    Once differentiable. In single precision or better: half-precision samples are measured in float32.
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    return _Distances.apply(a.to(dtype), b.to(dtype))


class _Distances(torch.autograd.Function):
    """`torch.cdist` by differences; its own backward would need n * m * d numbers on a GPU, this one needs n
    * m."""

    @staticmethod
    def forward(ctx: Context, a: Tensor, b: Tensor) -> Tensor:
        result = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        ctx.save_for_backward(a, b, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Gradients (..., n, d) and (..., m, d); 0 from pairs at distance 0."""
        # Sum over pairs of w (a - b) with w = gradient / distance. In double precision, since the difference
        # is taken after the sum: at a distance of a rounding error w is huge and single precision would leave
        # nothing but noise.
        a, b, result = ctx.saved_tensors
        weight = torch.where(result > 0, gradient / result, 0).double()
        of_a, of_b = ctx.needs_input_grad
        return _weighted_differences(weight, a, b) if of_a else None, _weighted_differences(
            weight.mT, b, a
        ) if of_b else None


def _weighted_differences(weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """sum over j of weight[i, j] (x[i] - y[j]): (..., n, m), (..., n, d), (..., m, d) -> the shape and dtype
    of x."""
    total = weight.sum(-1, keepdim=True) * x - weight @ y.double()
    return total.sum_to_size(x.shape).to(x.dtype)
