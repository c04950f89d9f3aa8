"""Terms of the predictions for images, by a critic or by the network of the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from condense.config import UserError
from condense.specs.networks import AnyNetworks
from condense.specs.recipe import Required
from condense.specs.term import Sees, Side, Term

# Environment variable: the safetensors file with the weights of the CLIP critic
CLIP_WEIGHTS = "CONDENSE_CLIP"
# Environment variable: open_clip's name of the model, or a JSON file with its configuration
CLIP_MODEL = "CONDENSE_CLIP_MODEL"


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

    def check_class(self, real: int, synthetic: int, whose: str) -> None:
        if synthetic > real:
            raise UserError(
                f"'{self.name}' pairs every synthetic image with a real one, and {whose} has {real} of these "
                f"for {synthetic} synthetic ones: ask for fewer images, or leave this class out of the data"
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

    @property
    def pass_of(self) -> tuple[int, str]:
        return self.turn, self.under

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
