"""Discrepancies of characteristic functions at given frequencies."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from condense.discrepancy.samples import checked, real_weights

_LEAST = 1e-12  # of the squared discrepancy at a frequency: the square root then has a gradient
# Numbers of the table of points by frequencies that are held at once, where it has no gradient
_BLOCK = 1 << 26


def characteristic_function(
    real: Tensor,
    synthetic: Tensor,
    frequencies: Tensor,
    mask: Tensor | None = None,
    amplitude: float = 0.5,
    phase: float = 0.5,
) -> Tensor:
    """Mean over frequencies of sqrt(amplitude (|P| - |Q|)^2 + phase 2 (|P| |Q| - Re P Re Q - Im P Im Q)).

    P and Q are the empirical characteristic functions, means of e^(i t x), of the real and the synthetic
    sample. With both weights 1/2 this is |P - Q| / sqrt(2). The phase part is at least 1e-12, so that samples
    that agree have sqrt(phase) 1e-6.
    Shapes: real (..., n, d), synthetic (..., m, d), frequencies (f, d), mask (..., n) boolean or None ->
    (...).
    Units: none; at most sqrt(amplitude + 4 phase). Raises: ValueError if the shapes do not fit or a sample is
    empty.
    Source: NCFM (Wang et al. 2025), eq. (5), as its authors' code has it. Cost: 2 (n + m) d f operations.
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    frequencies = frequencies.to(real.dtype)
    p_real, p_imaginary = _mean_of(real, frequencies, real_weights(real, mask))
    q_real, q_imaginary = _mean_of(synthetic, frequencies, real_weights(synthetic, None))
    p, q = (_length(*parts) for parts in ((p_real, p_imaginary), (q_real, q_imaginary)))
    of_amplitude = (p - q).square()
    of_phase = (2 * (p * q - p_real * q_real - p_imaginary * q_imaginary)).clamp(min=_LEAST)
    return (amplitude * of_amplitude + phase * of_phase).sqrt().mean(-1).to(dtype)


def _mean_of(sample: Tensor, frequencies: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the characteristic function: (..., n, d), (f, d), (..., n) -> two (...,
    f)."""
    if sample.requires_grad:
        angles = sample @ frequencies.mT
        along = weights.unsqueeze(-1)
        return (angles.cos() * along).sum(-2), (angles.sin() * along).sum(-2)
    size = max(1, _BLOCK // max(1, sample.numel() // sample.shape[-1]))
    parts = [_mean_of_block(sample, block, weights) for block in frequencies.split(size)]
    return torch.cat([real for real, _ in parts], -1), torch.cat([imaginary for _, imaginary in parts], -1)


def _mean_of_block(sample: Tensor, frequencies: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    angles = sample @ frequencies.mT
    return (weights.unsqueeze(-2) @ angles.cos()).squeeze(-2), (weights.unsqueeze(-2) @ angles.sin()).squeeze(
        -2
    )


def _length(real: Tensor, imaginary: Tensor) -> Tensor:
    """|real + i imaginary|, with gradient 0 at 0."""
    squared = real.square() + imaginary.square()
    zero = squared == 0
    return torch.where(zero, 0, torch.where(zero, 1, squared).sqrt())


def characteristic_energy(
    real: Tensor, synthetic: Tensor, frequencies: Tensor, mask: Tensor | None = None
) -> Tensor:
    """The energy distance with the distance of characteristic functions, mean |e^(i t x) - e^(i t y)|,
    between two points x and y.

    Shapes: real (..., n, d), synthetic (..., m, d), frequencies (f, d), mask (..., n) boolean or None ->
    (...). The distances inside the real sample, which have no gradient, are left out. Units: none; a distance
    is at most 2.
    Raises: ValueError if the shapes do not fit or a sample is empty.
    Source: cpdm, eq. (10) and (11). Cost: n m f sines, of which no more than a block is held at once.
    """
    real, synthetic, dtype = checked(real, synthetic, mask)
    frequencies = frequencies.to(real.dtype)
    synthetic_angles, real_angles = synthetic @ frequencies.mT, real @ frequencies.mT
    attraction = _mean_apart(real_angles, synthetic_angles, real_weights(real, mask))
    return (
        2 * attraction - _mean_apart(synthetic_angles, synthetic_angles, real_weights(synthetic, None))
    ).to(dtype)


def _mean_apart(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Mean over b and frequencies, weighted over a, of |e^(i a) - e^(i b)|: (..., n, f), (..., m, f),
    (..., n) -> (...)."""

    def of_block(block_a: Tensor, block_b: Tensor) -> Tensor:
        apart = 2 * ((block_a.unsqueeze(-2) - block_b.unsqueeze(-3)) / 2).sin().abs()
        return (apart.sum(-1).mean(-1) * weights).sum(-1)

    size = max(1, _BLOCK // max(1, a.shape[:-1].numel() * b.shape[-2]))
    blocks = zip(a.split(size, -1), b.split(size, -1), strict=True)
    total: Tensor = reduce(torch.add, (checkpoint(of_block, *block, use_reentrant=False) for block in blocks))
    return total / a.shape[-1]
