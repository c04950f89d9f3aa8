"""What every discrepancy of two samples shares: the check of their shapes, their precision and the weights of
the real sample."""

from __future__ import annotations

import torch
from torch import Tensor


def checked(
    real: Tensor, synthetic: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, torch.dtype]:
    """Both samples in one precision, at least single, and the dtype that the result is to have.

    Raises ValueError unless the shapes are (..., n, d), (..., m, d) and (..., n) with n, m > 0.
    """
    if real.shape[-1] != synthetic.shape[-1] or 0 in (real.shape[-2], synthetic.shape[-2]):
        raise ValueError(
            f"need (..., n, d) and (..., m, d) with n, m > 0; got {tuple(real.shape)} and "
            f"{tuple(synthetic.shape)}"
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != real.shape[:-1]):
        raise ValueError(
            f"the mask of {tuple(real.shape)} is boolean {tuple(real.shape[:-1])}; got {mask.dtype} "
            f"{tuple(mask.shape)}"
        )
    kept = torch.promote_types(real.dtype, synthetic.dtype)
    dtype = torch.promote_types(kept, torch.float32)
    return real.to(dtype), synthetic.to(dtype), kept


def real_weights(real: Tensor, mask: Tensor | None) -> Tensor:
    """Weights (..., n) that sum to 1 over the real samples that count: all of them, or those where `mask` is
    true."""
    if mask is None:
        return real.new_full(real.shape[:-1], 1 / real.shape[-2])
    return mask.to(real.dtype) / mask.sum(-1, keepdim=True)
