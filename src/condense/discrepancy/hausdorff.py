"""The Hausdorff distance."""

from __future__ import annotations

import torch
from torch import Tensor

from condense.discrepancy.distances import distances
from condense.discrepancy.samples import checked


def hausdorff_distance(real: Tensor, synthetic: Tensor, mask: Tensor | None = None) -> Tensor:
    """The greatest distance from a sample of either set to the nearest sample of the other.

    Shapes: real (..., n, d), synthetic (..., m, d), mask (..., n) boolean or None -> (...); leading axes
    (classes) broadcast. Where the synthetic samples are some of the real ones it is the covering radius of
    these. Its gradient is that of the deciding pair.
    Units: those of the features. Raises: ValueError if the shapes do not fit or a sample is empty.
    Source: discrepancy, section 5.1.4 (Chen & Selvan 2025). Cost: n m d operations.
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    apart = distances(real, synthetic)
    of_real, of_synthetic = apart.amin(-1), apart
    if mask is not None:
        of_real, of_synthetic = (
            of_real.masked_fill(~mask, 0),
            apart.masked_fill(~mask.unsqueeze(-1), torch.inf),
        )
    return torch.maximum(of_real.amax(-1), of_synthetic.amin(-2).amax(-1)).to(dtype)
