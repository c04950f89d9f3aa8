"""What one step of the matching engine shows to its terms: computed when first asked for, then shared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from condense.augment import siamese

CHUNK = {"cpu": 64, "cuda": 4096}  # images a forward pass without gradients: on CPUs activations then stay in cache


@dataclass
class Views:
    """Real and synthetic images of all classes of a shard at one step.

    real (C, B, ...) and synthetic (C, M, ...) are normalised images before augmentation; `mask` (C, B) is false where a
    class has fewer real images than the batch, None if no class has. `draws` holds one siamese draw a class. `critic` is
    a frozen classifier in eval mode, or None. `chunked` is false where batch statistics need the whole batch at once.
    """

    real: Tensor
    synthetic: Tensor
    mask: Tensor | None
    labels: Tensor  # (C, M)
    draws: list[siamese.Draw]
    network: nn.Module
    critic: nn.Module | None
    chunked: bool

    @cached_property
    def augmented_real(self) -> Tensor:
        return siamese.apply_each_class(self.real, self.draws)

    @cached_property
    def augmented_synthetic(self) -> Tensor:
        return siamese.apply_each_class(self.synthetic, self.draws)

    @cached_property
    def real_embedding(self) -> Tensor:
        """(C, B, d), without gradient."""
        return self._without_gradient(self.network.embed, self.augmented_real)

    @cached_property
    def synthetic_embedding(self) -> Tensor:
        """(C, M, d)."""
        return _by_class(self.network.embed, self.augmented_synthetic)

    @cached_property
    def _critic_of(self) -> dict[str, Tensor]:
        return {}

    def critic_logits(self, sees: str) -> Tensor:
        """The critic's logits (C, M, k) of the synthetic images, 'plain' or 'augmented'."""
        if sees not in self._critic_of:
            images = self.synthetic if sees == "plain" else self.augmented_synthetic
            self._critic_of[sees] = _by_class(self.critic, images)
        return self._critic_of[sees]

    def critic_real_logits(self, sees: str) -> Tensor:
        """The critic's logits (C, M, k) of the first M real images of the batch, without gradient."""
        images = (self.real if sees == "plain" else self.augmented_real)[:, : self.synthetic.shape[1]]
        return self._without_gradient(self.critic, images)

    @torch.no_grad()
    def _without_gradient(self, function, images: Tensor) -> Tensor:
        flat = images.flatten(0, 1)
        size = CHUNK[flat.device.type] if self.chunked else len(flat)
        return torch.cat([function(part) for part in flat.split(size)]).unflatten(0, images.shape[:2])


def _by_class(function, images: Tensor) -> Tensor:
    return function(images.flatten(0, 1)).unflatten(0, images.shape[:2])
