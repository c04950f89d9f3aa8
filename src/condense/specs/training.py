"""How the weights of a network move while it is trained: optimiser, loss, mixing of images, average of
weights; how the rate falls says `specs.schedules`."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, ClassVar, Literal

from condense.config import UserError
from condense.specs.common import not_above


def told(settings: Any) -> Any:
    """Settings as plain values, as metrics and keys hold them.

    A class names in `LATER` the fields that keys do not hold while these have their defaults, because it had
    them later than others, and in `HELD` entries that keys have held from the first without anything reading
    them: so keys stay as they are.
    """
    if isinstance(settings, tuple):
        return [told(entry) for entry in settings]
    if not is_dataclass(settings):
        return settings
    later = {
        entry.name: entry.default if entry.default_factory is MISSING else entry.default_factory()
        for entry in fields(settings)
        if entry.name in getattr(settings, "LATER", ())
    }
    values = {entry.name: getattr(settings, entry.name) for entry in fields(settings)}
    kept = {name: told(value) for name, value in values.items() if name not in later or value != later[name]}
    return {**getattr(settings, "HELD", {}), **kept}


def _check_step(lr: float, weight_decay: float) -> None:
    if lr <= 0 or weight_decay < 0:
        raise UserError("lr must be above 0, weight_decay not negative")
    not_above({"lr": lr, "weight_decay": weight_decay}, 1e30)  # beyond it a step itself fails


def _check_decay_of(settings: Any) -> None:
    if settings.decay_of != "all" and not settings.weight_decay:
        raise UserError("optimizer: decay_of: nothing decays without a weight_decay; leave it out")


@dataclass(frozen=True)
class NetworkSGD:
    """Momentum and L2 penalty as in torch.optim.SGD; `lr` is per step."""

    LATER: ClassVar[tuple[str, ...]] = ("nesterov", "decay_of")
    HELD: ClassVar[dict[str, Any]] = {"beta1": 0.9, "beta2": 0.999, "class_turns": False, "plateau": None}
    further_copies: ClassVar[int] = 0  # of the weights, that it keeps beside the momentum

    lr: float
    name: Literal["sgd"] = "sgd"
    momentum: float = 0.5
    weight_decay: float = 0.0  # L2 penalty, added to the gradient
    nesterov: bool = False  # steps along the gradient and the momentum that follows from it
    # weights: what is called so and has more than one dimension, thus neither biases nor scales of norms
    decay_of: Literal["all", "weights"] = "all"

    def __post_init__(self) -> None:
        _check_step(self.lr, self.weight_decay)
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum: must lie in [0, 1), found {self.momentum:g}")
        if self.nesterov and not self.momentum:
            raise UserError("nesterov: needs a momentum above 0")
        _check_decay_of(self)


@dataclass(frozen=True)
class NetworkAdam:
    """As torch.optim.Adam, whose `weight_decay` is an L2 penalty, or torch.optim.AdamW, whose values shrink
    by it at every step."""

    LATER: ClassVar[tuple[str, ...]] = ("decay_of",)
    further_copies: ClassVar[int] = 1

    name: Literal["adam", "adamw"]
    lr: float
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    # weights: what is called so and has more than one dimension, thus neither biases nor scales of norms
    decay_of: Literal["all", "weights"] = "all"

    def __post_init__(self) -> None:
        _check_step(self.lr, self.weight_decay)
        if not all(0 <= beta < 1 for beta in (self.beta1, self.beta2)):
            raise UserError("beta1 and beta2 must lie in [0, 1)")
        _check_decay_of(self)


AnyNetworkOptimizer = NetworkSGD | NetworkAdam


@dataclass(frozen=True)
class HardLoss:
    """Cross-entropy with the class of each image."""

    labels: ClassVar[str] = "hard"  # which labels of a set it compares with

    name: Literal["hard"] = "hard"


@dataclass(frozen=True)
class SoftLoss:
    """Cross-entropy with the probabilities of the classes that a set gives each image; of logits, with their
    softmax."""

    labels: ClassVar[str] = "soft"

    name: Literal["soft"]


@dataclass(frozen=True)
class DistillationLoss:
    """Kullback-Leibler divergence of the softmax of logits / `temperature` from that of the labels; means
    over images, sums over classes.

    Of probabilities, the logits are their logarithms. SRe2L and RDED: temperature 20, not scaled.
    """

    labels: ClassVar[str] = "soft"

    name: Literal["distillation"]
    temperature: float
    scaled: bool = False  # times the square of the temperature, so that the gradient does not shrink with it
    hard_weight: float = 0.0  # of the cross-entropy with the class of each image, which is added
    # of mixed images: the classes of both in their shares, or each image's own
    hard_labels: Literal["mixed", "own"] = "mixed"

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= 1e6:
            raise UserError(
                f"loss: temperature: must lie above 0, and be at most 1e6, found {self.temperature:g}"
            )
        _check_hard(self)


@dataclass(frozen=True)
class LogitsLoss:
    """Mean squared difference of the logits from those that a set gives each image. G-VBSM: hard_weight 0.15;
    EDC: 0.025, own."""

    labels: ClassVar[str] = "soft"

    name: Literal["mse"]
    hard_weight: float = 0.0  # of the cross-entropy with the class of each image, which is added
    # of mixed images: the classes of both in their shares, or each image's own
    hard_labels: Literal["mixed", "own"] = "mixed"

    def __post_init__(self) -> None:
        _check_hard(self)


def _check_hard(loss: DistillationLoss | LogitsLoss) -> None:
    if loss.hard_weight < 0:
        raise UserError(f"loss: hard_weight: must not be negative, found {loss.hard_weight:g}")
    not_above({"loss: hard_weight": loss.hard_weight})
    if loss.hard_labels == "own" and not loss.hard_weight:
        raise UserError("loss: hard_labels: say nothing without a hard_weight above 0")


AnyLoss = HardLoss | SoftLoss | DistillationLoss | LogitsLoss


def _check_mixing(probability: float, beta: float) -> None:
    if not 0 < probability <= 1:
        raise UserError(f"mixing: probability: must lie in (0, 1], found {probability:g}")
    if not 1e-3 <= beta <= 1e6:
        raise UserError(f"mixing: beta: must lie from 0.001 to 1e6, found {beta:g}")


@dataclass(frozen=True)
class CutMix:
    """A box of each image of a batch comes from another one, with its label in the share of the box. Source:
    Yun et al. 2019."""

    name: Literal["cutmix"]
    probability: float = 0.5  # for a batch
    beta: float = 1.0  # of the Beta distribution that the share of the image itself is drawn from; 1: uniform

    def __post_init__(self) -> None:
        _check_mixing(self.probability, self.beta)


@dataclass(frozen=True)
class MixUp:
    """Each image of a batch is added to another one in their shares, and so are their labels. Source: Zhang
    et al. 2018."""

    name: Literal["mixup"]
    probability: float = 1.0  # for a batch
    # of the Beta distribution that the share of the image itself is drawn from; 0.8 in SRe2L's CIFAR-100
    beta: float = 0.8

    def __post_init__(self) -> None:
        _check_mixing(self.probability, self.beta)


AnyMixing = CutMix | MixUp


@dataclass(frozen=True)
class WeightAverage:
    """The network that is judged has the mean of its weights over the steps: mean <- decay mean + (1 - decay)
    weights.

    The mean starts at the first draw; running statistics are the last ones, as in EDC.
    """

    decay: float

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise UserError(f"average: decay: must lie between 0 and 1, found {self.decay:g}")
