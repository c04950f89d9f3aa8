"""What all architectures share: typed options, networks in two parts (embedding and head), norm layers, small
helpers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from condense import kernels
from condense.config import UserError
from condense.models.fusing import call_hooks, convolved, through

Norm = Literal["instance", "batch", "group", "none"]
GROUPS = 4  # of norm "group", as in the search space of 720 ConvNets


@dataclass(frozen=True, kw_only=True)
class Options:
    """What can be chosen for every architecture. `enlarge`: pixels a side to which images are brought before
    the first layer. `revision`: another number after what the network computes was changed, so that results
    of before are not taken for its own. `least`: of whole numbers that may be other than 1 and more."""

    least: ClassVar[Mapping[str, int]] = {}

    enlarge: int | None = None
    revision: int = 1

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), self.least.get(field.name, 1)
            if isinstance(value, int) and not isinstance(value, bool) and value < least:
                raise UserError(f"{field.name}: a number of at least {least} is needed, found {value}")


@dataclass(frozen=True, kw_only=True)
class Width(Options):
    """Options of convolutional networks: `width` is the number of channels of the first layer, from which the
    others follow."""

    width: int

    def check_norm(self, norm: str) -> None:
        """Raises UserError for a width that the norm cannot be of."""
        if norm == "group" and self.width % GROUPS:
            raise UserError(
                f"width: norm 'group' makes {GROUPS} groups, so a multiple of {GROUPS} is needed, found "
                f"{self.width}"
            )


@dataclass(frozen=True, kw_only=True)
class WidthNorm(Width):
    """A width and one of the norms that most convolutional networks may have."""

    norm: Norm = "instance"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_norm(self.norm)


@dataclass(frozen=True)
class Builder:
    """One architecture: its default options, whether images fit it, and how it is made.

    `fits(options, channels, size)` and `make(options, channels, size, classes)`; `size` is height = width in
    pixels.
    """

    defaults: Options
    fits: Callable[[Any, int, int], bool]
    make: Callable[[Any, int, int, int], Network]


class Network(nn.Module):
    """A classifier in two parts that can be used alone: `forward(x)` is `head(embed(x))`.

    A subclass defines `_embed` and `classifier`. Its parameters are drawn in the order in which its modules
    are registered, because `reinitialise` draws them anew in that order.
    """

    classifier: nn.Linear

    def __init__(self) -> None:
        super().__init__()
        self.enlarge: nn.Module = nn.Identity()

    def embed(self, x: Tensor) -> Tensor:
        """Features before the last linear layer, flattened: images (n, c, h, w) -> (n, d)."""
        return self._embed(self.enlarge(x))

    def head(self, embedding: Tensor) -> Tensor:
        """Logits of features: (n, d) -> (n, classes), in the precision of the classifier also where the
        features were computed in less."""
        kind = embedding.device.type  # 'meta', where operations are counted, has no autocast to ask about
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return self.classifier(embedding.to(self.classifier.weight.dtype))
        return self.classifier(embedding)

    @property
    def fused(self) -> bool:
        """Whether all of its blocks can be computed by a kernel; see `Stage`."""
        return False

    def forward(self, x: Tensor) -> Tensor:
        """Logits: images (n, c, h, w) -> (n, classes)."""
        return self.head(self.embed(x))

    def feature_maps(self, x: Tensor, pooled: bool = True) -> list[Tensor]:
        """The map (n, channels, h, w) after every stage, behind its pooling or, with `pooled=False`, before
        it.

        Raises UserError where a network has no such maps.
        """
        _, behind, before = self.embed_with_maps(x, before=not pooled)
        return behind if pooled else before

    def embed_with_maps(self, x: Tensor, before: bool = False) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """From one pass: the embedding, the maps behind the pooling of every stage, and, if asked for, those
        before it."""
        raise UserError(
            f"a network of kind {type(self).__name__} does not show the maps between its layers, which the "
            "method compares: take one that does, such as 'convnet' (in code, a StagedNetwork)"
        )

    def _embed(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Stage(nn.Module):
    """Layers at one resolution, and the pooling that ends it (identity where there is none).

    A convolution with instance norm, ReLU and at most average pooling by 2 ends in one fused operation on
    CPUs (`kernels`).
    """

    def __init__(self, body: Iterable[nn.Module], pool: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)
        self.pool = nn.Identity() if pool is None else pool
        self.fused = self._is_fused()

    def _is_fused(self) -> bool:
        if [type(layer) for layer in self.body] != [nn.Conv2d, nn.GroupNorm, nn.ReLU]:
            return False
        norm, pooling = self.body[1], self.pool
        averages = type(pooling) is nn.AvgPool2d and (
            pooling.kernel_size,
            pooling.stride,
            pooling.padding,
        ) == (2, 2, 0)
        return norm.num_groups == norm.num_channels and (averages or type(pooling) is nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        block = self._for_kernel(x)
        if block is None:
            return self.pool(through(self.body, x))
        return _by_kernel(*block, x, 2 if type(self.pool) is nn.AvgPool2d else 1)

    def before_pooling(self, x: Tensor) -> Tensor:
        """The map that the pooling is given."""
        block = self._for_kernel(x)
        return through(self.body, x) if block is None else _by_kernel(*block, x, 1)

    def _for_kernel(self, x: Tensor) -> tuple[nn.Conv2d, nn.GroupNorm] | None:
        """The convolution and the norm, where a kernel computes them for `x`."""
        if not (self.fused and kernels.available(x)):
            return None
        convolution, norm, _ = self.body
        return (
            (convolution, norm)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.GroupNorm)
            else None
        )


def _by_kernel(convolution: nn.Conv2d, norm: nn.GroupNorm, x: Tensor, pool: int) -> Tensor:
    if kernels.image_stage.serves(convolution, norm, x):
        call_hooks(convolution, x)
        return kernels.image_stage.compute(convolution, norm, x, pool)
    maps = convolved(convolution, x, centred=True)
    return kernels.norm_relu_pool(maps, norm.weight, norm.bias, norm.eps, pool)


class StagedNetwork(Network):
    """Stages one after the other, then `neck` (last map -> embedding), then `classifier`."""

    def __init__(self, stages: Iterable[Stage], neck: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.neck = neck
        self.classifier = classifier

    @property
    def fused(self) -> bool:
        return all(stage.fused for stage in self._in_order())

    def _in_order(self) -> Iterator[Stage]:
        # Torch's list does not say of which class its modules are
        return cast(Iterator[Stage], iter(self.stages))

    def _embed(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return self.neck(x)

    def embed_with_maps(self, x: Tensor, before: bool = False) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """From images (n, c, h, w): the embedding (n, d) and, stage by stage, the maps (n, channels, h', w');
        see `Network`."""
        behind, unpooled, x = [], [], self.enlarge(x)
        for stage in self._in_order():
            if before:
                unpooled.append(stage.before_pooling(x))
            x = stage.pool(unpooled[-1]) if before else stage(x)
            behind.append(x)
        return self.neck(x), behind, unpooled


class GlobalAverage(nn.Module):
    """Mean over all places of a map: (n, c, h, w) -> (n, c)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """A norm layer for maps of `channels` channels. "instance" is a group norm with one group a channel: the
    same in train and eval."""
    if kind == "instance":
        return nn.GroupNorm(channels, channels)
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(GROUPS, channels)
    return nn.Identity()


def entry_padding(channels: int, size: int) -> int:
    """Padding on top of the usual one that brings grey 28-pixel images to 32 pixels in the first layer
    (DC: networks.py)."""
    return 2 if (channels, size) == (1, 28) else 0


def entry_size(channels: int, size: int) -> int:
    """Pixels a side after a size-keeping first layer with `entry_padding`."""
    return size + 2 * entry_padding(channels, size)


def halvings_fit(size: int, times: int, norm: Norm, rounds_up: bool = True) -> bool:
    """Whether maps of `size` pixels can be halved `times` times: each halving has two pixels to halve, and
    the norm something to normalise.

    Instance norm sets a map of a single pixel to zero whatever the image, so there the last map needs two
    pixels a side.
    """
    for _ in range(times):
        if size < 2:
            return False
        size = -(-size // 2) if rounds_up else size // 2
    return size >= (2 if norm == "instance" else 1)


def count_parameters(model: nn.Module) -> int:
    """The number of parameters; buffers, such as running statistics, are not counted."""
    return sum(parameter.numel() for parameter in model.parameters())
