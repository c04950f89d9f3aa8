"""The real side of matching: networks, batches and augmentation, drawn by the seed, the class and the step alone.

Methods and ipc do not enter, so sets whose recipes ask for the same stream are matched to the same real side, computed once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condense import models, seeds
from condense.augment import siamese
from condense.data.dataset import Images
from condense.engines.views import RealSide, Statistic
from condense.networks.sources import network_source
from condense.precision import reduced, rounded
from condense.specs import Recipe


class RealBatches:
    """The real batches of every step: the first `size` of a fresh permutation of each class."""

    def __init__(self, data: Images, classes: tuple[int, ...], size: int, seed: int, device: torch.device):
        self.classes, self.seed, self.device = classes, seed, device
        self.pixels = [data.images[data.class_slice(label)].to(device) for label in classes]
        self.sizes = [min(size, len(pixels)) for pixels in self.pixels]
        self.mask = None
        if min(self.sizes) < max(self.sizes):
            self.mask = torch.tensor([[place < held for place in range(max(self.sizes))] for held in self.sizes], device=device)

    def at(self, step: int) -> Tensor:
        """uint8 (C, B, ...); a class with fewer images than B is padded with its first, which the mask leaves out."""
        chosen = []
        for label, pixels, held in zip(self.classes, self.pixels, self.sizes, strict=True):
            order = torch.randperm(len(pixels), generator=seeds.generator(self.seed, "real-batch", label, step))[:held]
            if held < max(self.sizes):
                order = torch.cat([order, order[:1].expand(max(self.sizes) - held)])
            order = order.pin_memory() if pixels.is_cuda else order  # so that the copy does not wait for the GPU
            chosen.append(pixels[order.to(self.device, non_blocking=True)])
        return torch.stack(chosen)


class RealStream:
    """The real side of every step for some classes, as one recipe, or several that agree in `Recipe.stream`, asks for it."""

    def __init__(
        self,
        recipe: Recipe,
        data: Images,
        classes: tuple[int, ...],
        *,
        arch: str,
        options: Mapping[str, Any],
        seed: int,
        device: torch.device,
        bank: Path | None = None,
    ):
        """`bank` holds the networks of a queue; without one a queue is trained as it goes, on all images of `data`."""
        self.settings = recipe.stream
        self.data, self.classes, self.seed, self.device = data, classes, seed, device
        with torch.random.fork_rng(devices=[]):  # what is drawn here is replaced at every step
            self.network = models.build(arch, channels=data.channels, size=data.size, classes=len(data.counts), **options)
        self.network.to(device).requires_grad_(False)
        # Batch statistics belong to the whole batch, so it cannot go through the network in parts.
        self.chunked = not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.network.modules())
        half = reduced(self.network, device)
        self.real_type = torch.float32 if recipe.precision == "fp32" else half
        self.synthetic_type = half if recipe.precision == "bf16" else torch.float32
        # The real side's own copy of the parameters, so that they are converted once a step and not once a chunk.
        self.real_network = self.network if self.real_type == torch.float32 else copy.deepcopy(self.network).to(self.real_type)
        self.batches = RealBatches(data, classes, recipe.batch_real, seed, device)
        self.wanted: tuple[Statistic, ...] = ()
        self.source = network_source(recipe.networks, self.network, data, arch=arch, options=options, seed=seed, bank=bank)

    @property
    def precision(self) -> dict[str, str]:
        """In which type embeddings are computed, as provenance."""
        return {"real": str(self.real_type).removeprefix("torch."), "synthetic": str(self.synthetic_type).removeprefix("torch.")}

    def serves(self, recipe: Recipe) -> bool:
        """Whether a set with this recipe can be matched to this stream."""
        return recipe.stream == self.settings

    def want(self, statistics: Iterable[Statistic]) -> None:
        """Has these statistics of the real images computed at every step, in the pass that embeds them."""
        self.wanted = tuple(dict.fromkeys((*self.wanted, *statistics)))

    def at(self, step: int) -> RealSide:
        """The real side of a step. It is to be used before the next is asked for, which replaces the network."""
        self.source.at(step)
        if self.real_network is not self.network:
            for own, drawn in zip(self._tensors(self.real_network), self._tensors(self.network), strict=True):
                own.copy_(rounded(drawn, own.dtype) if own.is_floating_point() else drawn)
                if self.synthetic_type == self.real_type:
                    drawn.copy_(own)  # both sides under the very same network
        augment, size = self.settings["augment"], self.data.size
        generators = [seeds.generator(self.seed, "augment", label, step) for label in self.classes]
        draws = [siamese.draw(augment.siamese, size, generator, augment.mode) for generator in generators]
        shown = {"real_network": self.real_network, "chunked": self.chunked, "dtype": self.real_type, "accuracy": self.source.accuracy}
        shown |= {"trained": self.source.trained, "wanted": self.wanted, "seed": (self.seed, step)}
        shown |= {"draw_second": partial(self.source.second, step)}
        return RealSide(self.data, self.batches.at(step), self.batches.mask, draws, self.network, **shown)

    @staticmethod
    def _tensors(network: nn.Module) -> Iterator[Tensor]:
        return chain(network.parameters(), network.buffers())
