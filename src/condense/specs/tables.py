"""Tables and figures: what they show, and how they change a recipe for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args, get_type_hints

from condense.config import UserError, unknown
from condense.specs.common import at_least, check_name, check_names, unused
from condense.specs.own_rows import OwnRows
from condense.specs.points import Point, check_points
from condense.specs.protocol import DEFAULT_PROTOCOL
from condense.specs.settings import SettingsSpec
from condense.specs.tasks import DEFAULT_TASK, AnyTask, Drift, Snapshots, Task


@dataclass(frozen=True)
class PrintedRows:
    """Rows of `params/published/results.csv` by what its columns say; `ipc`: images a class of those that do
    not say how many."""

    paper: str
    table: str
    task: str
    metric: str
    ipc: int | None = None

    def __post_init__(self) -> None:
        named = ("paper", "table", "task", "metric")
        check_names({key: getattr(self, key) for key in named})
        at_least({"ipc": self.ipc}, 1)

    def found_in(self, rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
        """Those of `rows` that are asked for. Raises UserError if there are none."""
        named = ("paper", "table", "task", "metric")
        found = [row for row in rows if all(row[key] == getattr(self, key) for key in named)]
        if not found:
            raise UserError(f"printed: no row of params/published/results.csv is of {self}")
        return [row if row["ipc"] or self.ipc is None else row | {"ipc": str(self.ipc)} for row in found]


@dataclass(frozen=True)
class OnDataset:
    """How the rows of one published dataset are judged: by a protocol of its own in place of the table's, by
    which of our architectures those are that the paper names, and by which protocols its methods were; and
    which of our datasets it is, where that of its name is another, as at another size."""

    data: str = ""
    protocol: str = ""
    archs: dict[str, str] = field(default_factory=dict)  # as published rows have it -> ours
    judges: dict[str, str] = field(default_factory=dict)  # as those of the table, and before them

    def __post_init__(self) -> None:
        for name in (self.data, self.protocol, *self.archs.values(), *self.judges, *self.judges.values()):
            if name:
                check_name("by_dataset", name)
        if not (self.data or self.protocol or self.archs or self.judges):
            raise UserError(
                "by_dataset: neither data nor a protocol nor archs nor judges; leave the dataset out"
            )


@dataclass(frozen=True)
class TableSpec:
    """A table of a paper: which published rows it shows, how their settings change a recipe, and which task
    fills them."""

    kind: Literal["table"]
    paper: str
    table: str
    title: str
    protocol: str = DEFAULT_PROTOCOL
    # method -> the protocol that its published rows had, under which it is judged beside `protocol`
    judges: dict[str, str] = field(default_factory=dict)
    # published `setting` -> change of the recipe
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    # published dataset -> how its rows are judged, where that is another way
    by_dataset: dict[str, OnDataset] = field(default_factory=dict)
    task: AnyTask = DEFAULT_TASK
    # the further sets of the task by name: the methods that make them
    sets: dict[str, str] = field(default_factory=dict)
    # published `setting` -> the task that measures its rows, in place of `task`
    tasks: dict[str, AnyTask] = field(default_factory=dict)
    # beside the rows of its own paper and number: those that stand elsewhere, as in the text of papers
    printed: list[PrintedRows] = field(default_factory=list)
    # published `metric` -> the metric of the task that fills its rows, where another one is called so
    metrics: dict[str, str] = field(default_factory=dict)
    # published `metric`, or `setting` -> why its rows stay empty
    not_measured: dict[str, str] = field(default_factory=dict)
    # in place of published rows: those of a comparison of one's own
    rows: list[OwnRows] = field(default_factory=list)
    note: str = ""

    def __post_init__(self) -> None:
        check_names(
            {"paper": self.paper, "table": self.table, "protocol": self.protocol, "sets": self.sets.values()}
            | {"judges": [*self.judges, *self.judges.values()]}
        )
        for method, judge in self.judges.items():
            if judge == self.protocol:
                raise UserError(
                    f"judges: {method}: '{judge}' judges all rows of the table already; leave it out"
                )
        for task in (self.task, *self.tasks.values()):
            task.check_further(list(self.sets))
            for name in self.metrics.values():
                if name not in task.numbers():
                    raise unknown("metric", name, task.numbers(), f"metrics: task {task.kind}")
            if task.over_steps and not task.last_counts and all(map(task.is_curve, task.metrics)):
                raise UserError(
                    f"task: '{task.kind}' gives curves over steps, for which a row has no place; draw a "
                    "figure of them"
                )

    @property
    def name(self) -> str:
        return f"table{self.table}"

    def task_of(self, setting: str) -> Task:
        """The task that measures the rows of a published setting."""
        return self.tasks.get(setting, self.task)

    def data_on(self, dataset: str) -> str:
        """Our dataset that a published one is."""
        found = self.by_dataset.get(dataset)
        return found.data or dataset if found else dataset

    def protocol_on(self, dataset: str) -> str:
        """The protocol by which the rows of a published dataset are judged."""
        found = self.by_dataset.get(dataset)
        return found.protocol or self.protocol if found else self.protocol

    def judge_on(self, dataset: str, method: str) -> str:
        """The protocol that the published rows of a method on a dataset had; '' where none is named."""
        found = self.by_dataset.get(dataset)
        own = found.judges.get(method, "") if found else ""
        return own or self.judges.get(method, "")

    def arch_on(self, dataset: str, arch: str) -> str:
        """Our name of an architecture that the rows of a published dataset name."""
        found = self.by_dataset.get(dataset)
        return found.archs.get(arch, arch) if found else arch


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


AnyTable: TypeAlias = TableSpec | FigureSpec | SettingsSpec
# what a file of `params/tables` says as its `kind` -> what it is read as
KINDS_OF_TABLES = {get_args(get_type_hints(shape)["kind"])[0]: shape for shape in get_args(AnyTable)}
