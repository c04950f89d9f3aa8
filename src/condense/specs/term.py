"""What every term of an objective has, and what it says about itself: what it needs of a step, and what it
costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from condense.config import UserError
from condense.specs.common import at_least, not_above
from condense.specs.networks import AnyNetworks
from condense.specs.recipe import Required

Sees = Literal["plain", "augmented"]
Side = Literal["real", "synthetic"]


@dataclass(frozen=True)
class Weight:
    """A weight that changes over the steps; `start` is its value at step 0."""

    schedule: Literal["linear_decay"]
    start: float = 1.0

    def __post_init__(self) -> None:
        check_weight("start", self.start)


@dataclass(frozen=True, kw_only=True)
class Term:
    """What all terms have. `turn`: terms of one turn are added up, and the images take a step of their own in
    every turn.

    What a term needs is said by attributes of its class, or by properties where it depends on a setting. They
    are no settings and enter no key. Recipes, the estimate and the tests ask them of every term, so that none
    of these knows a term by its name.
    """

    # the network of the step or the trained one beside it, which a critic is not
    sees_network: ClassVar[bool] = True
    sees_real: ClassVar[bool] = True  # the real images of the step
    needs_teacher: ClassVar[bool] = False  # a classifier pretrained on the whole training set, as its critic
    requires: ClassVar[Required | None] = None  # a critic that the recipe asks for by `requires`
    pairs: ClassVar[bool] = False  # a second network at every step
    # the host draws numbers, or decides something, at every step: it cannot be recorded
    draws: ClassVar[bool] = False
    # the synthetic images are embedded once more when they have moved
    looks_back: ClassVar[bool] = False
    # every synthetic image of a class has a partner, by its place among them
    in_order: ClassVar[bool] = False

    weight: float | Weight = 1.0
    turn: int = 0

    if TYPE_CHECKING:
        name: str  # a field of each term's class, of one value

    def __post_init__(self) -> None:
        at_least({"turn": self.turn}, 0, 100)
        if not isinstance(self.weight, Weight):
            check_weight("weight", self.weight)

    def check_networks(self, networks: AnyNetworks) -> None:
        """Raises UserError if `networks` do not give what the term needs at a step."""
        if self.pairs and not networks.give_pairs:
            told = "compares two networks a step, which a queue does not give, nor a bank of a single network"
            raise UserError(f"networks: '{self.name}' {told}")

    def check_batch(self, real: int, synthetic: int) -> None:
        """Raises UserError if a batch of `real` images a class is too small for a set of `synthetic` ones, as
        they are decoded."""

    def check_class(self, real: int, synthetic: int, whose: str) -> None:
        """Raises UserError if the `real` training images of a class, those of `whose`, are too few for
        `synthetic` ones, as they are decoded, however large the batch is."""

    def distances(self, real: float, synthetic: float) -> float:
        """Distances of two embeddings that a class takes at a step, of so many real images and so many
        synthetic ones."""
        return 0.0

    @property
    def couples(self) -> bool:
        """Whether the value of a class depends on the other classes."""
        return False

    @property
    def pass_of(self) -> tuple[int, str]:
        """The pass of the synthetic images through a network that it needs: terms that agree in it share
        one."""
        return self.turn, "network"

    @property
    def waves(self) -> int:
        """Frequencies at which every embedding of both sides is taken at a step."""
        return 0

    @property
    def critic_passes(self) -> frozenset[tuple[Side, Sees]]:
        """What the critic is shown at a step, of which terms share what is the same: synthetic images, or as
        many real ones."""
        return frozenset()


def above_zero(name: str, value: float) -> None:
    """Raises UserError unless `value` is above 0, and finite in float32."""
    if value <= 0:
        raise UserError(f"{name}: must be above 0, found {value}")
    not_above({name: value})


def check_weight(name: str, value: float) -> None:
    """Raises UserError for a negative weight, or one that overflows."""
    if value < 0:
        raise UserError(f"{name}: must not be negative, found {value:g}: every term is made smaller")
    not_above({name: value})
