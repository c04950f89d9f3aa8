"""Figures: what they are drawn from, and what each kind of drawing has to be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from condense.config import UserError, unknown
from condense.specs.common import at_least, check_name, check_names, unused
from condense.specs.points import Point, check_points
from condense.specs.protocol import DEFAULT_PROTOCOL
from condense.specs.tasks import DEFAULT_TASK, AnyTask, Drift, Snapshots, Task


@dataclass(frozen=True)
class StyleDrift:
    """Networks are trained on sets of the figure's methods with the style of their images drifted towards
    those of the method `toward`.

    `ratios`: from 0, no drift, to 1. `stage`: of the network, counted from 1, whose maps drift.
    """

    toward: str
    ratios: list[float]
    stage: int = 1

    def __post_init__(self) -> None:
        check_name("drift: toward", self.toward)
        at_least({"stage": self.stage}, 1, 1000)
        if not self.ratios or not all(0 <= ratio <= 1 for ratio in self.ratios):
            raise UserError(f"ratios: numbers from 0 to 1 are needed, found {self.ratios}")


Drawing = Literal[
    "accuracy_by_classes",
    "accuracy_by_ipc",
    "accuracy_by_step",
    "accuracy_by_setting",
    "accuracy_by_drift",
    "accuracy_by_removed",
    "accuracy_by_seconds",
    "consistency",
    "discrepancy_by_accuracy",
    "distribution",
    "embedding_map",
    "images",
    "landscape",
    "metric_by_step",
    "mixture_by_forms",
    "rates_by_epoch",
    "texture",
]
# tasks, each with the methods that make its further sets, by the names that it gives them
Judged = list[tuple[Task, dict[str, str]]]


@dataclass(frozen=True)
class Shown:
    """What a kind of figure has to be told, and nothing else of what some have to be; and the tasks whose
    metrics it is drawn from."""

    needs: tuple[str, ...] = ()
    judged: Callable[[FigureSpec], Judged] = lambda spec: []
    features: bool = False  # whether it shows features, of the setting of this name
    computed: bool = False  # whether it is drawn of no set, but of what it computes itself
    # what the curves of the figure's own `task` are over; '': it gives one value for each network
    along: Literal["", "steps", "classes", "grid", "percents"] = ""


def _drifting(spec: FigureSpec) -> Judged:
    drift = spec.drift
    return (
        [(Drift(ratio=ratio, stage=drift.stage), {"style": drift.toward}) for ratio in drift.ratios]
        if drift
        else []
    )


def _own_task(spec: FigureSpec) -> Judged:
    return [(spec.task, {})] if spec.task else []


_ALONG = {
    "steps": "the steps of the condensation",
    "classes": "the steps in which classes come",
    "grid": "the points of a square",
    "percents": "shares in percent",
}


def _beside_accuracy(spec: FigureSpec) -> Judged:
    return [(DEFAULT_TASK, {}), *_own_task(spec)]


# By what a figure's `draw` says; `report.figures.DRAW` has a function of each name.
DRAWINGS: dict[Drawing, Shown] = {
    "accuracy_by_classes": Shown(("task",), judged=_own_task, along="classes"),
    "accuracy_by_ipc": Shown(judged=lambda spec: [(DEFAULT_TASK, {})]),
    "accuracy_by_step": Shown(judged=lambda spec: [(Snapshots(), {})]),
    "accuracy_by_setting": Shown(("points",), judged=lambda spec: [(DEFAULT_TASK, {})]),
    "accuracy_by_drift": Shown(("drift",), judged=_drifting),
    "accuracy_by_removed": Shown(("task",), judged=_own_task, along="percents"),
    "accuracy_by_seconds": Shown(judged=lambda spec: [(DEFAULT_TASK, {})]),
    "consistency": Shown(("feature_arch", "neighbours")),
    "discrepancy_by_accuracy": Shown(("task",), judged=_beside_accuracy),
    "distribution": Shown(("task",), judged=_own_task),
    "embedding_map": Shown(("feature_arch", "classes"), features=True),
    "images": Shown(),
    "landscape": Shown(("task",), judged=_own_task, along="grid"),
    "metric_by_step": Shown(("task",), judged=_own_task, along="steps"),
    "mixture_by_forms": Shown(computed=True),
    "rates_by_epoch": Shown(computed=True),
    "texture": Shown(("classes",)),
}


@dataclass(frozen=True)
class FigureSpec:
    """A figure of a paper, drawn from the cells of `methods` x `ipc` on the papers' `dataset`.

    `accuracy_by_setting` compares `points`, one panel for each dataset and ipc; `x_label` and `log` are of
    its x axis. `task` is what a figure of no plain accuracy shows. `networks`: how many each set is judged
    by, where the scale says nothing of this figure (None: those of the scale); a plain accuracy beside its
    task is always of those of the scale.
    """

    kind: Literal["figure"]
    paper: str
    figure: str
    title: str
    draw: Drawing
    dataset: str = ""  # this, methods and ipc: of all figures but those that are drawn of no set
    methods: list[str] = field(default_factory=list)
    ipc: list[int] = field(default_factory=list)
    train_arch: str = "convnet"
    eval_arch: str = "convnet"
    protocol: str = DEFAULT_PROTOCOL
    changes: dict[str, Any] = field(default_factory=dict)
    # those of single methods, laid over `changes`
    changes_of: dict[str, dict[str, Any]] = field(default_factory=dict)
    # classes shown by an embedding map, or whose texture is measured
    classes: list[int] = field(default_factory=list)
    # the network trained on the real set whose features are shown or compared
    feature_arch: str | None = None
    # style: means and variances of its first stage's channels
    features: Literal["embedding", "style"] = "embedding"
    # numbers of nearest real images, for the consistency ratio
    neighbours: list[int] = field(default_factory=list)
    drift: StyleDrift | None = None
    task: AnyTask | None = None
    networks: int | None = None
    points: list[Point] = field(default_factory=list)
    x_label: str = ""
    log: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        named = (
            "paper",
            "figure",
            "dataset",
            "methods",
            "train_arch",
            "eval_arch",
            "feature_arch",
            "protocol",
        )
        check_names({key: getattr(self, key) or None for key in named})
        for key, least in (("ipc", 1), ("classes", 0), ("neighbours", 1)):
            for number in getattr(self, key):
                at_least({key: number}, least)
        if DRAWINGS[self.draw].computed:
            unused(self, ("dataset", "methods", "ipc"), f"'draw: {self.draw}' shows no set")
        elif not self.methods or not self.ipc or not self.dataset:
            raise UserError("dataset, methods, ipc: at least one of each is needed")
        for name in dict.fromkeys(name for drawing in DRAWINGS.values() for name in drawing.needs):
            if bool(getattr(self, name)) != (name in DRAWINGS[self.draw].needs):
                kinds = [kind for kind, drawing in DRAWINGS.items() if name in drawing.needs]
                if name in DRAWINGS[self.draw].needs:
                    raise UserError(f"{name}: is needed for 'draw: {self.draw}'")
                raise UserError(f"{name}: only 'draw: {' or '.join(kinds)}' shows them; leave it out")
        for name in self.changes_of:
            if name not in self.methods:
                raise unknown("method", name, self.methods, "changes_of")
        at_least({"networks": self.networks}, 1)
        if self.networks and not self.judged:
            raise UserError("networks: this figure is drawn of sets and judges none; leave it out")
        if self.task and (self.task.steps_are if self.task.over_steps else "") != DRAWINGS[self.draw].along:
            along = DRAWINGS[self.draw].along
            wanted = f"curves over {_ALONG[along]}" if along else "single values of networks"
            raise UserError(
                f"task: 'draw: {self.draw}' shows {wanted}, which '{self.task.kind}' does not give"
            )
        if self.task:
            self.task.check_further([], "task")
        if self.points:
            check_points(self.points, self.methods, self.log)
        else:
            unused(self, ("x_label", "log"), "only 'draw: accuracy_by_setting' has such an axis")
        if not DRAWINGS[self.draw].features:
            showing = " or ".join(f"'draw: {kind}'" for kind, shown in DRAWINGS.items() if shown.features)
            unused(self, ("features",), f"only {showing} shows features")

    @property
    def name(self) -> str:
        return f"figure{self.figure}"

    @property
    def computed(self) -> bool:
        """Whether it is drawn of no set, but of what it computes itself."""
        return DRAWINGS[self.draw].computed

    @property
    def judged(self) -> Judged:
        """The tasks that every set of the figure is asked for; none where sets themselves are drawn."""
        return DRAWINGS[self.draw].judged(self)

    @property
    def further(self) -> list[str]:
        """The methods that make the further sets of its tasks."""
        return list(dict.fromkeys(method for _, sets in self.judged for method in sets.values()))

    @property
    def lines(self) -> list[tuple[str, Point | None]]:
        """What is drawn at every ipc: (method, point) for every point, else every method."""
        if self.points:
            return [(point.method or self.methods[0], point) for point in self.points]
        return [(method, None) for method in self.methods]
