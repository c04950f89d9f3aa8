"""Matching of first moments."""

from __future__ import annotations

from torch import Tensor

from condense.discrepancy.samples import checked, real_weights


def mean_discrepancy(real: Tensor, synthetic: Tensor, mask: Tensor | None = None) -> Tensor:
    """Squared Euclidean distance between the means of two samples, summed (not averaged) over features.

    Shapes: real (..., n, d), synthetic (..., m, d), mask (..., n) boolean or None -> (...); leading axes (classes) broadcast.
    `mask` is false where a stacked class is padded; every class needs one true entry.
    Units: those of the features, squared.
    Raises: ValueError if the shapes do not fit or a sample is empty.
    Source: DM (Zhao & Bilen 2023); cpdm, eq. (2).
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    mean = real.mean(-2) if mask is None else (real_weights(real, mask).unsqueeze(-1) * real).sum(-2)
    return (mean - synthetic.mean(-2)).square().sum(-1).to(dtype)
