"""How far networks trained on a set are from those trained on the real images, from the same first draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.common import REPEATS, at_least, check_name
from condense.specs.costs.profile import Profile
from condense.specs.costs.work import Sizes, Work
from condense.specs.networks import TrainedNetworks
from condense.specs.parent import Parent
from condense.specs.tasks.base import Metric, Task


@dataclass(frozen=True, kw_only=True)
class Hypotheses(Task):
    """Generalisation, value and parameter discrepancy between networks trained on a set and those trained on
    all real training images, each pair from one first draw.

    `count` networks are trained on the real images by `trained_by`, so that one bank may serve methods that
    match under such networks, too; the network of the judge with number k is paired with number k modulo
    `count`. Loss and values are compared on `real` training images of every class, or all of a class
    that has fewer, not augmented.
    """

    folder: ClassVar[str] = "hypotheses"
    title: ClassVar[str] = "how far networks trained on it are from those trained on the real images"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "generalisation": Metric("generalisation discrepancy", unit="nats", better="lower", least=0.0),
        "value": Metric("value discrepancy", better="lower", least=0.0, most=2**0.5),
        "parameter": Metric("parameter discrepancy", better="lower", least=0.0),
    }
    numerics: ClassVar[int | None] = 1
    of_a_set: ClassVar[str] = "set that networks are trained on"
    together: ClassVar[bool] = False

    trained_by: str = "idm_networks"
    count: int = 3
    real: int = 256
    kind: Literal["hypotheses"] = "hypotheses"

    def __post_init__(self) -> None:
        check_name("trained_by", self.trained_by)
        at_least({"count": self.count}, 1, REPEATS)
        at_least({"real": self.real}, 1, 1 << 20)

    @property
    def networks(self) -> TrainedNetworks:
        """Those that are trained on the real images."""
        return TrainedNetworks("trained", self.trained_by, self.count, mixed=False)

    def parents(self) -> dict[str, Parent]:
        return {"bank": self.networks}

    def measuring_work(self, network: Profile, data: Sizes, images: int, networks: int, sets: int) -> Work:
        """Both networks of every pair see the real images once."""
        seen = networks * sets * min(data.train, data.classes * self.real)
        return Work(flops_forward=2 * network.forward * seen)
