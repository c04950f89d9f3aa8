"""The plain networks of the transfer tables: MLP, LeNet, AlexNet and VGG, in their versions for small images
(DC: networks.py)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from condense.config import UserError
from condense.models.base import (
    Builder,
    GlobalAverage,
    Network,
    Norm,
    Options,
    Stage,
    StagedNetwork,
    WidthNorm,
    entry_padding,
    entry_size,
    norm_layer,
)

VGG_REPEATS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class Perceptron(Network):
    """Two hidden layers with ReLU; the embedding is the second."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.classifier = nn.Linear(width, classes)

    def _embed(self, x: Tensor) -> Tensor:
        return self.hidden(x)


@dataclass(frozen=True, kw_only=True)
class PerceptronOptions(Options):
    """`width` is the number of units of each hidden layer."""

    width: int = 128


def mlp() -> Builder:
    """Pixels - 128 - 128 - classes."""

    def make(options: PerceptronOptions, channels: int, size: int, classes: int) -> Network:
        return Perceptron(channels * size**2, options.width, classes)

    return Builder(PerceptronOptions(), lambda options, channels, size: True, make)


def lenet() -> Builder:
    """Two 5 x 5 convolutions (6 and 16 channels) with max pooling, then 120 - 84 - classes."""
    return Builder(Options(), lambda options, channels, size: _lenet_side(channels, size) >= 1, _make_lenet)


def _lenet_side(channels: int, size: int) -> int:
    return ((entry_size(channels, size) - 4) // 2 - 4) // 2


def _make_lenet(options: Options, channels: int, size: int, classes: int) -> Network:
    stages = [
        Stage([nn.Conv2d(channels, 6, 5, padding=entry_padding(channels, size)), nn.ReLU()], nn.MaxPool2d(2)),
        Stage([nn.Conv2d(6, 16, 5), nn.ReLU()], nn.MaxPool2d(2)),
    ]
    inputs = 16 * _lenet_side(channels, size) ** 2
    neck = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU())
    return StagedNetwork(stages, neck, nn.Linear(84, classes))


@dataclass(frozen=True, kw_only=True)
class AlexNetOptions(WidthNorm):
    """`width` is the number of channels of the first convolution; the others have 1.5, 2, 1.5 and 1.5 times
    as many."""

    width: int = 128
    norm: Norm = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        step = 8 if self.norm == "group" else 2
        if self.width % step:
            raise UserError(
                f"width: a multiple of {step} is needed with norm '{self.norm}', found {self.width}"
            )


def alexnet(norm: Norm = "none") -> Builder:
    """Five convolutions in three stages with max pooling; no dropout, one linear layer."""
    return Builder(AlexNetOptions(norm=norm), partial(_pools_fit, 3), _make_alexnet)


def _pools_fit(pools: int, options: Options, channels: int, size: int) -> bool:
    return entry_size(channels, size) >> pools >= 1


def _make_alexnet(options: AlexNetOptions, channels: int, size: int, classes: int) -> Network:
    narrow, middle, wide = options.width, options.width * 3 // 2, options.width * 2
    entry = _convolution(channels, narrow, 5, options.norm, entry_padding(channels, size))
    stages = [Stage(entry, nn.MaxPool2d(2))]
    stages += [Stage(_convolution(narrow, middle, 5, options.norm), nn.MaxPool2d(2))]
    last = [(middle, wide), (wide, middle), (middle, middle)]
    stages += [
        Stage([layer for pair in last for layer in _convolution(*pair, 3, options.norm)], nn.MaxPool2d(2))
    ]
    side = entry_size(channels, size) // 8
    return StagedNetwork(stages, nn.Flatten(), nn.Linear(middle * side**2, classes))


def _convolution(
    inputs: int, outputs: int, kernel: int, norm: Norm, more_padding: int = 0
) -> list[nn.Module]:
    """A convolution with bias that keeps the size (with `more_padding` adds to it), its norm and ReLU."""
    return [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2 + more_padding),
        norm_layer(norm, outputs),
        nn.ReLU(),
    ]


@dataclass(frozen=True, kw_only=True)
class VGGOptions(WidthNorm):
    """`width` is the number of channels of the first stage; the others have 2, 4, 8 and 8 times as many."""

    width: int = 64


def vgg(depth: int, norm: Norm = "instance") -> Builder:
    """VGG of `depth` 11, 13, 16 or 19: norm after every convolution, one linear layer.

    The last map is averaged over its places, which changes nothing for 32-pixel images: there it has only
    one.
    """
    return Builder(VGGOptions(norm=norm), partial(_pools_fit, 5), partial(_make_vgg, VGG_REPEATS[depth]))


def _make_vgg(
    repeats: tuple[int, ...], options: VGGOptions, channels: int, size: int, classes: int
) -> Network:
    stages: list[Stage] = []
    inputs = channels
    for factor, repeat in zip((1, 2, 4, 8, 8), repeats, strict=True):
        layers: list[nn.Module] = []
        for _ in range(repeat):
            padding = 0 if stages or layers else entry_padding(channels, size)
            layers += _convolution(inputs, factor * options.width, 3, options.norm, padding)
            inputs = factor * options.width
        stages.append(Stage(layers, nn.MaxPool2d(2)))
    return StagedNetwork(stages, GlobalAverage(), nn.Linear(inputs, classes))
