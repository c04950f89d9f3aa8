"""Residual networks: ResNet for small images with its variants (DC, DC-Bench and IDC) and the wide ResNet
(WRN)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from condense.models.base import (
    Builder,
    GlobalAverage,
    Network,
    Norm,
    Options,
    Stage,
    StagedNetwork,
    WidthNorm,
    halvings_fit,
    norm_layer,
)
from condense.models.fusing import through

REPEATS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


@dataclass(frozen=True, kw_only=True)
class ResNetOptions(WidthNorm):
    """`width`: channels of the first stage. `stem`: "small" is 3 x 3 with stride 1; "imagenet" 7 x 7, stride
    2, then 3 x 3 max pooling."""

    width: int = 64
    stem: Literal["small", "imagenet"] = "small"


class Block(nn.Module):
    """A residual block, plain (two 3 x 3 convolutions) or bottleneck (1 x 1, 3 x 3, 1 x 1 to four times the
    channels).

    With `halve` it halves the map: by stride 2, or with `average` by 2 x 2 average pooling behind
    convolutions of stride 1.
    """

    def __init__(
        self, inputs: int, planes: int, bottleneck: bool, halve: bool, average: bool, norm: Norm
    ) -> None:
        super().__init__()
        outputs = 4 * planes if bottleneck else planes
        stride = 2 if halve and not average else 1
        pool = [nn.AvgPool2d(2)] if halve and average else []
        layers = _unit(inputs, planes, 1, norm) if bottleneck else []
        layers += [*_unit(planes if bottleneck else inputs, planes, 3, norm, stride), *pool]
        layers += _unit(planes, outputs, 1 if bottleneck else 3, norm)[:-1]  # ReLU follows the sum
        self.body = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if halve or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, *pool, norm_layer(norm, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return (through(self.body, x) + through([self.shortcut], x)).relu()


def _unit(inputs: int, outputs: int, kernel: int, norm: Norm, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, norm_layer(norm, outputs), nn.ReLU()]


def _trunk(depth: int, options: WidthNorm, average: bool) -> tuple[list[Stage], int]:
    """The four stages of a ResNet of `depth`, and the number of channels they end with."""
    stages, inputs, bottleneck = [], options.width, depth >= 50
    for stage, repeat in enumerate(REPEATS[depth]):
        planes, blocks = options.width * 2**stage, []
        for index in range(repeat):
            blocks.append(
                Block(
                    inputs,
                    planes,
                    bottleneck,
                    halve=stage > 0 and index == 0,
                    average=average,
                    norm=options.norm,
                )
            )
            inputs = 4 * planes if bottleneck else planes
        stages.append(Stage(blocks))
    return stages, inputs


def resnet(depth: int, norm: Norm = "instance") -> Builder:
    """ResNet of `depth` 18, 34, 50, 101 or 152, ending in a global average."""
    return Builder(ResNetOptions(norm=norm), _resnet_fits, partial(_make_resnet, depth))


def _resnet_fits(options: ResNetOptions, channels: int, size: int) -> bool:
    return halvings_fit(size, 5 if options.stem == "imagenet" else 3, options.norm)


def _make_resnet(depth: int, options: ResNetOptions, channels: int, size: int, classes: int) -> Network:
    if options.stem == "imagenet":
        stem = Stage(
            _unit(channels, options.width, 7, options.norm, stride=2), nn.MaxPool2d(3, stride=2, padding=1)
        )
    else:
        stem = Stage(_unit(channels, options.width, 3, options.norm))
    stages, features = _trunk(depth, options, average=False)
    return StagedNetwork([stem, *stages], GlobalAverage(), nn.Linear(features, classes))


@dataclass(frozen=True, kw_only=True)
class PooledResNetOptions(WidthNorm):
    """`width`: channels of the first stage."""

    width: int = 64


def resnet_ap(norm: Norm = "instance") -> Builder:
    """ResNet18 with average pooling in place of strides; the linear layer sees the whole last map
    (DC: ResNet18_AP)."""

    def fits(options: PooledResNetOptions, channels: int, size: int) -> bool:
        return halvings_fit(size, 3, options.norm, rounds_up=False)

    def make(options: PooledResNetOptions, channels: int, size: int, classes: int) -> Network:
        stem = Stage(_unit(channels, options.width, 3, options.norm))
        stages, features = _trunk(18, options, average=True)
        return StagedNetwork([stem, *stages], nn.Flatten(), nn.Linear(features * (size // 8) ** 2, classes))

    return Builder(PooledResNetOptions(norm=norm), fits, make)


def resnet10_ap() -> Builder:
    """ResNet10 with average pooling in place of strides and a global average (IDC: resnet_ap.py).

    The larger the images are, the more its stem pools them.
    """

    def fits(options: PooledResNetOptions, channels: int, size: int) -> bool:
        return halvings_fit(size // _idc_stem(size)[1], 3, options.norm, rounds_up=False)

    def make(options: PooledResNetOptions, channels: int, size: int, classes: int) -> Network:
        kernel, pool = _idc_stem(size)
        stem = Stage(
            _unit(channels, options.width, kernel, options.norm), nn.AvgPool2d(pool) if pool > 1 else None
        )
        stages, features = _trunk(10, options, average=True)
        return StagedNetwork([stem, *stages], GlobalAverage(), nn.Linear(features, classes))

    return Builder(PooledResNetOptions(), fits, make)


def _idc_stem(size: int) -> tuple[int, int]:
    """Kernel of the first convolution and the factor of the average pooling behind it."""
    if size <= 64:
        return 3, 1
    return (3, 2) if size <= 128 else (7, 4)


@dataclass(frozen=True, kw_only=True)
class WideOptions(Options):
    """`width`: channels of the first group, 16 times the widening factor."""

    width: int = 32


class PreactivationBlock(nn.Module):
    """Norm and ReLU before each of two 3 x 3 convolutions; where the shape changes the shortcut starts behind
    the first ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        self.shortcut = (
            None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        entered = through(self.enter, x)
        return through(self.body, entered) + (x if self.shortcut is None else self.shortcut(entered))


def wide_resnet(depth: int, widening: int) -> Builder:
    """WRN-`depth`-`widening` with batch norm (Zagoruyko & Komodakis 2016)."""

    def fits(options: WideOptions, channels: int, size: int) -> bool:
        return halvings_fit(size, 2, "batch")

    return Builder(WideOptions(width=16 * widening), fits, partial(_make_wide, depth))


def _make_wide(depth: int, options: WideOptions, channels: int, size: int, classes: int) -> Network:
    stages, inputs = [Stage([nn.Conv2d(channels, 16, 3, padding=1, bias=False)])], 16
    for group in range(3):
        blocks: list[nn.Module] = []
        for index in range((depth - 4) // 6):
            blocks.append(
                PreactivationBlock(inputs, options.width * 2**group, stride=2 if group and not index else 1)
            )
            inputs = options.width * 2**group
        leave = [nn.BatchNorm2d(inputs), nn.ReLU()] if group == 2 else []
        stages.append(Stage([*blocks, *leave]))
    return StagedNetwork(stages, GlobalAverage(), nn.Linear(inputs, classes))
