"""Terms of means over the networks of earlier steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.term import Term


@dataclass(frozen=True, kw_only=True)
class History(Term):
    """Matching of means to a running mean of the real ones, over the networks of earlier steps, of which a
    step keeps `momentum`."""

    name: Literal["historical_mean"]
    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum: must lie in [0, 1), found {self.momentum}")


@dataclass(frozen=True, kw_only=True)
class SyntheticHistory(Term):
    """Squared distance of the means of synthetic embeddings to a moving average of them over the networks of
    earlier steps, of which a step keeps `momentum`.

    It is kept from the first step on, after the images have moved and under an augmentation of its own, and
    enters the loss when the part `begins` of the steps is done. `per_feature`: divided by the number of
    features. Source: DSDM (Li et al. 2024), as its authors' code does it.
    """

    sees_real: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True

    name: Literal["synthetic_history"]
    momentum: float = 0.99
    begins: float = 0.2
    per_feature: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("momentum", "begins"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name}: must lie in [0, 1), found {getattr(self, name)}")
