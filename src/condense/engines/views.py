"""What one step of the matching engine shows to its terms: computed when first asked for, then shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from condense.augment.selected import Selected, apply_each_class
from condense.augment.siamese import Draw
from condense.data.dataset import Images
from condense.discrepancy.samples import real_weights
from condense.engines.map_statistics import ClassMeans, Statistic, with_statistics
from condense.kernels.precision import computed_in
from condense.machine.fitting import CHUNK
from condense.models.base import Network

Computed = tuple[Tensor, dict[Statistic, Tensor]]  # embeddings of real images, and class means of statistics


@dataclass
class RealSide:
    """Real images of all classes of a shard at one step, and the network and the augmentation of that step.

    Nothing here depends on a synthetic set, so that all sets with the same stream share it. `pixels`
    (C, B, ...) is uint8; `mask` (C, B) is false where a class has fewer real images than the batch, None if
    no class has. `draws` holds one siamese draw a class. `chunked` is false where batch statistics need the
    whole batch at once. `dtype` is what embeddings are computed in. `accuracy` is the network's running
    training accuracy in percent, None where networks are not trained; `trained` is the trained network beside
    it, if there is one. `wanted` are the statistics that sets at work will ask for: one pass computes all of
    them. `seed` addresses what terms draw at this step. `draw_second` gives another network for the step, for
    terms that compare two. `computed` is what `seen` would compute, if it is there already.
    """

    data: Images
    pixels: Tensor
    mask: Tensor | None
    draws: list[Draw] | Selected
    network: Network
    real_network: Network | None = None  # the same with its parameters in `dtype`, None if they are
    chunked: bool = True
    dtype: torch.dtype = torch.float32
    accuracy: float | Tensor | None = None  # where steps are recorded, a tensor that stays where it is
    trained: Network | None = None
    wanted: tuple[Statistic, ...] = ()
    seed: tuple[int, int] = (0, 0)  # of the run, and the step
    draw_second: Callable[[], Network] | None = None
    computed: Computed | None = None

    def images(self, count: int | None = None) -> Tensor:
        """The first `count` images (None: all) of every class, normalised: (C, count, ...)."""
        return self.data.normalise(self.pixels[:, :count])

    def augmented(self, count: int | None = None) -> Tensor:
        """The same under the draw of each class."""
        return apply_each_class(self.images(count), self.draws)

    @property
    def embedding(self) -> Tensor:
        """(C, B, d), at least float32, without gradient."""
        return self.seen[0]

    def mean_of(self, statistic: Statistic) -> Tensor:
        """The mean of a statistic over the real images of each class, (C, k), without gradient. It has to be
        among `wanted`."""
        return self.seen[1][statistic]

    @cached_property
    def second_network(self) -> Network:
        """The second network of the step, drawn when first asked for. Raises ValueError where there is
        none."""
        if self.draw_second is None:
            raise ValueError("the step has no second network")
        return self.draw_second()

    @cached_property
    def seen(self) -> Computed:
        """The embeddings and the class means of the wanted statistics, from one pass over the real images."""
        if self.computed is not None:
            return self.computed
        network = self.real_network or self.network
        if not self.wanted:
            return self.without_gradient(network.embed, *self._blocks()), {}
        means = ClassMeans(real_weights(self.pixels.flatten(2)[..., :1].float(), self.mask))

        def seen(images: Tensor) -> Tensor:
            embedding, values = with_statistics(network, images, self.wanted)
            means.add(values, len(images))
            return embedding

        embedding = self.without_gradient(seen, *self._blocks())
        return embedding, {statistic: mean.clone() for statistic, mean in means.by_statistic.items()}

    def without_gradient(
        self, function: Callable[[Tensor], Tensor], *blocks: Tensor, dtype: torch.dtype | None = None
    ) -> Tensor:
        """`function` of images in blocks (c, n, ...) of classes, computed in `dtype` (None: that of the
        embeddings): (C, n, d) float32."""
        device, values = self.pixels.device, []
        with torch.inference_mode(), computed_in(dtype or self.dtype, device):
            for block in blocks:
                flat = block.flatten(0, 1)
                size = max(1, CHUNK[device.type] // flat.shape[-1] ** 2) if self.chunked else len(flat)
                values.append(
                    torch.cat([function(chunk) for chunk in flat.split(size)]).unflatten(0, block.shape[:2])
                )
            together = torch.cat(values)
        # At least single precision, and out here: autograd keeps no tensors of the inference mode.
        return together.to(torch.promote_types(together.dtype, torch.float32), copy=True)

    def _blocks(self) -> Iterable[Tensor]:
        """The augmented batch, so many classes at a time as one pass takes: what is large never lies in
        memory whole."""
        if not self.chunked:
            return [self.augmented()]
        size = max(1, CHUNK[self.pixels.device.type] // (self.pixels.shape[1] * self.pixels.shape[-1] ** 2))
        parts = zip(self.pixels.split(size), range(0, len(self.draws), size), strict=True)
        return (
            apply_each_class(self.data.normalise(pixels), self.draws[start : start + size])
            for pixels, start in parts
        )


class WatchedSide(RealSide):
    """A real side that notes whether anything is read of it that the host decides at every step: a recorded
    step would repeat it."""

    read: bool = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("seed", "draw_second", "second_network"):
            self.read = True
        return super().__getattribute__(name)


@dataclass
class Views:
    """A synthetic set and the real images it is matched to, at one step.

    `synthetic` (C, M, ...) are normalised images of full size before augmentation. `critic` is a frozen
    classifier in eval mode, or None. `dtype` is what the embeddings of synthetic images are computed in. A
    term changes its `memory` in place.
    """

    side: RealSide
    synthetic: Tensor
    labels: Tensor  # (C, M)
    critic: nn.Module | None
    dtype: torch.dtype = torch.float32
    statistics: tuple[Statistic, ...] = ()  # those that the terms of this set ask for
    steps: int = 0  # of the run
    # What the term at work keeps from step to step; enters checkpoints
    memory: dict[str, Tensor] = field(default_factory=dict)

    @property
    def mask(self) -> Tensor | None:
        return self.side.mask

    @property
    def real_embedding(self) -> Tensor:
        """(C, B, d), without gradient."""
        return self.side.embedding

    @cached_property
    def augmented_synthetic(self) -> Tensor:
        return apply_each_class(self.synthetic, self.side.draws)

    @property
    def synthetic_embedding(self) -> Tensor:
        """(C, M, d), at least float32."""
        return self._seen[0]

    def mean_of(self, statistic: Statistic) -> Tensor:
        """The mean of a statistic over the synthetic images of each class, (C, k); with gradient. It is among
        `side.wanted`."""
        return self._seen[1][statistic]

    @cached_property
    def _seen(self) -> tuple[Tensor, dict[Statistic, Tensor]]:
        flat, shape = self.augmented_synthetic.flatten(0, 1), self.synthetic.shape[:2]
        network, wanted = self.side.network, self.statistics
        with computed_in(self.dtype, self.synthetic.device):
            embedding, values = (
                with_statistics(network, flat, wanted) if wanted else (network.embed(flat), {})
            )
        means = {statistic: value.unflatten(0, shape).mean(1) for statistic, value in values.items()}
        return embedding.to(torch.promote_types(embedding.dtype, torch.float32)).unflatten(0, shape), means

    @cached_property
    def two_embeddings(self) -> Tensor:
        """The synthetic images under the network of the step and under its second one: (C, 2, M, d), at least
        float32."""
        with computed_in(self.dtype, self.synthetic.device):
            second = _by_class(self.side.second_network.embed, self.augmented_synthetic)
        return torch.stack([self.synthetic_embedding, second.to(self.synthetic_embedding.dtype)], 1)

    @property
    def class_embedding(self) -> Tensor:
        """What the classifier of the step's network is given for each class, its row: (C, d), at least
        float32, without gradient."""
        rows = self.side.network.classifier.weight.detach()
        return rows[self.labels[:, 0]].to(self.synthetic_embedding.dtype)

    def network_logits(self, sees: str) -> Tensor:
        """The logits (C, M, k) that the network of the step gives the synthetic images, 'plain' or
        'augmented'."""
        if sees == "plain":
            return self._logits("network", self.side.network, sees)
        return _by_class(self.side.network.head, self.synthetic_embedding)

    @cached_property
    def _logits_of(self) -> dict[tuple[str, str], Tensor]:
        return {}

    def _logits(self, who: str, network: nn.Module | None, sees: str) -> Tensor:
        network = _given(who, network)
        if (who, sees) not in self._logits_of:
            images = self.synthetic if sees == "plain" else self.augmented_synthetic
            self._logits_of[who, sees] = _by_class(network, images)
        return self._logits_of[who, sees]

    def critic_logits(self, sees: str) -> Tensor:
        """The critic's logits (C, M, k) of the synthetic images, 'plain' or 'augmented'."""
        return self._logits("critic", self.critic, sees)

    def trained_logits(self, sees: str) -> Tensor:
        """The same by the trained network that stands beside the one of the step."""
        return self._logits("trained", self.side.trained, sees)

    def critic_real_logits(self, sees: str) -> Tensor:
        """The critic's logits (C, M, k) of the first M real images of the batch, without gradient."""
        count = self.synthetic.shape[1]
        images = self.side.images(count) if sees == "plain" else self.side.augmented(count)
        return self.side.without_gradient(_given("critic", self.critic), images, dtype=torch.float32)


def _given(who: str, network: nn.Module | None) -> nn.Module:
    if network is None:
        raise ValueError(f"a term asks for a network that the step does not have: {who}")
    return network


def _by_class(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return function(images.flatten(0, 1)).unflatten(0, images.shape[:2])
