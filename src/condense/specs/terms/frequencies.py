"""Terms of characteristic functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.common import at_least, not_above, unused
from condense.specs.term import Term, Weight
from condense.specs.terms.samples import OfTwoSamples


@dataclass(frozen=True, kw_only=True)
class CharacteristicFunction(Term):
    """Discrepancy of characteristic functions of embeddings at random `frequencies`.

    `row_normalised`: of embeddings brought to length 1. `sampler`: normal frequencies, or those of a network
    that makes them from noise, each of them `repeats` times, and is trained at rate `sampler_lr` to tell the
    samples of all classes apart.
    """

    draws: ClassVar[bool] = True

    name: Literal["characteristic_function"]
    frequencies: int = 4096
    amplitude: float = 0.5
    phase: float = 0.5
    row_normalised: bool = True
    sampler: Literal["gaussian", "learned"] = "gaussian"
    repeats: int = 16
    sampler_lr: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"frequencies": self.frequencies, "repeats": self.repeats}, 1, 1_000_000)
        if self.sampler == "learned" and self.frequencies <= self.repeats:
            raise UserError(
                f"frequencies: must be above repeats ({self.repeats}), as batch norm needs two rows of noise"
            )
        if self.sampler == "learned" and isinstance(self.weight, Weight):
            raise UserError("weight: a number is needed beside a learned sampler, whose step it scales too")
        if self.sampler == "gaussian":
            unused(self, ("repeats", "sampler_lr"), "it is of a sampler that learns (`sampler: learned`)")
        if min(self.amplitude, self.phase) < 0 or self.sampler_lr <= 0:
            raise UserError("amplitude and phase must not be negative, sampler_lr above 0")
        not_above({"amplitude": self.amplitude, "phase": self.phase})
        not_above({"sampler_lr": self.sampler_lr}, 1e6)

    @property
    def couples(self) -> bool:
        """A learned sampler serves all classes, and learns from all of them."""
        return self.sampler == "learned"

    @property
    def waves(self) -> int:
        return self.frequencies


@dataclass(frozen=True, kw_only=True)
class EnergyOfCharacteristics(OfTwoSamples):
    """The energy distance with the distance of characteristic functions of single points in place of the
    Euclidean one.

    `row_normalised`: of embeddings brought to length 1. At normal frequencies the distance is flat beyond
    about 4, so that points farther apart, such as embeddings as they are, do not move each other.
    """

    draws: ClassVar[bool] = True

    name: Literal["characteristic_energy"]
    frequencies: int = 1024
    row_normalised: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"frequencies": self.frequencies}, 1, 1_000_000)

    @property
    def waves(self) -> int:
        return self.frequencies
