"""How far a finished set is from the real images, by several discrepancies of their embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.common import at_least
from condense.specs.costs.profile import Profile
from condense.specs.costs.work import Sizes, Work
from condense.specs.tasks.base import Metric, Task


@dataclass(frozen=True, kw_only=True)
class Discrepancies(Task):
    """Discrepancies between the embeddings of the images of a set and of real ones, class by class, under
    networks that are drawn and not trained; means over the classes.

    Each network is one draw: of its weights and of `real` training images of every class, or all of a class
    that has fewer. Images are those that networks are trained on, not augmented.
    """

    folder: ClassVar[str] = "discrepancies"
    title: ClassVar[str] = "how far its images are from the real ones, by several discrepancies"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "mean": Metric("squared distance of means", better="lower"),
        "variance": Metric("squared distance of variances", better="lower"),
        "covariance": Metric("squared distance of covariances", better="lower"),
        "energy": Metric("energy distance", better="lower"),
        "kernel": Metric("squared MMD, Gaussian kernels", better="lower"),
    }
    numerics: ClassVar[int | None] = 1
    of_a_set: ClassVar[str] = "set that is compared with real images"
    trained_on: ClassVar[Literal["set", "real", "nothing"]] = "nothing"
    together: ClassVar[bool] = False

    real: int = 256
    kind: Literal["discrepancies"] = "discrepancies"

    def __post_init__(self) -> None:
        at_least({"real": self.real}, 2, 1 << 20)

    def measuring_work(self, network: Profile, data: Sizes, images: int, networks: int, sets: int) -> Work:
        """Both sides are embedded once by each network."""
        embedded = networks * (min(data.train, data.classes * self.real) + images)
        return Work(
            flops_forward=network.embed * embedded,
            calls_forward=2 * networks * data.classes * network.layers,
        )
