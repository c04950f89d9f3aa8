"""The terms of an objective: their options, what each needs of a step, and what it costs.

A class for every name. `engines/terms.py` gives each its function; attributes that a class leaves out are
those of `Term`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from condense.config import UserError, by_name
from condense.specs.common import at_least, not_above, unused
from condense.specs.networks import AnyNetworks
from condense.specs.recipe import Required
from condense.specs.term import Sees, Side, Term, Weight, above_zero


@dataclass(frozen=True, kw_only=True)
class Mean(Term):
    """Squared distance of the means of embeddings."""

    name: Literal["mean"]


@dataclass(frozen=True, kw_only=True)
class Variance(Term):
    """Squared distance of the variances of embeddings, coordinate by coordinate."""

    name: Literal["variance"]


@dataclass(frozen=True, kw_only=True)
class OfTwoSamples(Term):
    """A term that costs about as much as the distances of synthetic embeddings to the real ones and among
    each other."""

    def distances(self, real: float, synthetic: float) -> float:
        return real * synthetic + synthetic**2


@dataclass(frozen=True, kw_only=True)
class EnergyDistance(OfTwoSamples):
    """Energy distance of embeddings."""

    name: Literal["energy_distance"]


@dataclass(frozen=True, kw_only=True)
class HyperbolicCentroid(Term):
    """Distance of the centroids of embeddings laid on the hyperboloid."""

    name: Literal["hyperbolic_centroid"]

    def distances(self, real: float, synthetic: float) -> float:
        return real * synthetic + real**2 + synthetic**2


@dataclass(frozen=True, kw_only=True)
class Covariance(OfTwoSamples):
    """Squared distance of the covariances of embeddings. `unbiased`: of n points over n - 1. `per_feature`:
    divided by the number of features."""

    name: Literal["covariance"]
    unbiased: bool = False
    per_feature: bool = False

    def check_class(self, real: int, whose: str) -> None:
        if self.unbiased and real < 2:
            raise UserError(
                f"terms: covariance: unbiased needs two training images of every class, and {whose} "
                f"has {real}: leave `unbiased` out of the recipe, or this class out of the data"
            )

    def check_batch(self, real: int, synthetic: int) -> None:
        if self.unbiased and min(real, synthetic) < 2:
            raise UserError(
                f"terms: covariance: unbiased needs two images a class, found {min(real, synthetic)}"
            )


@dataclass(frozen=True, kw_only=True)
class Diversity(Term):
    """Minus the mean distance of synthetic embeddings among each other."""

    sees_real: ClassVar[bool] = False

    name: Literal["diversity"]

    def distances(self, real: float, synthetic: float) -> float:
        return synthetic**2


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


@dataclass(frozen=True, kw_only=True)
class OfCritic(Term):
    """A term of a critic's predictions. `sees`: the synthetic images as they are, or under the siamese
    augmentation."""

    sees_network: ClassVar[bool] = False
    sees_real: ClassVar[bool] = False

    sees: Sees = "augmented"

    @property
    def critic_passes(self) -> frozenset[tuple[Side, Sees]]:
        return frozenset({("synthetic", self.sees)})


@dataclass(frozen=True, kw_only=True)
class ClassifierCritic(OfCritic):
    """Cross-entropy under a classifier trained on the whole training set."""

    needs_teacher: ClassVar[bool] = True

    name: Literal["classifier_critic"]


@dataclass(frozen=True, kw_only=True)
class ClipCritic(OfCritic):
    """Cross-entropy under CLIP, which takes the names of the classes for labels."""

    requires: ClassVar[Required | None] = "clip"

    name: Literal["clip_critic"]


@dataclass(frozen=True, kw_only=True)
class PredictionKL(OfCritic):
    """Divergence of the predictions for a real image and for its synthetic partner, under a classifier
    trained on all images."""

    sees_real: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = True
    in_order: ClassVar[bool] = True

    name: Literal["prediction_kl"]

    def check_batch(self, real: int, synthetic: int) -> None:
        if synthetic > real:
            raise UserError(
                f"'{self.name}' pairs every synthetic image with a real one, but a class has {synthetic} of "
                f"them and batch_real is only {real}: raise batch_real to at least {synthetic} in the recipe "
                "or the scale"
            )

    @property
    def critic_passes(self) -> frozenset[tuple[Side, Sees]]:
        return super().critic_passes | {("real", self.sees)}


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Term):
    """Cross-entropy under the network of the step, or under the trained one beside it (`under: trained`; see
    `TrainedNetworks`).

    `by_accuracy`: times the network's running training accuracy in percent.
    """

    sees_real: ClassVar[bool] = False

    name: Literal["cross_entropy"]
    under: Literal["network", "trained"] = "network"
    sees: Sees = "augmented"
    by_accuracy: bool = False

    def check_networks(self, networks: AnyNetworks) -> None:
        super().check_networks(networks)
        if self.by_accuracy and not networks.trained_as_it_goes:
            raise UserError(
                f"networks: '{self.name}' by accuracy needs networks that are trained as it goes: "
                f"{{kind: queue}}, whose `trained` is not 0"
            )
        if self.under == "trained" and not networks.trained_beside:
            raise UserError(
                f"networks: '{self.name}' under the trained network needs one beside the step's: "
                f"{{kind: trained}}"
            )


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
    """Spatial means and `spread` of every channel. `over_channels`: squared differences are summed, or
    averaged, over the channels."""

    name: Literal["moments"]
    spread: Literal["variance", "deviation"] = "variance"
    over_channels: Literal["sum", "mean"] = "sum"


@dataclass(frozen=True, kw_only=True)
class Gram(OfMaps):
    """Gram matrices of the channels."""

    name: Literal["gram"]


@dataclass(frozen=True, kw_only=True)
class Attention(OfMaps):
    """Spatial attention of maps before pooling: sums over channels of |value| ** power. `layers` empty: all
    but the last."""

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
class KernelMMD(OfTwoSamples):
    """Squared maximum mean discrepancy of embeddings."""

    name: Literal["kernel_mmd"]
    kernel: Literal["gaussian", "linear", "polynomial", "laplace"] = "gaussian"


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


@dataclass(frozen=True, kw_only=True)
class Representative(OfTwoSamples):
    """Cosine similarity of each synthetic embedding with the `nearest` real one, as the text has it, or the
    `farthest`, as printed."""

    name: Literal["representative"]
    reading: Literal["nearest", "farthest"] = "nearest"


@dataclass(frozen=True, kw_only=True)
class CosineDiversity(Term):
    """Cosine similarity of synthetic embeddings among each other."""

    sees_real: ClassVar[bool] = False

    name: Literal["cosine_diversity"]


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


@dataclass(frozen=True, kw_only=True)
class Barycentre(Term):
    """Distance of the embeddings of a class from the atoms of its Wasserstein barycentre, under one trained
    network.

    It takes all real images of the class before the first step, and none of a later one.
    """

    sees_real: ClassVar[bool] = False
    in_order: ClassVar[bool] = True

    name: Literal["barycentre"]

    def check_networks(self, networks: AnyNetworks) -> None:
        super().check_networks(networks)
        if not networks.stay_the_same:
            needed = "needs one and the same network at all steps: {kind: trained, count: 1, mixed: false}"
            raise UserError(f"networks: '{self.name}' {needed}")


@dataclass(frozen=True, kw_only=True)
class ClassStatistics(OfMaps):
    """Means and variances of the channels of feature maps over all places and images of a class."""

    name: Literal["class_statistics"]


AnyTerm = (
    Mean
    | Variance
    | Covariance
    | EnergyDistance
    | Diversity
    | History
    | ClassifierCritic
    | ClipCritic
    | PredictionKL
    | CrossEntropy
    | Moments
    | Gram
    | Attention
    | IntraClassDiversity
    | KernelMMD
    | CharacteristicFunction
    | EnergyOfCharacteristics
    | Representative
    | CosineDiversity
    | NetworkCosine
    | NetworkContrast
    | IntraClassContrast
    | Discrimination
    | InterClassMargin
    | Barycentre
    | ClassStatistics
    | HyperbolicCentroid
    | SyntheticHistory
)

# The class of every term by its name.
TERMS: dict[str, type[Term]] = by_name(get_args(AnyTerm), "name")
