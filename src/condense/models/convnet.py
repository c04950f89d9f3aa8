"""The ConvNet of the condensation literature and its search space (DC: networks.py, ConvNet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from condense.models.base import Builder, Stage, StagedNetwork, Width, entry_padding, entry_size, norm_layer

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "sigmoid": nn.Sigmoid, "swish": nn.SiLU}
POOLINGS = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


@dataclass(frozen=True, kw_only=True)
class ConvNetOptions(Width):
    """`depth` blocks of `width` channels: convolution, `norm`, `act`, `pool` (2 x 2)."""

    depth: int = 3
    width: int = 128
    norm: Literal["instance", "batch", "layer", "group", "none"] = "instance"
    pool: Literal["average", "max", "none"] = "average"
    act: Literal["relu", "leaky_relu", "sigmoid", "swish"] = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_norm(self.norm)


def builder(defaults: ConvNetOptions) -> Builder:
    """The ConvNet with these options where none are given."""
    return Builder(defaults, _fits, _make)


def _fits(options: ConvNetOptions, channels: int, size: int) -> bool:
    if options.pool == "none":
        return size >= 2  # instance norm sets a single pixel to zero
    return entry_size(channels, size) >> options.depth >= 1


def _make(options: ConvNetOptions, channels: int, size: int, classes: int) -> StagedNetwork:
    stages, inputs, side = [], channels, entry_size(channels, size)
    for block in range(options.depth):
        padding = 1 + (entry_padding(channels, size) if block == 0 else 0)
        convolution = nn.Conv2d(inputs, options.width, 3, padding=padding)
        norm = (
            nn.LayerNorm([options.width, side, side])
            if options.norm == "layer"
            else norm_layer(options.norm, options.width)
        )
        pool = None if options.pool == "none" else POOLINGS[options.pool](2)
        stages.append(Stage([convolution, norm, ACTIVATIONS[options.act]()], pool))
        inputs, side = options.width, side if pool is None else side // 2
    return StagedNetwork(stages, nn.Flatten(), nn.Linear(options.width * side**2, classes))
