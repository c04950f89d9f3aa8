"""How far the gradient of a batch of a set points where that of all real training images does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.common import at_least
from condense.specs.costs.profile import Profile
from condense.specs.costs.work import Sizes, Work
from condense.specs.tasks.base import Metric, Task


@dataclass(frozen=True, kw_only=True)
class GradientSimilarity(Task):
    """Cosine between the gradients of a batch of the set and of all real training images, of networks that
    are drawn and not trained.

    Each network is one draw: of its weights and of its batches. Of the protocol only the loss counts, which
    says what the labels of the set are, and the precision.
    `batch`: images of a batch of the set, of one of real images, whose cosine stands beside, and of those
    that the gradient of all real images is added up from.
    """

    folder: ClassVar[str] = "gradient_similarity"
    title: ClassVar[str] = "whether the gradient of a batch points where that of all real images does"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "similarity": Metric("cosine similarity to the gradient of all real images", least=-1.0, most=1.0),
        "real_similarity": Metric(
            "the same of as many real images drawn at random", least=-1.0, most=1.0, reference="real images"
        ),
    }
    numerics: ClassVar[int | None] = 1
    of_a_set: ClassVar[str] = "set whose batches are compared"
    trained_on: ClassVar[Literal["set", "real", "nothing"]] = "nothing"
    unobserved: ClassVar[str] = "its networks are compared untrained, by the labels of the set itself"
    together: ClassVar[bool] = False

    batch: int = 50
    kind: Literal["gradient_similarity"] = "gradient_similarity"

    def __post_init__(self) -> None:
        at_least({"batch": self.batch}, 1, 1 << 20)

    def measuring_work(self, network: Profile, data: Sizes, images: int, networks: int, sets: int) -> Work:
        """A backward pass costs twice a forward one; so do the batches of both sides."""
        passed = networks * (data.train + 2 * min(self.batch, images))
        return Work(
            flops_training=3.0 * network.forward * passed,
            calls_training=networks * network.layers * (2 + data.train / self.batch),
        )
