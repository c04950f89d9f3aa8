"""Matching of first moments."""

from __future__ import annotations

from torch import Tensor

from condense.discrepancy.samples import checked, real_weights


def mean_discrepancy(real: Tensor, synthetic: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared Euclidean distance between the means of two samples, summed (not averaged) over features.

    Shapes: real (..., n, d), synthetic (..., m, d), mask (..., n) boolean or None -> (...); leading axes
    (classes) broadcast. `mask` is false where a stacked class is padded; every class needs one true entry.
    Units: those of the features, squared.
    Raises: ValueError if the shapes do not fit or a sample is empty.
    Source: DM (Zhao & Bilen 2023); cpdm, eq. (2).
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    mean = real.mean(-2) if mask is None else (real_weights(real, mask).unsqueeze(-1) * real).sum(-2)
    return (mean - synthetic.mean(-2)).square().sum(-1).to(dtype)


def variance_discrepancy(real: Tensor, synthetic: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared Euclidean distance between the (biased) variances of every feature in two samples.

    Shapes as in `mean_discrepancy`. Units: those of the features, to the fourth.
    Source: discrepancy, section 5.1.4, second-order moment of Yu et al. 2024.
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    variances = [
        (_centred(*pair).square() * pair[1].unsqueeze(-1)).sum(-2)
        for pair in _weighted(real, synthetic, mask)
    ]
    return (variances[0] - variances[1]).square().sum(-1).to(dtype)


def covariance_discrepancy(
    real: Tensor,
    synthetic: Tensor,
    mask: Tensor | None = None,
    unbiased: bool = False,
    per_feature: bool = False,
) -> Tensor:
    """Squared Frobenius distance between the covariance matrices of two samples, of n points over n, or over
    n - 1 (`unbiased`); `per_feature`: divided by d.

    Shapes as in `mean_discrepancy`; `unbiased` needs two points of each sample, and else gives no number.
    Units: those of the features, to the fourth. Computed from inner products of samples, never from d x d
    matrices: (n + m)^2 d operations.
    Source: discrepancy, section 5.1.4 (covariances in place of variances); DSDM (Li et al. 2024), unbiased
    and per feature.
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    (a, b) = (
        _centred(*pair) * (_unbiased(pair[1]) if unbiased else pair[1]).sqrt().unsqueeze(-1)
        for pair in _weighted(real, synthetic, mask)
    )
    squares = ((left @ right.mT).square().sum((-2, -1)) for left, right in ((a, a), (a, b), (b, b)))
    value = next(squares) - 2 * next(squares) + next(squares)
    return (value / (real.shape[-1] if per_feature else 1)).to(dtype)


def _unbiased(weights: Tensor) -> Tensor:
    """Weights 1/n of the points that count as 1/(n - 1)."""
    return weights / (1 - weights.amax(-1, keepdim=True))


def _weighted(
    real: Tensor, synthetic: Tensor, mask: Tensor | None
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return (real, real_weights(real, mask)), (synthetic, real_weights(synthetic, None))


def _centred(sample: Tensor, weights: Tensor) -> Tensor:
    return sample - (weights.unsqueeze(-1) * sample).sum(-2, keepdim=True)
