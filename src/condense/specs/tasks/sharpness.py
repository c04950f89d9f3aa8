"""How sharply the loss of a set rises around its images, over the steps of a condensation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.common import at_least
from condense.specs.costs.profile import Profile
from condense.specs.costs.work import Sizes, Work
from condense.specs.tasks.base import Metric, Task

_PASSES = 4  # what a product with the Hessian costs, in forward and backward passes, about


@dataclass(frozen=True, kw_only=True)
class Sharpness(Task):
    """Frobenius norm of the Hessian of the mean loss of a set with respect to its images, at every snapshot
    of it, of networks trained on all real images.

    `probes`: random vectors from whose products with the Hessian the norm is estimated.
    """

    folder: ClassVar[str] = "sharpness"
    title: ClassVar[str] = "how sharply the loss rises around the images, over the steps of the condensation"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "sharpness": Metric("norm of the Hessian by the images", better="lower", least=0.0),
        "loss": Metric("loss of the images", unit="nats", better="lower", least=0.0),
    }
    numerics: ClassVar[int | None] = 1
    reads: ClassVar[Literal["synthetic", "snapshots", "recipe"]] = "snapshots"
    over_steps: ClassVar[bool] = True
    unstored: ClassVar[str] = "measures the loss of images as they are, augmented by nothing"
    of_a_set: ClassVar[str] = "snapshots of a set"
    trained_on: ClassVar[Literal["set", "real", "nothing"]] = "real"

    probes: int = 8
    kind: Literal["sharpness"] = "sharpness"

    def __post_init__(self) -> None:
        at_least({"probes": self.probes}, 1, 10_000)

    @property
    def explained(self) -> str:
        return (
            "Frobenius norm, in nats a squared normalised pixel, of the Hessian of the mean loss of the set."
        )

    def sets_in(self, snapshots: int) -> float:
        return max(1, snapshots)

    def measuring_work(self, network: Profile, data: Sizes, images: int, networks: int, sets: int) -> Work:
        """The products of the Hessian with every probe, at every snapshot."""
        passes = networks * sets * self.probes * _PASSES
        return Work(
            flops_training=3.0 * passes * images * network.forward,
            calls_training=float(passes * network.layers * (1 + images // 64)),
        )
