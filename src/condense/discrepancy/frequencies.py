"""A network that turns noise into the frequencies at which two characteristic functions differ most.

Source: NCFM (Wang et al. 2025), its frequency sampler: three linear layers, each with batch norm, LeakyReLU
between them and tanh last. Written as functions of named tensors, since its state enters checkpoints beside
that of the images.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

LAYERS, SLOPE = 3, 0.2


def drawn(width: int, generator: Generator) -> dict[str, Tensor]:
    """The parameters of a sampler of frequencies of `width` numbers, as torch draws those of such layers."""
    parameters = {}
    for layer in range(LAYERS):
        bound = width**-0.5
        for name, shape in (("weight", (width, width)), ("bias", (width,))):
            parameters[f"{layer}.{name}"] = (torch.rand(shape, generator=generator) * 2 - 1) * bound
        parameters |= {f"{layer}.scale": torch.ones(width), f"{layer}.shift": torch.zeros(width)}
    return parameters


def sampled(parameters: Mapping[str, Tensor], noise: Tensor, count: int) -> Tensor:
    """Frequencies (count, d) from noise (rows, d): the rows of the output over and over again.

    Batch norm takes the statistics of the rows. Differentiable in the parameters.
    """
    values = noise
    for layer in range(LAYERS):
        values = F.linear(values, parameters[f"{layer}.weight"], parameters[f"{layer}.bias"])
        values = F.batch_norm(
            values, None, None, parameters[f"{layer}.scale"], parameters[f"{layer}.shift"], training=True
        )
        values = torch.tanh(values) if layer == LAYERS - 1 else F.leaky_relu(values, SLOPE)
    return values.repeat(-(-count // len(values)), 1)[:count]
