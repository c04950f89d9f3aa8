"""The energy distance and its parts."""

from __future__ import annotations

from torch import Tensor

from condense.discrepancy.distances import distances
from condense.discrepancy.samples import checked, real_weights


def energy_distance(
    real: Tensor, synthetic: Tensor, mask: Tensor | None = None, constant: bool = True
) -> Tensor:
    """Energy distance of two samples: attraction to `real`, repulsion inside `synthetic`.

    Shapes: real (..., n, d), synthetic (..., m, d), mask (..., n) boolean or None -> (...); leading axes
    (classes) broadcast. `mask` is false where a stacked class is padded; every class needs one true entry.
    `constant=False` leaves out the mean distance inside `real`, which costs most and has no gradient with
    respect to `synthetic`: the value is then greater by that constant.
    Units: those of the features (a distance, not its square); >= 0, and 0 only if both samples have the same
    distribution.
    Raises: ValueError if the shapes do not fit or a sample is empty.
    Source: cpdm, eq. (6); Rizzo & Szekely 2016. All pairs count, a sample with itself too (V-statistic).
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    weights = real_weights(real, mask)
    value = 2 * (distances(real, synthetic).mean(-1) * weights).sum(-1) + diversity(synthetic)
    if constant:
        value = value - (distances(real, real) * weights.unsqueeze(-1) * weights.unsqueeze(-2)).sum((-2, -1))
    return value.to(dtype)


def diversity(synthetic: Tensor) -> Tensor:
    """Minus the mean distance of all pairs inside a sample (..., m, d) -> (...): the smaller, the more spread
    out.

    A sample with itself counts, so one point has diversity 0. Units: those of the features.
    Source: cpdm, the repulsive term of eq. (6) alone, its ablation "Diversity".
    """
    return -distances(synthetic, synthetic).mean((-2, -1)).to(synthetic.dtype)
