"""Maximum mean discrepancy with the kernels of M3D."""

from __future__ import annotations

from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from condense.discrepancy.distances import distances
from condense.discrepancy.samples import checked, real_weights

Kernel = Literal["gaussian", "linear", "polynomial", "laplace"]
MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the bandwidth, one Gaussian each
GAMMAS = (0.1, 1.0, 5.0)


def kernel_mmd(
    real: Tensor, synthetic: Tensor, mask: Tensor | None = None, kernel: Kernel = "gaussian"
) -> Tensor:
    """Squared maximum mean discrepancy of two samples, biased: mean K_xx - 2 mean K_xs + mean K_ss, a sample
    with itself counted.

    Shapes: real (..., n, d), synthetic (..., m, d), mask (..., n) boolean or None -> (...); leading axes
    (classes) broadcast. `gaussian`: a sum of exp(-d^2 / (b f)) over five multiples f of the bandwidth b, the
    mean squared distance of two different samples of both together, taken as a constant; `laplace`
    (as it is called there): a sum of exp(-gamma d^2); `polynomial`: (x y + 1)^2; `linear`: x y. Units: none
    (gaussian, laplace), those of the features, squared (linear) or to the fourth (polynomial).
    Raises: ValueError if the shapes do not fit or a sample is empty.
    Source: M3D (Zhang et al. 2024), as public descendants of its code have it; cpdm, section 5.2. Cost:
    (n + m)^2 d operations.
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    both = torch.cat([real, synthetic], -2)
    weights = torch.cat(
        [real_weights(real, mask), synthetic.new_full(synthetic.shape[:-1], -1 / synthetic.shape[-2])], -1
    )
    values = _values(both, weights != 0, kernel)
    return (weights.unsqueeze(-1) * values * weights.unsqueeze(-2)).sum((-2, -1)).to(dtype)


def bandwidth(apart: Tensor, held: Tensor | None = None) -> Tensor:
    """The mean squared distance of two different samples: squared distances (..., k, k) -> (..., 1, 1).

    `held` (..., k) is true for the samples that count; None: all do.
    """
    if held is None:
        count = torch.tensor(apart.shape[-1], dtype=apart.dtype, device=apart.device)
    else:
        count = held.sum(-1).to(apart.dtype)
        apart = apart * (held.unsqueeze(-1) & held.unsqueeze(-2))
    return (apart.sum((-2, -1)) / (count * count - count))[..., None, None]


def _values(both: Tensor, held: Tensor, kernel: Kernel) -> Tensor:
    """The kernel of all pairs, (..., k, d) -> (..., k, k)."""
    if kernel in ("linear", "polynomial"):
        products = both @ both.mT
        return products if kernel == "linear" else (products + 1).square()
    apart = distances(both, both).square()
    if kernel == "laplace":
        return reduce(torch.add, ((-gamma * apart).exp() for gamma in GAMMAS))
    width = bandwidth(apart.detach(), held)
    return reduce(torch.add, ((-apart / (width * multiple)).exp() for multiple in MULTIPLIERS))
