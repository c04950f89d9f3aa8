"""How the gradient of a batch is made flat: for each kind of `flatness` what it adds to the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from condense.discrepancy.flatness import logit_flatness
from condense.engines.observers import BatchLoss, Looked
from condense.specs.image_losses import LogitFlatness, SharpnessAware, StatisticFlatness


@dataclass(frozen=True)
class Flattened:
    """The gradient of a batch of images (n, ...), their loss () with what flatness `added` to it (), and what
    was seen of the images themselves."""

    gradient: Tensor
    loss: Tensor
    added: Tensor
    seen: Looked


def not_flattened(settings: None, loss_of: BatchLoss, images: Tensor, mean: None) -> Flattened:
    """The gradient of the loss alone."""
    seen = loss_of(images)
    return _with(seen, torch.zeros_like(seen.loss), images)


def by_logits(settings: LogitFlatness, loss_of: BatchLoss, images: Tensor, mean: Tensor) -> Flattened:
    """With the divergence of the logits from those of the running mean of the images; EDC (2024), eq. (7)."""
    seen = loss_of(images)
    with torch.no_grad():
        other = loss_of(mean)
    divergence = logit_flatness(seen.observed.logits, other.observed.logits, settings.temperature)
    return _with(seen, settings.weight * divergence, images)


def by_statistics(settings: StatisticFlatness, loss_of: BatchLoss, images: Tensor, mean: Tensor) -> Flattened:
    """With the gap of the statistics to those of the running mean of the images; EDC (2024), eq. (6)."""
    seen = loss_of(images)
    with torch.no_grad():
        other = loss_of(mean)
    gap = loss_of.observer.gap_between(seen.observed, other.observed)
    return _with(seen, settings.weight * gap, images)


def by_sharpness(settings: SharpnessAware, loss_of: BatchLoss, images: Tensor, mean: None) -> Flattened:
    """With `weight` times how much higher the loss is at `radius` along its gradient, which is taken as
    fixed; EDC (2024), eqs. (19) and (20)."""
    seen = loss_of(images)
    (gradient,) = torch.autograd.grad(seen.loss, images)
    length = torch.linalg.vector_norm(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
    away = (images.detach() + settings.radius * gradient / length).requires_grad_(True)
    higher = loss_of(away).loss
    (there,) = torch.autograd.grad(higher, away)
    added = settings.weight * (higher - seen.loss).detach()
    mixed = (1 - settings.weight) * gradient + settings.weight * there
    return Flattened(mixed, seen.loss.detach() + added, added, seen)


def _with(seen: Looked, added: Tensor, images: Tensor) -> Flattened:
    total = seen.loss + added
    (gradient,) = torch.autograd.grad(total, images)
    return Flattened(gradient, total.detach(), added.detach(), seen)


# By the class of the settings of `flatness`: what gives the gradient of a batch, given its images with
# gradient and, where it asks for a running mean of the images, that mean.
FLATTENED: dict[type, Callable[[Any, BatchLoss, Tensor, Any], Flattened]] = {
    type(None): not_flattened,
    LogitFlatness: by_logits,
    StatisticFlatness: by_statistics,
    SharpnessAware: by_sharpness,
}
