"""What one job does, in units that a machine's rates turn into seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

from condense.specs.costs.profile import Profile

FLOAT = 4  # bytes
_CHANNELS = 256  # of a layer, about: what is known of them takes little beside the network


class Sizes(Protocol):
    """What costs depend on of a dataset, as its `data.spec.DatasetSpec` says it: images of each split, and
    numbers in an image."""

    @property
    def train(self) -> int: ...
    @property
    def test(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def strategy(self) -> str: ...


@dataclass(frozen=True)
class Work:
    """What one job does. `peak_bytes`, on a GPU those of the GPU, is on top of what the imported libraries
    take."""

    flops_forward: float = 0.0  # without gradients
    flops_training: float = 0.0  # forward and backward
    flops_moving: float = 0.0  # forward, and backward to the images through a frozen network
    calls_forward: float = 0.0  # of layers
    calls_training: float = 0.0  # of layers, forward and backward
    parameters_drawn: float = 0.0
    draws: float = 0.0  # batches that are augmented
    images: float = 0.0  # images that are augmented
    bytes_out: int = 0
    peak_bytes: int = 0
    host_bytes: int = 0  # what a job on a GPU holds in the memory of the machine around it
    light: bool = False  # a job without torch


def both(first: Work, second: Work) -> Work:
    """The work of a job that does one thing and the other by turns."""
    names = [field.name for field in fields(Work) if field.name != "light"]
    return Work(
        **{name: getattr(first, name) + getattr(second, name) for name in names},
        light=first.light and second.light,
    )


def pixels_of(data: Sizes) -> int:
    """Numbers in one image."""
    return data.channels * data.size**2


def statistics_bytes(classes: int, network: Profile) -> int:
    """Of what the layers of a network are given for the real images: a mean and a variance of each of their
    channels, about, for every class and for all."""
    return 4 * (classes + 1) * network.layers * _CHANNELS * FLOAT


@dataclass(frozen=True)
class Shard:
    """So many classes of a synthetic set, whose cost a recipe is asked for.

    `condensed_with`: what an image costs in the network of the set (None: it has none); `parents`: the same
    by name for the networks of those parents that are made beforehand. `shared`: with the work that a group
    of sets does once.
    """

    data: Sizes
    classes: int
    ipc: int
    condensed_with: Profile | None
    parents: Mapping[str, Profile]
    on_gpu: bool = False
    shared: bool = True

    @property
    def network(self) -> Profile:
        """What an image costs in the network of the set. Raises ValueError for a set without one."""
        if self.condensed_with is None:
            raise ValueError("a set without a network was asked for the cost of one")
        return self.condensed_with
