"""MobileNetV2 and ShuffleNetV2 in their versions for 32-pixel images, which serve as observers
(G-VBSM and EDC on CIFAR)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condense.config import UserError
from condense.models.base import Builder, GlobalAverage, Network, Options, Stage, StagedNetwork, halvings_fit

# expansion, channels at full width, repeats, stride
MOBILE_GROUPS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
MOBILE_FEATURES = 1280
SHUFFLE_REPEATS = (3, 7, 3)
SHUFFLE_STEM, SHUFFLE_FEATURES = 24, 1024


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    ]


@dataclass(frozen=True, kw_only=True)
class MobileOptions(Options):
    """`width`: channels of the first layer; 32 is the full network, 16 the half one, which the observers
    are."""

    width: int = 16


class InvertedResidual(nn.Module):
    """1 x 1 convolution to `expansion` times the channels, 3 x 3 on each channel alone, 1 x 1 back; added to
    the input if shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = expansion * inputs
        self.body = nn.Sequential(
            *_pointwise(inputs, wide),
            nn.ReLU(),
            *_depthwise(wide, stride),
            nn.ReLU(),
            *_pointwise(wide, outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def mobilenet_v2() -> Builder:
    """MobileNetV2 of half width for 32-pixel images: the second group keeps the size."""
    return Builder(
        MobileOptions(), lambda options, channels, size: halvings_fit(size, 4, "batch"), _make_mobile
    )


def _make_mobile(options: MobileOptions, channels: int, size: int, classes: int) -> Network:
    entry = nn.Conv2d(channels, options.width, 3, stride=2, padding=1, bias=False)
    stages, inputs = [Stage([entry, nn.BatchNorm2d(options.width), nn.ReLU()])], options.width
    for expansion, full, repeat, stride in MOBILE_GROUPS:
        outputs, blocks = max(1, full * options.width // 32), []
        for index in range(repeat):
            blocks.append(InvertedResidual(inputs, outputs, 1 if index else stride, expansion))
            inputs = outputs
        stages.append(Stage(blocks))
    stages.append(Stage([*_pointwise(inputs, MOBILE_FEATURES), nn.ReLU()]))
    return StagedNetwork(stages, GlobalAverage(), nn.Linear(MOBILE_FEATURES, classes))


@dataclass(frozen=True, kw_only=True)
class ShuffleOptions(Options):
    """`width`: channels of the first stage (even); the next have two and four times as many."""

    width: int = 48

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 2:
            raise UserError(f"width: an even number is needed, found {self.width}")


def _shuffled(first: Tensor, second: Tensor) -> Tensor:
    """Both halves of the channels, taken in turn."""
    return torch.stack([first, second], 2).flatten(1, 2)


class ShuffleBlock(nn.Module):
    """Half of the channels passes untouched, the other half through three convolutions; then they are
    shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.body = nn.Sequential(
            *_pointwise(half, half), nn.ReLU(), *_depthwise(half, 1), *_pointwise(half, half), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, 1)
        return _shuffled(kept, self.body(changed))


class ShuffleDown(nn.Module):
    """Halves the map: two branches with stride 2, each giving half of the new channels, shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.short = nn.Sequential(*_depthwise(inputs, 2), *_pointwise(inputs, half), nn.ReLU())
        self.long = nn.Sequential(
            *_pointwise(inputs, half), nn.ReLU(), *_depthwise(half, 2), *_pointwise(half, half), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return _shuffled(self.short(x), self.long(x))


def shufflenet_v2() -> Builder:
    """ShuffleNetV2 of width 0.5 for 32-pixel images: a 1 x 1 stem, no pooling behind it."""
    return Builder(
        ShuffleOptions(), lambda options, channels, size: halvings_fit(size, 3, "batch"), _make_shuffle
    )


def _make_shuffle(options: ShuffleOptions, channels: int, size: int, classes: int) -> Network:
    stages, inputs = [Stage([*_pointwise(channels, SHUFFLE_STEM), nn.ReLU()])], SHUFFLE_STEM
    for stage, repeat in enumerate(SHUFFLE_REPEATS):
        outputs = options.width * 2**stage
        stages.append(Stage([ShuffleDown(inputs, outputs), *[ShuffleBlock(outputs) for _ in range(repeat)]]))
        inputs = outputs
    stages.append(Stage([*_pointwise(inputs, SHUFFLE_FEATURES), nn.ReLU()]))
    return StagedNetwork(stages, GlobalAverage(), nn.Linear(SHUFFLE_FEATURES, classes))
