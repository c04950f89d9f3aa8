"""The terms of an objective, with the options that each of them has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

from condense.config import UserError
from condense.specs.common import at_least, not_above

Sees = Literal["plain", "augmented"]


@dataclass(frozen=True)
class Weight:
    """A weight that changes over the steps; `start` is its value at step 0."""

    schedule: Literal["linear_decay"]
    start: float = 1.0

    def __post_init__(self) -> None:
        _check_weight("start", self.start)


@dataclass(frozen=True, kw_only=True)
class Term:
    """What all terms have. `turn`: terms of one turn are added up, and the images take a step of their own in every turn."""

    weight: float | Weight = 1.0
    turn: int = 0

    def __post_init__(self) -> None:
        at_least({"turn": self.turn}, 0, 100)
        if not isinstance(self.weight, Weight):
            _check_weight("weight", self.weight)


@dataclass(frozen=True, kw_only=True)
class OfEmbedding(Term):
    """A term of embeddings that has no further options."""

    name: Literal["mean", "energy_distance", "diversity", "variance", "covariance"]


@dataclass(frozen=True, kw_only=True)
class History(Term):
    """Matching of means to a running mean of the real ones, over the networks of earlier steps, of which a step keeps `momentum`."""

    name: Literal["historical_mean"]
    momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum: must lie in [0, 1), found {self.momentum}")


@dataclass(frozen=True, kw_only=True)
class OfCritic(Term):
    """A term of a critic's predictions. `sees`: the synthetic images as they are, or under the siamese augmentation."""

    name: Literal["classifier_critic", "prediction_kl", "clip_critic"]
    sees: Sees = "augmented"


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Term):
    """Cross-entropy under the network of the step, or under the trained one beside it (`under: trained`; see `TrainedNetworks`).

    `by_accuracy`: times the network's running training accuracy in percent.
    """

    name: Literal["cross_entropy"]
    under: Literal["network", "trained"] = "network"
    sees: Sees = "augmented"
    by_accuracy: bool = False


@dataclass(frozen=True, kw_only=True)
class OfMaps(Term):
    """Class means of statistics of feature maps behind the stages `layers`, counted from 1 (empty: all)."""

    layers: list[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"layers": min(self.layers or [1])}, 1)
        at_least({"layers": max(self.layers or [1])}, 1, 1000)


@dataclass(frozen=True, kw_only=True)
class Moments(OfMaps):
    """Spatial means and `spread` of every channel. `over_channels`: squared differences are summed, or averaged, over the channels."""

    name: Literal["moments"]
    spread: Literal["variance", "deviation"] = "variance"
    over_channels: Literal["sum", "mean"] = "sum"


@dataclass(frozen=True, kw_only=True)
class Gram(OfMaps):
    """Gram matrices of the channels."""

    name: Literal["gram"]


@dataclass(frozen=True, kw_only=True)
class Attention(OfMaps):
    """Spatial attention of maps before pooling: sums over channels of |value| ** power. `layers` empty: all but the last."""

    name: Literal["attention"]
    power: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"power": self.power}, 1, 100)


@dataclass(frozen=True, kw_only=True)
class IntraClassDiversity(Term):
    """Distance of every embedding from the mean of its nearest ones: `neighbours` is their share of the ipc.

    `through_neighbours`: the gradient also goes through that mean.
    """

    name: Literal["intra_class_diversity"]
    neighbours: float = 0.2
    through_neighbours: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.neighbours <= 1:
            raise UserError(f"neighbours: a share of the ipc, from 0 to 1, is needed; found {self.neighbours}")


@dataclass(frozen=True, kw_only=True)
class KernelMMD(Term):
    """Squared maximum mean discrepancy of embeddings."""

    name: Literal["kernel_mmd"]
    kernel: Literal["gaussian", "linear", "polynomial", "laplace"] = "gaussian"


@dataclass(frozen=True, kw_only=True)
class CharacteristicFunction(Term):
    """Discrepancy of characteristic functions of embeddings at random `frequencies`.

    `row_normalised`: of embeddings brought to length 1. `sampler`: normal frequencies, or those of a network that makes them from
    noise, each of them `repeats` times, and is trained at rate `sampler_lr` to tell the samples of all classes apart.
    """

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
            raise UserError(f"frequencies: must be above repeats ({self.repeats}), as batch norm needs two rows of noise")
        if self.sampler == "learned" and isinstance(self.weight, Weight):
            raise UserError("weight: a number is needed beside a learned sampler, whose step it scales too")
        if min(self.amplitude, self.phase) < 0 or self.sampler_lr <= 0:
            raise UserError("amplitude and phase must not be negative, sampler_lr above 0")
        not_above({"amplitude": self.amplitude, "phase": self.phase})
        not_above({"sampler_lr": self.sampler_lr}, 1e6)


@dataclass(frozen=True, kw_only=True)
class EnergyOfCharacteristics(Term):
    """The energy distance with the distance of characteristic functions of single points in place of the Euclidean one.

    `row_normalised`: of embeddings brought to length 1. At normal frequencies the distance is flat beyond about 4, so that points
    farther apart, such as embeddings as they are, do not move each other.
    """

    name: Literal["characteristic_energy"]
    frequencies: int = 1024
    row_normalised: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least({"frequencies": self.frequencies}, 1, 1_000_000)


@dataclass(frozen=True, kw_only=True)
class Representative(Term):
    """Cosine similarity of each synthetic embedding with the `nearest` real one, as the text has it, or the `farthest`, as printed."""

    name: Literal["representative"]
    reading: Literal["nearest", "farthest"] = "nearest"


@dataclass(frozen=True, kw_only=True)
class OfPairs(Term):
    """A term of pairs of embeddings, within a class, across two networks or across classes, that has no further options."""

    name: Literal["cosine_diversity", "network_cosine", "discrimination"]


@dataclass(frozen=True, kw_only=True)
class Contrast(Term):
    """A softmax of inner products over `temperature`. `row_normalised`: of embeddings (and class embeddings) brought to length 1.

    `intra_class_contrast` has the row of the network's classifier as the class embedding; `network_contrast` compares two networks.
    """

    name: Literal["intra_class_contrast", "network_contrast"]
    temperature: float = 1.0
    row_normalised: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _above_zero("temperature", self.temperature)


@dataclass(frozen=True, kw_only=True)
class InterClassMargin(Term):
    """What the distances of class means of embeddings lack to `margin`; under random ConvNets these lie about 2 to 6 apart."""

    name: Literal["inter_class_margin"]
    margin: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _above_zero("margin", self.margin)


@dataclass(frozen=True, kw_only=True)
class Barycentre(Term):
    """Distance of the embeddings of a class from the atoms of its Wasserstein barycentre, under one trained network."""

    name: Literal["barycentre"]


@dataclass(frozen=True, kw_only=True)
class ClassStatistics(OfMaps):
    """Means and variances of the channels of feature maps over all places and images of a class."""

    name: Literal["class_statistics"]


def _above_zero(name: str, value: float) -> None:
    if value <= 0:
        raise UserError(f"{name}: must be above 0, found {value}")
    not_above({name: value})


def _check_weight(name: str, value: float) -> None:
    if value < 0:
        raise UserError(f"{name}: must not be negative, found {value:g}: every term is made smaller")
    not_above({name: value})


AnyTerm = (
    OfEmbedding
    | History
    | OfCritic
    | CrossEntropy
    | Moments
    | Gram
    | Attention
    | IntraClassDiversity
    | KernelMMD
    | CharacteristicFunction
    | EnergyOfCharacteristics
    | Representative
    | OfPairs
    | Contrast
    | InterClassMargin
    | Barycentre
    | ClassStatistics
)


def kind_of_term(name: str) -> type:
    """The class of the term `name`, one of `TERMS`."""
    return next(kind for kind in get_args(AnyTerm) if name in get_args(get_type_hints(kind)["name"]))


TERMS = tuple(name for kind in get_args(AnyTerm) for name in get_args(get_type_hints(kind)["name"]))
TEACHER_TERMS = ("classifier_critic", "prediction_kl")  # these ask for a classifier pretrained on the whole training set
COUPLING_TERMS = ("inter_class_margin", "discrimination")  # these make the value of a class depend on the others
PAIR_TERMS = ("network_contrast", "network_cosine")  # these need a second network at every step


def couples(term: Term) -> bool:
    """Whether the value of a class under `term` depends on the others."""
    return term.name in COUPLING_TERMS or getattr(term, "sampler", None) == "learned"
