"""How networks are trained and judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from condense.config import UserError
from condense.machine import fitting
from condense.specs.common import Source, at_least, check_groups, check_name, cut_to, unused
from condense.specs.costs.profile import Profile
from condense.specs.costs.work import FLOAT, Sizes, Work, pixels_of
from condense.specs.labels import AnyLabels
from condense.specs.parent import TeacherNeed
from condense.specs.schedules import AnySchedule
from condense.specs.training import (
    AnyLoss,
    AnyMixing,
    AnyNetworkOptimizer,
    CutMix,
    HardLoss,
    WeightAverage,
    told,
)
from condense.specs.views import AnyView

TRIED = 2000  # training images on which the weights of others are tried
DEFAULT_PROTOCOL = "dc"  # by which sets are judged where nothing else is said
_BOTH_TYPES = 1.25  # a convolution in bfloat16 keeps its input in that type beside the norm's in float32


@dataclass(frozen=True)
class Protocol:
    """How a network is trained and judged. See `params/protocols/`."""

    LATER: ClassVar[tuple[str, ...]] = (
        *("loss", "mixing", "average", "clip", "views", "labels", "weights"),
        *("overrides", "of_arch"),
    )

    name: str
    title: str
    source: Source
    epochs: int
    batch: int
    optimizer: AnyNetworkOptimizer
    schedule: AnySchedule
    # one operation of the dataset's a batch, or all in IDC's way
    augment: Literal["dataset", "all", "none"] = "dataset"
    # of which operations, joined by '_', as far as the dataset has them; empty: of all that it has
    siamese: str = ""
    # probability of CutMix for a batch: short for `mixing: {name: cutmix, probability: ...}`
    cutmix: float = 0.0
    # mixed: layers in bfloat16, weights, their steps and the logits in float32
    precision: Literal["fp32", "mixed"] = "mixed"
    least_updates: int = 0  # on a small set the epochs are raised until there are so many updates
    loss: AnyLoss = HardLoss()
    mixing: AnyMixing | None = None  # of the images of a batch, and of their labels
    average: WeightAverage | None = None  # of the weights, judged in place of the last ones
    # the most that the norm of the gradient of all weights may be, before an L2 penalty; larger ones are
    # scaled down to it
    clip: float | None = None
    # of each image by itself, one after the other, before `augment`
    views: tuple[AnyView, ...] = ()
    labels: AnyLabels | None = None  # whose labels the loss compares with, in place of the set's
    # by whom the networks were trained, whose weights are taken where they are; the other settings say how
    weights: Literal["", "torchvision"] = ""
    # changes for the sets that are judged: by dataset, or `any`, and number of images a class, as in recipes
    overrides: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    of_arch: dict[str, dict[str, Any]] = field(default_factory=dict)  # by the architecture that judges

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if not 0 <= self.cutmix <= 1:
            raise UserError(f"cutmix: a probability is needed, found {self.cutmix}")
        if self.cutmix and self.mixing:
            raise UserError(
                "cutmix: is short for a mixing; beside `mixing` write `cutmix: 0.0` or leave it out"
            )
        check_groups(self.siamese, "siamese")
        if self.augment == "none":
            unused(self, ("siamese",), "with `augment: none` no operation is used")
        if self.mixed_by is None and getattr(self.loss, "hard_labels", "mixed") != "mixed":
            told = "says whose labels mixed images have, and nothing mixes them"
            raise UserError(f"loss: hard_labels: {told}; leave it out, or give `mixing`")
        if self.epochs < 1 or self.batch < 1 or self.least_updates < 0:
            raise UserError("epochs and batch must be at least 1, least_updates not negative")
        at_least({"epochs": self.epochs, "batch": self.batch, "least_updates": self.least_updates}, 0)
        if self.labels and self.loss.labels == "hard":
            raise UserError(
                f"labels: the loss '{self.loss.name}' compares with the classes alone; choose another `loss`,"
                " such as {name: distillation, temperature: 20}, or leave `labels` out"
            )
        if self.clip is not None and not 0 < self.clip <= 1e30:
            raise UserError(f"clip: must lie above 0, found {self.clip:g}; leave it out for none")
        if self.schedule.warmup > self.epochs:
            raise UserError(
                f"schedule: warmup: must be at most the {self.epochs} epochs, found {self.schedule.warmup}"
            )

    def require_resolved(self) -> None:
        """Raises UserError for settings that depend on the set that is judged, where there is none: by such a
        protocol no network is trained beforehand."""
        for name in ("overrides", "of_arch"):
            if getattr(self, name):
                raise UserError(
                    f"protocol {self.name}: {name}: these are changes for sets that are judged; networks "
                    "that are trained beforehand need a protocol without"
                )

    @property
    def mixed_by(self) -> AnyMixing | None:
        """How the images of a batch are mixed."""
        return CutMix("cutmix", self.cutmix) if self.cutmix else self.mixing

    def told(self) -> dict[str, Any]:
        """All settings as plain values, as metrics hold them; see `training.told`."""
        return told(self)

    def computed_part(self) -> dict[str, Any]:
        """The settings that decide what a network becomes; they enter keys."""
        return dict(self._computed)

    @cached_property
    def _computed(self) -> dict[str, Any]:
        """Reckoned once: every evaluation by the protocol asks for it, for its key."""
        return {name: value for name, value in self.told().items() if name not in ("title", "source")}

    def operations_of(self, strategy: str) -> str:
        """The augmentation of a dataset whose own is `strategy`."""
        if self.augment == "none":
            return "none"
        return cut_to(self.siamese, strategy) if self.siamese else strategy

    def epochs_of_schedule(self, images: int) -> int:
        """The epochs, or more where a set of so many images would give fewer updates than `least_updates`."""
        return max(self.epochs, math.ceil(self.least_updates / math.ceil(images / self.batch)))

    @property
    def observers(self) -> dict[str, TeacherNeed]:
        """By name the classifiers that have to be there before it judges; see `ObserverLabels.named`."""
        return self.labels.named if self.labels else {}

    @property
    def stores_labels(self) -> bool:
        """Whether its observers label a set beforehand, which they cannot do of the whole training set."""
        return self.labels is not None and self.labels.stored

    @property
    def labels_from(self) -> str:
        """Which labels networks learn from, in a word or two."""
        return self.labels.told if self.labels else self.loss.labels

    def labelled_anew(self) -> Protocol:
        """The same protocol with observers that label every batch as it comes, whether or not it stores what
        they give."""
        return replace(self, labels=replace(self.labels, stored=False, top=None)) if self.labels else self

    def observing_work(
        self, observers: Sequence[Profile], count: int, epochs: int, on_gpu: bool = False
    ) -> Work:
        """The work of observers, all held at once, that label the batches of so many epochs of `count`
        images."""
        copies, batch = 1 if on_gpu else 1 + fitting.WINDOWS, min(self.batch, count)
        return Work(
            flops_forward=epochs * count * sum(network.forward for network in observers),
            calls_forward=epochs
            * math.ceil(count / self.batch)
            * sum(network.layers for network in observers),
            peak_bytes=FLOAT
            * sum(copies * network.parameters + 3 * batch * network.largest for network in observers),
        )

    def label_bytes(self, images: int, classes: int) -> int:
        """The bytes of the labels that a network trained on so many images learns from, where these are not
        the set's; see `ObserverLabels.stored_bytes`."""
        return self.labels.stored_bytes(number_of_epochs(self, images), images, classes) if self.labels else 0

    @property
    def copies_held(self) -> int:
        """How often training holds the parameters."""
        return fitting.COPIES + self.optimizer.further_copies + (self.average is not None)

    @property
    def trains_together(self) -> bool:
        """Whether several networks can be trained at once: each batch under one operation, unmixed and
        without views, with labels that the set has, a rate that no loss decides, and no gradient clipped,
        whose norm would be that of all networks."""
        alone = self.mixed_by or self.views or self.labels or self.clip is not None or self.schedule.adapts
        return not alone and self.augment != "all"

    def training_work(
        self,
        network: Profile,
        data: Sizes,
        count: int,
        networks: int,
        judged: int,
        together: int = 1,
        on_gpu: bool = False,
        runs: int | None = None,
    ) -> Work:
        """The work of training `networks` networks on `count` images, so many `together`, and of testing them
        on `judged`.

        `runs`: trainings, each of at most so many networks `together`; None: one for each network. One call
        of a layer serves all of them, and one of an operation all that have drawn it. A backward pass costs
        twice a forward one. Layers in bfloat16 keep what goes in in both types.
        """
        runs = networks if runs is None else runs
        operations = self.operations_of(data.strategy)
        augmented = runs * _different(len(operations.split("_")), networks / max(1, runs))
        tested = fitting.test_batch("cuda" if on_gpu else "cpu", together)
        epochs, batches = number_of_epochs(self, count), math.ceil(count / self.batch)
        plain = operations == "none" and not self.views
        held = (data.train + data.test) * pixels_of(data) + count * pixels_of(data) * FLOAT
        kept = network.kept * (_BOTH_TYPES if on_gpu and self.precision == "mixed" else 1)
        training = together * (
            min(self.batch, count) * (kept + 3 * network.largest) + self.copies_held * network.parameters
        )
        testing = 3 * together * min(tested, judged) * network.largest
        return Work(
            flops_forward=networks * judged * network.forward,
            flops_training=networks * epochs * count * 3 * network.forward,
            calls_forward=runs * math.ceil(judged / tested) * network.layers,
            calls_training=runs * epochs * batches * network.layers,
            parameters_drawn=networks * network.parameters,
            draws=0 if plain else augmented * epochs * batches,
            images=0 if plain else networks * epochs * count,
            peak_bytes=held + math.ceil(max(training, testing)) * FLOAT,
            host_bytes=(data.train + data.test) * pixels_of(data),
        )


def _different(operations: int, networks: float) -> float:
    """How many of so many operations, equally likely, so many networks draw for a batch, on average."""
    return 1.0 if networks <= 1 else operations * (1 - (1 - 1 / operations) ** networks)


def number_of_epochs(protocol: Protocol, images: int) -> int:
    """Epochs that are run on so many images: the DC schedule counts from 0 to `epochs` inclusive. Raises
    UserError for a protocol with changes that nobody has laid over it."""
    protocol.require_resolved()
    return protocol.epochs_of_schedule(images) + protocol.schedule.further_epochs
