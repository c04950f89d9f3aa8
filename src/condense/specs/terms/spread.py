"""Terms that keep the synthetic embeddings of a class apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.term import Term


@dataclass(frozen=True, kw_only=True)
class Diversity(Term):
    """Minus the mean distance of synthetic embeddings among each other."""

    sees_real: ClassVar[bool] = False

    name: Literal["diversity"]

    def distances(self, real: float, synthetic: float) -> float:
        return synthetic**2


@dataclass(frozen=True, kw_only=True)
class IntraClassDiversity(Term):
    """Distance of every embedding from the mean of its nearest ones: `neighbours` is their share of the ipc.

    `through_neighbours`: the gradient also goes through that mean.
    """

    sees_real: ClassVar[bool] = False

    name: Literal["intra_class_diversity"]
    neighbours: float = 0.2
    through_neighbours: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.neighbours <= 1:
            raise UserError(
                f"neighbours: a share of the ipc, from 0 to 1, is needed; found {self.neighbours}"
            )

    def distances(self, real: float, synthetic: float) -> float:
        return synthetic**2


@dataclass(frozen=True, kw_only=True)
class CosineDiversity(Term):
    """Cosine similarity of synthetic embeddings among each other."""

    sees_real: ClassVar[bool] = False

    name: Literal["cosine_diversity"]
