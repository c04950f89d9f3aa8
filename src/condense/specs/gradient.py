"""The engine `gradient`: images whose gradient of the class loss follows that of real ones, along the
training of networks on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from condense.machine import fitting
from condense.specs.common import at_least, unused
from condense.specs.costs.work import FLOAT, Shard, Work, pixels_of
from condense.specs.images import ImageRecipe
from condense.specs.training import NetworkSGD

Distance = Literal[
    "layerwise_cosine",
    "squared_difference",
    "whole_cosine",
    "squared_difference_of_convolutions",
    "absolute_difference_of_convolutions",
]
STATISTICS = 16  # real images a class, of which batch norms take their statistics


@dataclass(frozen=True)
class Loop:
    """How long a network serves: `outer` steps of the images, and between two of them `inner` epochs of
    training on these."""

    outer: int = 1
    inner: int = 1

    def __post_init__(self) -> None:
        at_least({"loop: outer": self.outer, "loop: inner": self.inner}, 1, 100_000)
        if self.outer == 1:
            unused(self, ("inner",), "with `outer: 1` no network is trained between two steps", "loop")


@dataclass(frozen=True, kw_only=True)
class GradientRecipe(ImageRecipe):
    """Matching of class gradients. `steps` counts networks, each of which serves for a `loop` of image steps.

    The networks are trained by `network_optimizer` on batches of `batch_network` synthetic images, under the
    operations of `augment` with parameters of its own for each image where `augment_network` says so.
    Source: DC (Zhao et al. 2021), algorithm 1; DSA (Zhao and Bilen 2021), algorithm 1.
    """

    NUMBER: ClassVar[int] = 1
    trials: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"steps": 4, "batch_real": 16, "loop": {"outer": 1, "inner": 1}},
        {"steps": 2, "batch_real": 16, "loop": {"outer": 2, "inner": 2}},
    )

    engine: Literal["gradient"]
    distance: Distance = "layerwise_cosine"
    loop: Loop = Loop()
    network_optimizer: NetworkSGD = NetworkSGD(lr=0.01, momentum=0.0)
    batch_network: int = 256
    augment_network: bool = True
    # mixed: real gradients and the training of networks with layers in bfloat16
    precision: Literal["fp32", "mixed"] = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"batch_network": self.batch_network}, 1)
        if not self._ever_trains_networks:
            unused(
                self,
                ("network_optimizer", "batch_network", "augment_network"),
                "with `loop: {outer: 1}`, which `overrides` do not raise either, no network is trained",
            )

    @property
    def _ever_trains_networks(self) -> bool:
        """Whether networks are trained between two steps, at some number of images a class."""
        changes = [change for cases in self.overrides.values() for change in cases.values()]
        loops = [loop for change in changes if isinstance(loop := change.get("loop"), Mapping)]
        return self.loop.outer > 1 or any(loop.get("outer") not in (None, 1) for loop in loops)

    @property
    def number_of_steps(self) -> int:
        return self.steps * self.loop.outer

    @property
    def classes_apart(self) -> bool:
        return self.loop.outer == 1  # else networks are trained on the images of all classes

    def work(self, shard: Shard) -> Work:
        """A gradient costs three forward passes, that of its distance as much once more and a backward pass
        through both."""
        data, network = shard.data, shard.network
        real = shard.classes * min(self.batch_real, data.train // data.classes)
        synthetic = shard.classes * shard.ipc * self.images_a_stored
        matched = shard.classes * shard.ipc * self.images_matched
        trained = self.steps * (self.loop.outer - 1) * self.loop.inner  # epochs on the synthetic images
        chunk = min(
            real // shard.classes, max(1, fitting.CHUNK["cuda" if shard.on_gpu else "cpu"] // data.size**2)
        )
        calls = self.number_of_steps * shard.classes * (math.ceil(real / shard.classes / chunk) + 2)
        batches = trained * math.ceil(synthetic / self.batch_network)
        held = 3 * chunk * network.kept + 9 * matched / shard.classes * network.kept
        held += (shard.classes + fitting.COPIES) * network.parameters + (3 * real + 6 * matched) * pixels_of(
            data
        )
        augments = self.augment.siamese != "none"
        images = self.number_of_steps * (real + matched) + trained * synthetic * self.augment_network
        return Work(
            flops_training=3
            * network.forward
            * (self.number_of_steps * (real + 3 * matched) + trained * synthetic),
            calls_training=(calls + batches) * network.layers,
            parameters_drawn=self.steps * network.parameters,
            draws=(self.number_of_steps * shard.classes + batches * self.augment_network) * augments,
            images=images * augments,
            peak_bytes=2 * data.train * pixels_of(data)
            + math.ceil(held) * FLOAT * (1 + (self.number_of_snapshots > 0)),
            host_bytes=2 * data.train * pixels_of(data),
        )
