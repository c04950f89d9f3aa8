"""The networks of NAS-Bench-201, by their cell (Dong & Yang 2020; code: xautodl/models/cell_infers).

Stem, cells, residual block, cells, residual block, cells, norm, ReLU, global average and linear layer. With
`mixture` every edge is the weighted sum of all operations, as DC-Bench trains them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from condense.models.base import Builder, GlobalAverage, Options, Stage, StagedNetwork, halvings_fit
from condense.models.fusing import through
from condense.specs.spaces.nas201 import EDGES, OPERATIONS, SIZE, cell_number, operations_of

_ALL_3X3 = SIZE // (len(OPERATIONS) - 1) * OPERATIONS.index("nor_conv_3x3")
# softmax of a choice, 1 for the operation that is chosen and 0 for the others
_CHOSEN, _OTHERS = (value / (math.e + len(OPERATIONS) - 1) for value in (math.e, 1.0))


@dataclass(frozen=True, kw_only=True)
class Nas201Options(Options):
    """`cell`: its number or as the benchmark writes it; `cells`: of each of the three stages; `width`:
    channels of the first stage.

    `mixture`: every edge is the sum of all operations, that of the cell weighing 0.405 and the others 0.149
    each, with norms that have no weights (DC-Bench).
    """

    least: ClassVar[Mapping[str, int]] = {"cell": 0}

    cell: int | str = _ALL_3X3
    cells: int = 5
    width: int = 16
    mixture: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        cell_number(self.cell)


class Zero(nn.Module):
    """Zeros in the place of a map. They depend on it, so that every parameter before has a gradient, as in
    the benchmark's code."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


class MixedEdge(nn.Module):
    """The sum of all operations on a map, each by its weight."""

    def __init__(self, chosen: str, channels: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList([_operation(name, channels, affine=False) for name in OPERATIONS])
        self.weights = [_CHOSEN if name == chosen else _OTHERS for name in OPERATIONS]

    def forward(self, x: Tensor) -> Tensor:
        total = None
        for weight, operation in zip(self.weights, self.operations, strict=True):
            part = weight * through([operation], x)
            total = part if total is None else total + part
        return x if total is None else total


class Cell(nn.Module):
    """A cell: each node is the sum of its edges from the earlier nodes, the last one is what comes out."""

    def __init__(self, operations: list[str], channels: int, mixture: bool) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            [MixedEdge(name, channels) if mixture else _operation(name, channels) for name in operations]
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes: list[Tensor] = [x]
        for (start, end), edge in zip(EDGES, self.edges, strict=True):
            part = through([edge], nodes[start])
            if end < len(nodes):
                nodes[end] = nodes[end] + part
            else:
                nodes.append(part)
        return nodes[-1]


def _operation(name: str, channels: int, affine: bool = True) -> nn.Module:
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return _unit(channels, channels, 1 if name == "nor_conv_1x1" else 3, affine=affine)


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, affine: bool = True) -> nn.Sequential:
    """ReLU, convolution and batch norm."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(outputs, affine=affine))


class Reduction(nn.Module):
    """A residual block that halves the map and doubles the channels; its shortcut pools and projects."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        outputs = 2 * inputs
        self.body = nn.Sequential(_unit(inputs, outputs, 3, stride=2), _unit(outputs, outputs, 3))
        projection = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False), projection)

    def forward(self, x: Tensor) -> Tensor:
        return through(self.body, x) + through(self.shortcut, x)


def nas201() -> Builder:
    """The networks of the benchmark; the default cell has a 3 x 3 convolution on every edge."""
    return Builder(Nas201Options(), _fits, _make)


def _fits(options: Nas201Options, channels: int, size: int) -> bool:
    return halvings_fit(size, 2, "batch")


def _make(options: Nas201Options, channels: int, size: int, classes: int) -> StagedNetwork:
    operations, width = operations_of(cell_number(options.cell)), options.width
    stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
    stages, begin = [], [stem, nn.BatchNorm2d(width)]
    for stage in range(3):
        body: list[nn.Module] = [*begin]
        body += [Cell(operations, width, options.mixture) for _ in range(options.cells)]
        if stage < 2:
            begin, width = [Reduction(width)], 2 * width
        else:
            body += [nn.BatchNorm2d(width), nn.ReLU()]
        stages.append(Stage(body))
    return StagedNetwork(stages, GlobalAverage(), nn.Linear(width, classes))
