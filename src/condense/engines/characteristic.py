"""The terms of characteristic functions: where their frequencies come from."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from condense.discrepancy import frequencies
from condense.discrepancy.characteristic import characteristic_energy, characteristic_function
from condense.engines.views import Views
from condense.machine import seeds
from condense.machine.transfer import sent


def characteristic_function_term(views: Views, term: Any) -> Tensor:
    """Value (C,) of the term, and one step of the sampler, if it is learned, against that of the images."""
    real, synthetic = _embeddings(views, term)
    discrepancy = partial(
        characteristic_function, real, mask=views.mask, amplitude=term.amplitude, phase=term.phase
    )
    if term.sampler == "gaussian":
        return discrepancy(synthetic, _normal(views, term.frequencies))
    return discrepancy(synthetic, _learned(views, term, partial(discrepancy, synthetic.detach())))


def characteristic_energy_term(views: Views, term: Any) -> Tensor:
    """Value (C,) of the energy distance of characteristic functions."""
    real, synthetic = _embeddings(views, term)
    return characteristic_energy(real, synthetic, _normal(views, term.frequencies), views.mask)


def _embeddings(views: Views, term: Any) -> list[Tensor]:
    both = views.real_embedding, views.synthetic_embedding
    return [
        torch.nn.functional.normalize(sample, dim=-1) if term.row_normalised else sample for sample in both
    ]


def _normal(views: Views, count: int) -> Tensor:
    """Normal numbers (count, d), the same for all classes of a step."""
    generator = seeds.generator(views.side.seed[0], "frequencies", views.side.seed[1])
    like = views.synthetic_embedding
    (drawn,) = sent([torch.randn(count, like.shape[-1], generator=generator)], like.device)
    return drawn.to(like.dtype)


def _learned(views: Views, term: Any, value: Any) -> Tensor:
    """Frequencies of the sampler, which then takes a step that makes the term's part of the loss, of all
    classes, larger."""
    like, memory = views.synthetic_embedding, views.memory
    if not memory:
        drawn = frequencies.drawn(like.shape[-1], seeds.generator(views.side.seed[0], "sampler"))
        memory |= {name: tensor.to(like.device, like.dtype) for name, tensor in drawn.items()}
    parameters = {name: value.requires_grad_() for name, value in memory.items()}
    chosen = frequencies.sampled(
        parameters, _normal(views, -(-term.frequencies // term.repeats)), term.frequencies
    )
    gradients = torch.autograd.grad(value(chosen).sum(), list(parameters.values()))
    with torch.no_grad():
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.requires_grad_(False).add_(gradient, alpha=term.sampler_lr * term.weight)
    return chosen.detach()
