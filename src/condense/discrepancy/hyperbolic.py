"""Distance of the centroids of two samples in hyperbolic space."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from condense.discrepancy.samples import checked, real_weights

_SMALLEST = 1e-12  # of a distance: the gradient of the square root below it is 0, not infinite


def hyperbolic_centroids(real: Tensor, synthetic: Tensor, mask: Tensor | None = None) -> Tensor:
    """The hyperbolic distance of the centroids of two samples, whose features are tangent vectors at the
    origin of the hyperboloid of curvature -1.

    A feature v becomes (cosh |v|, sinh |v| v / |v|); the centroid of a sample is its mean over the root of
    minus the Lorentz product of that mean with itself; the distance of centroids a and b is arccosh(-<a, b>).
    Since -<x, y> of two points is the cosh of their distance, the value is computed as
    log-means of these over pairs, (real, synthetic), (real, real), (synthetic, synthetic): none of them
    overflows or cancels, however long the features are, where the means of the points themselves would.
    Shapes: real (..., n, d), synthetic (..., m, d), mask (..., n) boolean or None -> (...).
    Units: of hyperbolic length; >= 0, and 0 for two samples of one centroid. Computed in double precision.
    Raises: ValueError if the shapes do not fit or a sample is empty.
    Source: HDD (2025), its Lorentz centroids and their distance; its factor of 20 is a weight here.
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    real, synthetic = real.double(), synthetic.double()
    of_real = real_weights(real, mask)
    of_synthetic = real_weights(synthetic, None)
    between = _log_mean(_log_cosh_distances(real, synthetic), of_real, of_synthetic)
    within = _log_mean(_log_cosh_distances(real), of_real, of_real)
    within = within + _log_mean(_log_cosh_distances(synthetic), of_synthetic, of_synthetic)
    return _arccosh_of_exp(between - within / 2).to(dtype)


def _log_cosh_distances(first: Tensor, second: Tensor | None = None) -> Tensor:
    """log cosh of the distances of points (..., n, d) from points (..., m, d), by default from each other:
    (..., n, m).

    cosh of the distance of two points at r and s from the origin, at an angle t between them, is
    cosh(r - s) + sinh(r) sinh(s) (1 - cos t).
    """
    other = first if second is None else second
    r, s = _lengths(first), _lengths(other)
    gaps = 1 - (first / r.unsqueeze(-1)) @ (other / s.unsqueeze(-1)).mT
    if second is None:  # sinh would make the rounding of a point's angle with itself large
        gaps = gaps.masked_fill(torch.eye(gaps.shape[-1], dtype=torch.bool, device=gaps.device), 0)
    smallest = torch.finfo(gaps.dtype).tiny
    apart = torch.where(gaps > smallest, gaps.clamp_min(smallest).log(), -torch.inf)
    r, s = r.unsqueeze(-1), s.unsqueeze(-2)
    return torch.logaddexp(_log_cosh(r - s), _log_sinh(r) + _log_sinh(s) + apart)


def _log_mean(values: Tensor, of_first: Tensor, of_second: Tensor) -> Tensor:
    """log of the weighted mean of exp(values), (..., n, m) -> (...)."""
    return torch.logsumexp(values + (of_first.unsqueeze(-1) * of_second.unsqueeze(-2)).log(), (-2, -1))


def _lengths(features: Tensor) -> Tensor:
    """Norms (..., n), at least the smallest."""
    return (features.square().sum(-1) + _SMALLEST**2).sqrt()


def _log_cosh(value: Tensor) -> Tensor:
    size = value.abs()
    return size + torch.log1p(torch.exp(-2 * size)) - math.log(2)


def _log_sinh(value: Tensor) -> Tensor:
    """Of a value above 0."""
    return value + torch.log(-torch.expm1(-2 * value)) - math.log(2)


def _arccosh_of_exp(value: Tensor) -> Tensor:
    """arccosh(e^z) for z >= 0; what rounding brings below is 0."""
    value = value.clamp_min(_SMALLEST)
    return value + torch.log1p(torch.sqrt(-torch.expm1(-2 * value)))
