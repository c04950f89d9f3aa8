"""What one step of the matching engine shows to its terms: computed when first asked for, then shared."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from condense.augment import siamese
from condense.data.dataset import Images
from condense.precision import computed_in

# Pixels of a pass without gradients. On CPUs much of the maps between two layers then stays in the cache: 128 images of 32 x 32 pixels;
# fewer would be as fast on an idle machine, and wait more often for a core that does something else.
CHUNK = {"cpu": 1 << 17, "cuda": 1 << 22}


@dataclass
class RealSide:
    """Real images of all classes of a shard at one step, and the network and the augmentation of that step.

    Nothing here depends on a synthetic set, so that all sets with the same stream share it. `pixels` (C, B, ...) is uint8; `mask`
    (C, B) is false where a class has fewer real images than the batch, None if no class has. `draws` holds one siamese draw a
    class. `chunked` is false where batch statistics need the whole batch at once. `dtype` is what embeddings are computed in.
    `accuracy` is the network's running training accuracy in percent, None where networks are drawn at random.
    """

    data: Images
    pixels: Tensor
    mask: Tensor | None
    draws: list[siamese.Draw]
    network: nn.Module
    real_network: nn.Module | None = None  # the same with its parameters in `dtype`, None if they are
    chunked: bool = True
    dtype: torch.dtype = torch.float32
    accuracy: float | None = None

    def images(self, count: int | None = None) -> Tensor:
        """The first `count` images (None: all) of every class, normalised: (C, count, ...)."""
        return self.data.normalise(self.pixels[:, :count])

    def augmented(self, count: int | None = None) -> Tensor:
        """The same under the draw of each class."""
        return siamese.apply_each_class(self.images(count), self.draws)

    @cached_property
    def embedding(self) -> Tensor:
        """(C, B, d), at least float32, without gradient."""
        return self.without_gradient((self.real_network or self.network).embed, *self._blocks())

    def without_gradient(self, function, *blocks: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """`function` of images in blocks (c, n, ...) of classes, computed in `dtype` (None: that of the embeddings): (C, n, d) float32."""
        device, found = self.pixels.device, []
        with torch.inference_mode(), computed_in(dtype or self.dtype, device):
            for block in blocks:
                flat = block.flatten(0, 1)
                size = max(1, CHUNK[device.type] // flat.shape[-1] ** 2) if self.chunked else len(flat)
                found.append(torch.cat([function(part) for part in flat.split(size)]).unflatten(0, block.shape[:2]))
            together = torch.cat(found)
        # At least single precision, and out here: autograd keeps no tensors of the inference mode.
        return together.to(torch.promote_types(together.dtype, torch.float32), copy=True)

    def _blocks(self):
        """The augmented batch, so many classes at a time as one pass takes: what is large never lies in memory whole."""
        if not self.chunked:
            return [self.augmented()]
        size = max(1, CHUNK[self.pixels.device.type] // (self.pixels.shape[1] * self.pixels.shape[-1] ** 2))
        parts = zip(self.pixels.split(size), range(0, len(self.draws), size), strict=True)
        return (siamese.apply_each_class(self.data.normalise(part), self.draws[start : start + size]) for part, start in parts)


@dataclass
class Views:
    """A synthetic set and the real images it is matched to, at one step.

    `synthetic` (C, M, ...) are normalised images before augmentation. `critic` is a frozen classifier in eval mode, or None.
    `dtype` is what the embeddings of synthetic images are computed in.
    """

    side: RealSide
    synthetic: Tensor
    labels: Tensor  # (C, M)
    critic: nn.Module | None
    dtype: torch.dtype = torch.float32

    @property
    def mask(self) -> Tensor | None:
        return self.side.mask

    @property
    def real_embedding(self) -> Tensor:
        """(C, B, d), without gradient."""
        return self.side.embedding

    @cached_property
    def augmented_synthetic(self) -> Tensor:
        return siamese.apply_each_class(self.synthetic, self.side.draws)

    @cached_property
    def synthetic_embedding(self) -> Tensor:
        """(C, M, d), at least float32."""
        with computed_in(self.dtype, self.synthetic.device):
            found = _by_class(self.side.network.embed, self.augmented_synthetic)
        return found.to(torch.promote_types(found.dtype, torch.float32))

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
        count = self.synthetic.shape[1]
        images = self.side.images(count) if sees == "plain" else self.side.augmented(count)
        return self.side.without_gradient(self.critic, images, dtype=torch.float32)


def _by_class(function, images: Tensor) -> Tensor:
    return function(images.flatten(0, 1)).unflatten(0, images.shape[:2])
