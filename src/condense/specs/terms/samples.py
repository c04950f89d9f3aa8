"""Terms that compare the embeddings of a class, real and synthetic ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.networks import AnyNetworks
from condense.specs.term import Term


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

    def check_class(self, real: int, synthetic: int, whose: str) -> None:
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
class KernelMMD(OfTwoSamples):
    """Squared maximum mean discrepancy of embeddings."""

    name: Literal["kernel_mmd"]
    kernel: Literal["gaussian", "linear", "polynomial", "laplace"] = "gaussian"


@dataclass(frozen=True, kw_only=True)
class Representative(OfTwoSamples):
    """Cosine similarity of each synthetic embedding with the `nearest` real one, as the text has it, or the
    `farthest`, as printed."""

    name: Literal["representative"]
    reading: Literal["nearest", "farthest"] = "nearest"


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
