"""Cosine similarities of synthetic samples with real ones and with each other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from condense.discrepancy.samples import checked

Reading = Literal["nearest", "farthest"]


def representative(
    real: Tensor, synthetic: Tensor, mask: Tensor | None = None, reading: Reading = "nearest"
) -> Tensor:
    """Minus the cosine similarity of each synthetic sample with one real sample, averaged over the synthetic
    ones.

    The formula is printed as -min over the real samples, the similarity with the *farthest* one; the text
    says twice that each synthetic sample shall resemble *at least one* real sample, which is -max, the
    similarity with the nearest. Both readings are here: `nearest` does what the text says; `farthest`, the
    letter of the formula, draws every sample towards the middle of its class.
    Shapes: real (..., n, d), synthetic (..., m, d), mask (..., n) boolean or None -> (...). Units: none; from
    -1 to 1.
    Raises: ValueError if the shapes do not fit or a sample is empty.
    Source: discrepancy, A.2.2 (Gu et al. 2024). Cost: n m d products.
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    similarities = normalize(synthetic, dim=-1) @ normalize(real, dim=-1).mT
    if mask is not None:
        similarities = similarities.masked_fill(
            ~mask.unsqueeze(-2), -torch.inf if reading == "nearest" else torch.inf
        )
    chosen = similarities.amax(-1) if reading == "nearest" else similarities.amin(-1)
    return -chosen.mean(-1).to(dtype)


def cosine_diversity(synthetic: Tensor) -> Tensor:
    """The greatest cosine similarity of each sample with another of its class, averaged: (..., m, d) ->
    (...).

    0 for a single sample. Units: none; from -1 to 1.
    Source: discrepancy, A.2.2 (Gu et al. 2024). Cost: m^2 d products.
    """
    count = synthetic.shape[-2]
    if count < 2:
        return synthetic.sum((-2, -1)) * 0
    rows = normalize(synthetic, dim=-1)
    itself = torch.eye(count, dtype=torch.bool, device=synthetic.device)
    return (rows @ rows.mT).masked_fill(itself, -torch.inf).amax(-1).mean(-1)
