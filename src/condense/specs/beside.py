"""Terms of matching beside another objective."""

from __future__ import annotations

from dataclasses import dataclass, field

from condense.config import UserError
from condense.specs.common import at_least
from condense.specs.costs.profile import Profile
from condense.specs.costs.work import FLOAT, Shard, Work, pixels_of
from condense.specs.images import Augment
from condense.specs.networks import Networks
from condense.specs.term import above_zero
from condense.specs.terms import AnyTerm


@dataclass(frozen=True)
class Beside:
    """Terms by which images follow batches of `batch_real` real ones a class as well, under the network of
    the step, which is their critic too; `weight` times their sum over all classes. Source: cpdm, section
    4.3, its combination with SRe2L (alpha)."""

    terms: list[AnyTerm]
    weight: float = 1.0
    batch_real: int = 256
    augment: Augment = field(default_factory=Augment)

    def __post_init__(self) -> None:
        if not self.terms:
            raise UserError("beside: terms: at least one is needed; leave `beside` out for none")
        above_zero("beside: weight", self.weight)
        at_least({"beside: batch_real": self.batch_real}, 1)
        for term in self.terms:
            where = f"beside: terms: '{term.name}'"
            if term.couples:
                raise UserError(f"{where}: looks at all classes at once, and here some come at a time")
            if term.looks_back or term.turn:
                raise UserError(f"{where}: takes a step of its own, which only the engine 'matching' has")
            if term.requires:
                raise UserError(f"{where}: needs '{term.requires}', and the critic here is the network")
            term.check_networks(Networks())

    def check_batch(self, shown: int) -> None:
        """Raises UserError if its batches are too small for a term and so many images of a class."""
        for term in self.terms:
            term.check_batch(self.batch_real, shown)

    def work(self, shard: Shard, shown: int, steps: float, network: Profile) -> Work:
        """What it adds to that many steps of `shown` images: a pass of the real batches, and of the images
        one there and one back, also as a critic sees them."""
        data, real = shard.data, shard.classes * min(self.batch_real, shard.data.train // shard.data.classes)
        passes = 1 + len(set().union(*(term.critic_passes for term in self.terms)))
        return Work(
            flops_forward=steps * real * network.forward,
            flops_training=3 * steps * passes * shown * network.forward,
            calls_forward=steps * network.layers,
            calls_training=steps * passes * network.layers,
            draws=steps * shard.classes,
            images=steps * (real + shown),
            peak_bytes=real * pixels_of(data) * (FLOAT + 1),
        )
