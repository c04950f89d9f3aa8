"""What the YAML files under `params/` may say: recipes, protocols, scales, table and figure specs.

Floor 0. Names that become functions elsewhere (terms, selections, inits) are listed here, so that a misspelt one is
refused before any job starts; a test compares these lists with the registries of the floors above.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from condense.config import UserError, unknown

TERMS = ("mean", "energy_distance", "diversity", "classifier_critic", "prediction_kl", "clip_critic")
TEACHER_TERMS = ("classifier_critic", "prediction_kl")  # these ask for a classifier pretrained on the whole training set
ENGINES = ("matching", "select", "whole")
STAGES = ("data", "teach", "synthesize", "evaluate", "report")  # of the workflow, as a scale names their resources
SELECTIONS = ("random", "herding", "k_center", "forgetting")
AUGMENTATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def groups_of(strategy: str) -> list[str]:
    """The operation groups of a siamese strategy: 'color_crop' -> ['color', 'crop']; 'none' and '' -> []."""
    return [] if strategy in ("none", "") else strategy.split("_")


def _at_least(numbers: dict[str, int | None], least: int) -> None:
    for name, value in numbers.items():
        if value is not None and value < least:
            raise UserError(f"{name}: must be at least {least}, found {value}")


@dataclass(frozen=True)
class Source:
    """Where a method, protocol or number comes from."""

    paper: str
    equation: str = ""
    note: str = ""


@dataclass(frozen=True)
class Weight:
    """A weight that changes over the steps; `start` is its value at step 0."""

    schedule: Literal["linear_decay"]
    start: float = 1.0


@dataclass(frozen=True)
class Term:
    """One term of an objective. `sees` says whether it is shown the synthetic images plain or after the siamese augmentation."""

    name: Literal[TERMS]  # type: ignore[valid-type]
    of: Literal["embedding"] = "embedding"
    weight: float | Weight = 1.0
    sees: Literal["plain", "augmented"] = "augmented"


@dataclass(frozen=True)
class Optimizer:
    """`lr` is per step; for images in units of normalised pixels. `weight_decay` is the L2 penalty added to the gradient."""

    lr: float
    name: Literal["sgd"] = "sgd"
    momentum: float = 0.5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.lr <= 0 or not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise UserError("optimizer: lr must be above 0, momentum in [0, 1), weight_decay not negative")


@dataclass(frozen=True)
class Networks:
    """Where the embedding networks come from: `random` draws a freshly initialised one for every step."""

    kind: Literal["random"] = "random"


@dataclass(frozen=True)
class QueueNetworks:
    """A queue of networks trained on real images, of which every step uses one. Source: IDM (Zhao et al. 2023), algorithm 1.

    The defaults are those of the authors' code. The printed algorithm is `{push_every: 1, trained: sampled}`. A step pushes a new
    network where `push_every` divides its number, taking the oldest out of a queue that holds `largest`; one network is then sampled
    for matching; then `trained` others, drawn anew and each at most once (or the sampled one), take `train_steps` steps of `batch`
    images without augmentation, each with a momentum of its own. The running training accuracy of a network starts anew after
    every `accuracy_over` steps (0: never), as in that code at every evaluation.
    """

    kind: Literal["queue"]
    start: int = 3
    push_every: int = 30
    largest: int = 100
    trained: int | Literal["sampled"] = 2
    train_steps: int = 10
    batch: int = 256
    optimizer: Optimizer = Optimizer(lr=0.01, momentum=0.9, weight_decay=5e-4)
    accuracy_over: int = 100

    def __post_init__(self) -> None:
        least_one = ("push_every", "largest", "train_steps", "batch")
        _at_least({name: getattr(self, name) for name in least_one}, 1)
        _at_least({"start": self.start, "accuracy_over": self.accuracy_over}, 0)
        _at_least({"trained": self.trained if isinstance(self.trained, int) else None}, 0)
        if self.start > self.largest:
            raise UserError(f"start: at most 'largest', which is {self.largest}, found {self.start}")


@dataclass(frozen=True)
class Augment:
    """`siamese`: operation groups of the differentiable siamese augmentation, joined by '_', or 'none'."""

    siamese: str = "color_crop_cutout_flip_scale_rotate"

    def __post_init__(self) -> None:
        for group in groups_of(self.siamese):
            if group not in AUGMENTATIONS:
                raise unknown("operation", group, AUGMENTATIONS, "augment: siamese")


@dataclass(frozen=True)
class TeacherNeed:
    """The pretrained classifier a recipe uses: its training protocol, and its architecture if not the condensing one."""

    protocol: str
    arch: str | None = None


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
    init: Literal["real", "noise"] = "real"
    networks: Networks | QueueNetworks = Networks()
    augment: Augment = Augment()
    terms: list[Term] = field(default_factory=list)
    optimizer: Optimizer = Optimizer(lr=1.0)
    steps: int = 20000
    batch_real: int = 256
    labels: Literal["hard"] = "hard"
    precision: Literal["fp32", "mixed", "bf16"] = "mixed"  # mixed: the real side, which has no gradient, in bfloat16
    couples: list[Literal["classes"]] = field(default_factory=list)
    selection: Literal[SELECTIONS] | None = None  # type: ignore[valid-type]
    teacher: TeacherNeed | None = None
    requires: Literal["clip"] | None = None
    snapshots: int = 0  # also keep the set every so many steps, for curves over the steps; 0 keeps none
    evaluation: dict[str, Any] = field(default_factory=dict)  # changes to the evaluation protocol
    overrides: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.engine == "matching" and not self.terms:
            raise UserError("terms: a matching recipe needs at least one")
        if (self.engine == "select") != (self.selection is not None):
            raise UserError("selection: to be given exactly for 'engine: select'")
        needs = self.engine == "matching" and any(term.name in TEACHER_TERMS for term in self.terms)
        needs = needs or self.selection in ("herding", "k_center", "forgetting")
        if needs != (self.teacher is not None):
            raise UserError(f"teacher: {'is needed by its terms or selection' if needs else 'nothing in this recipe uses it'}")
        _at_least({"steps": self.steps, "batch_real": self.batch_real}, 1)
        _at_least({"snapshots": self.snapshots}, 0)

    @property
    def stream(self) -> dict[str, Any]:
        """What decides the real side of every step: recipes that agree in it, on the same data, network and seed, can share it."""
        return {name: getattr(self, name) for name in ("engine", "networks", "augment", "batch_real", "precision")}


@dataclass(frozen=True)
class Schedule:
    """Learning rate over epochs. `dc`: the rate drops by `factor`, and momentum restarts, after epoch N/2 + 1 of 0..N.

    `step`: times `factor` at each fraction of the epochs in `at`. `constant`: unchanged.
    """

    kind: Literal["dc", "step", "constant"]
    at: list[float] = field(default_factory=list)
    factor: float = 0.1


@dataclass(frozen=True)
class Protocol:
    """How a network is trained and judged. See `params/protocols/`."""

    name: str
    title: str
    source: Source
    epochs: int
    batch: int
    optimizer: Optimizer
    schedule: Schedule
    augment: Literal["dataset", "none"] = "dataset"
    precision: Literal["fp32", "mixed"] = "mixed"  # mixed: layers in bfloat16, weights, their steps and the logits in float32
    least_updates: int = 0  # on a small set the epochs are raised until there are so many updates

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.least_updates < 0:
            raise UserError("epochs and batch must be at least 1, least_updates not negative")


@dataclass(frozen=True)
class Resources:
    """What one job of a stage asks for: threads, GPUs, memory in MB, run time in minutes."""

    threads: int = 1
    gpu: int = 0
    mem_mb: int = 3000
    runtime: int = 60

    def __post_init__(self) -> None:
        _at_least({"threads": self.threads, "mem_mb": self.mem_mb, "runtime": self.runtime}, 1)
        _at_least({"gpu": self.gpu}, 0)


@dataclass(frozen=True)
class TableLimits:
    """What a scale runs of one table or figure; an empty key means the scale's own value."""

    ipc: list[int] | None = None
    n_sets: int | None = None
    n_networks: int | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    run: bool = True

    def __post_init__(self) -> None:
        _at_least({"n_sets": self.n_sets, "n_networks": self.n_networks, "ipc": min(self.ipc or [1])}, 1)


@dataclass(frozen=True)
class Scale:
    """How much of the papers' work is done: on which data, with how many steps, epochs, sets and networks."""

    name: str
    title: str
    n_sets: int
    n_networks: int
    datasets: dict[str, list[str]]  # the papers' dataset -> the datasets its rows are run on here
    ipc: list[int] | None = None
    recipes: dict[str, dict[str, Any]] = field(default_factory=dict)  # by engine or method; the engine's come first
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)  # changes to the protocol for training on the whole set
    architectures: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, TableLimits] = field(default_factory=dict)  # "paper/table"; others run unless `only_tables`
    only_tables: bool = False
    methods: list[str] | None = None
    classes_per_job: int | None = None
    classes_per_job_of: dict[str, int] = field(default_factory=dict)  # by method, where it differs
    networks_per_job: dict[str, int] = field(default_factory=dict)  # of an evaluation, by "architecture" or "architecture/dataset"
    sets_per_job: int = 1  # at most; sets that share the real side of every step are condensed together
    resources: dict[str, Resources] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        _at_least({"n_sets": self.n_sets, "n_networks": self.n_networks, "ipc": min(self.ipc or [1])}, 1)
        _at_least({"classes_per_job": self.classes_per_job, "sets_per_job": self.sets_per_job}, 1)
        _at_least({f"classes_per_job_of: {name}": number for name, number in self.classes_per_job_of.items()}, 1)
        _at_least({f"networks_per_job: {name}": number for name, number in self.networks_per_job.items()}, 1)


@dataclass(frozen=True)
class TableSpec:
    """A table of a paper: which published rows it shows and how their settings change a recipe."""

    kind: Literal["table"]
    paper: str
    table: str
    title: str
    protocol: str = "dc"
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)  # published `setting` -> change of the recipe
    note: str = ""

    @property
    def name(self) -> str:
        return f"table{self.table}"


@dataclass(frozen=True)
class FigureSpec:
    """A figure of a paper, drawn from the cells of `methods` x `ipc` on the papers' `dataset`."""

    kind: Literal["figure"]
    paper: str
    figure: str
    title: str
    draw: Literal["accuracy_by_ipc", "accuracy_by_step", "embedding_map", "images"]
    dataset: str
    methods: list[str]
    ipc: list[int]
    train_arch: str = "convnet"
    eval_arch: str = "convnet"
    protocol: str = "dc"
    changes: dict[str, Any] = field(default_factory=dict)
    classes: list[int] = field(default_factory=list)  # classes shown by an embedding map
    feature_arch: str | None = None  # the network trained on the real set whose features an embedding map shows
    note: str = ""

    @property
    def name(self) -> str:
        return f"figure{self.figure}"
