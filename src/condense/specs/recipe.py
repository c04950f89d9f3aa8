"""A recipe: how to condense."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from condense.config import UserError, labels_of
from condense.specs.common import REPEATS, Optimizer, Source, at_least, check_groups, check_name, check_names
from condense.specs.networks import AnyNetworks, Networks, QueueNetworks, TrainedNetworks
from condense.specs.terms import PAIR_TERMS, TEACHER_TERMS, AnyTerm, CrossEntropy, couples

ENGINES = ("matching", "select", "whole")
SELECTIONS = ("random", "herding", "k_center", "forgetting", "minimum_covering")
TEACHER_SELECTIONS = ("herding", "k_center", "forgetting", "minimum_covering")  # these ask for a trained classifier


@dataclass(frozen=True)
class Decode:
    """How a stored image becomes several of full size: `factor` x `factor` cells, each enlarged.

    `order`: cells by rows or by columns.
    """

    factor: int = 2
    order: Literal["rows", "columns"] = "rows"

    def __post_init__(self) -> None:
        at_least({"factor": self.factor}, 1, 64)


@dataclass(frozen=True)
class Augment:
    """`siamese`: operation groups of the differentiable siamese augmentation, joined by '_', or 'none'.

    `mode`: every draw takes one of them, or `all` in IDC's way: flip and color, one of those that move the image, and cutout.
    """

    siamese: str = "color_crop_cutout_flip_scale_rotate"
    mode: Literal["one", "all"] = "one"

    def __post_init__(self) -> None:
        check_groups(self.siamese, "augment: siamese")


@dataclass(frozen=True)
class TeacherNeed:
    """The pretrained classifier a recipe uses: its training protocol, and its architecture if not the condensing one."""

    protocol: str
    arch: str | None = None

    def __post_init__(self) -> None:
        check_names({"teacher: protocol": self.protocol, "teacher: arch": self.arch})


@dataclass(frozen=True)
class Covering:
    """How `minimum_covering` chooses centres: among `candidates` images of a class, or among `all`, which gives the best of all.

    `all` is refused for a class of more than `largest` images, whose programme might not end. `nodes` limits every programme.
    """

    candidates: int | Literal["all"] = "all"
    largest: int = 500
    nodes: int = 100_000

    def __post_init__(self) -> None:
        at_least({"candidates": self.candidates if isinstance(self.candidates, int) else None}, 1)
        at_least({"largest": self.largest, "nodes": self.nodes}, 1)


@dataclass(frozen=True)
class Recipe:
    """How to condense. See `params/methods/`; `resolve` lays overrides, scale and cell over it."""

    name: str
    title: str
    source: Source
    engine: Literal[ENGINES]  # type: ignore[valid-type]
    revision: int = 1
    discrepancy: Literal["generalization", "value", "parameter", "distribution", "selection", "none"] = "none"
    space: Literal["data", "model", "none"] = "data"
    tricks: list[str] = field(default_factory=list)
    init: Literal["real", "noise", "mosaic", "mosaic_nearest"] = "real"
    decode: Decode | None = None
    optimised: Literal["normalised", "pixels"] = "normalised"  # what the optimiser moves
    clip: bool = False  # pixels are brought back into [0, 1] at the start of every step
    networks: AnyNetworks = Networks()
    augment: Augment = Augment()
    terms: list[AnyTerm] = field(default_factory=list)
    optimizer: Optimizer = Optimizer(lr=1.0)
    steps: int = 20000
    averaging: int | None = None  # eta of the polynomial-decay mean of the images over the steps (None: the last images)
    batch_real: int = 256
    labels: Literal["hard"] = "hard"
    precision: Literal["fp32", "mixed", "bf16"] = "mixed"  # mixed: the real side, which has no gradient, in bfloat16
    couples: list[Literal["classes"]] = field(default_factory=list)
    selection: Literal[SELECTIONS] | None = None  # type: ignore[valid-type]
    covering: Covering | None = None
    teacher: TeacherNeed | None = None
    requires: Literal["clip"] | None = None
    snapshots: int = 0  # also keep the set every so many steps, for curves over the steps; 0 keeps none
    evaluation: dict[str, Any] = field(default_factory=dict)  # changes to the evaluation protocol
    overrides: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if self.engine == "matching" and not self.terms:
            raise UserError("terms: a matching recipe needs at least one")
        if (self.engine == "select") != (self.selection is not None):
            raise UserError("selection: to be given exactly for 'engine: select'")
        if (self.selection == "minimum_covering") != (self.covering is not None):
            raise UserError("covering: to be given exactly for 'selection: minimum_covering'")
        needs = self.engine == "matching" and any(term.name in TEACHER_TERMS for term in self.terms)
        needs = needs or self.selection in TEACHER_SELECTIONS
        if needs != (self.teacher is not None):
            raise UserError(f"teacher: {'is needed by its terms or selection' if needs else 'nothing in this recipe uses it'}")
        if self.init.startswith("mosaic") and self.decode is None:
            raise UserError("init: a mosaic has the cells of `decode`, which is not given")
        if {"classes"} - set(self.couples) and (self.optimizer.plateau or any(couples(term) for term in self.terms)):
            raise UserError("couples: 'classes' is needed: a term, or the plateau of the optimizer, looks at all classes at once")
        if self.engine == "matching":
            self._check_networks()
        at_least({"steps": self.steps, "batch_real": self.batch_real}, 1)
        at_least({"snapshots": self.snapshots, "averaging": self.averaging}, 0)
        at_least({"revision": self.revision}, 0, REPEATS)

    def _check_networks(self) -> None:
        names, networks = {term.name for term in self.terms}, self.networks
        single = isinstance(networks, QueueNetworks) or (isinstance(networks, TrainedNetworks) and networks.count < 2)
        if single and names & set(PAIR_TERMS):
            raise UserError("networks: a term compares two networks a step, which a queue does not give, nor a bank of a single network")
        if "barycentre" in names and not (isinstance(networks, TrainedNetworks) and networks.count == 1 and not networks.mixed):
            raise UserError("networks: 'barycentre' needs one and the same network at all steps: {kind: trained, count: 1, mixed: false}")
        for term in self.terms:
            if isinstance(term, CrossEntropy) and term.by_accuracy and not isinstance(networks, QueueNetworks):
                raise UserError("networks: 'cross_entropy' by accuracy needs networks that are trained as it goes: {kind: queue}")
            if isinstance(term, CrossEntropy) and term.under == "trained" and not isinstance(networks, TrainedNetworks):
                raise UserError("networks: 'cross_entropy' under the trained network needs one beside the step's: {kind: trained}")

    def starts_from(self, ipc: int) -> int:
        """How many real images of a class `ipc` synthetic ones start from: a mosaic has one in each cell."""
        return ipc * (self.decode.factor**2 if self.decode and self.init.startswith("mosaic") else 1)

    def check_pairs(self, ipc: int) -> None:
        """Raises UserError if a term pairs more synthetic images of a class with real ones than a batch has."""
        if ipc > self.batch_real and any(term.name == "prediction_kl" for term in self.terms):
            raise UserError(
                f"{self.name}: 'prediction_kl' pairs every synthetic image with a real one, but ipc is {ipc} and batch_real only"
                f" {self.batch_real}: raise batch_real to at least {ipc} in the recipe or the scale"
            )

    def asked(self, ipc: int | str) -> str:
        """What is asked for by `ipc`, in words, for those who have fewer images."""
        start = ipc if ipc == "full" else self.starts_from(int(ipc))
        return f"ipc {ipc} asked for" + (f", which starts from {start} real images a class" if start != ipc else "")

    @property
    def term_labels(self) -> list[str]:
        """What the terms are called where each of them needs a name of its own, such as in histories; see `labels_of`."""
        return labels_of([term.name for term in self.terms])

    @property
    def stream(self) -> dict[str, Any]:
        """What decides the real side of every step: recipes that agree in it, on the same data, network and seed, can share it."""
        return {name: getattr(self, name) for name in ("engine", "networks", "augment", "batch_real", "precision")}
