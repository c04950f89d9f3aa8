"""Terms that tell images, classes or networks apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.specs.term import Term, above_zero


@dataclass(frozen=True, kw_only=True)
class OfTwoNetworks(Term):
    """A term that compares the synthetic images under the network of the step with themselves under a second
    one."""

    sees_real: ClassVar[bool] = False
    pairs: ClassVar[bool] = True
    draws: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class NetworkCosine(OfTwoNetworks):
    """Cosine similarity of an image's two embeddings."""

    name: Literal["network_cosine"]


@dataclass(frozen=True, kw_only=True)
class OfSoftmax(Term):
    """A term with a softmax of inner products over `temperature`. `row_normalised`: of embeddings brought to
    length 1."""

    temperature: float = 1.0
    row_normalised: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero("temperature", self.temperature)


@dataclass(frozen=True, kw_only=True)
class NetworkContrast(OfTwoNetworks, OfSoftmax):
    """Each image's two embeddings against those of the others."""

    name: Literal["network_contrast"]


@dataclass(frozen=True, kw_only=True)
class IntraClassContrast(OfSoftmax):
    """The images of a class against its embedding, the row of the network's classifier, which
    `row_normalised` brings to length 1, too."""

    sees_real: ClassVar[bool] = False

    name: Literal["intra_class_contrast"]


@dataclass(frozen=True, kw_only=True)
class Discrimination(Term):
    """How far the real embeddings of a class are told apart by the means of the synthetic ones of all
    classes."""

    couples: ClassVar[bool] = True

    name: Literal["discrimination"]


@dataclass(frozen=True, kw_only=True)
class InterClassMargin(Term):
    """What the distances of class means of embeddings lack to `margin`; under random ConvNets these lie about
    2 to 6 apart."""

    sees_real: ClassVar[bool] = False
    couples: ClassVar[bool] = True

    name: Literal["inter_class_margin"]
    margin: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero("margin", self.margin)
