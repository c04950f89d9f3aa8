"""Tables: which published rows they show, and how they change a recipe for it; and all kinds of files of
`params/tables`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args, get_type_hints

from condense.config import UserError, unknown
from condense.specs.common import at_least, check_name, check_names
from condense.specs.figures import FigureSpec
from condense.specs.own_rows import OwnRows
from condense.specs.protocol import DEFAULT_PROTOCOL
from condense.specs.settings import SettingsSpec
from condense.specs.tasks import DEFAULT_TASK, AnyTask, Task


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


AnyTable: TypeAlias = TableSpec | FigureSpec | SettingsSpec
# what a file of `params/tables` says as its `kind` -> what it is read as
KINDS_OF_TABLES = {get_args(get_type_hints(shape)["kind"])[0]: shape for shape in get_args(AnyTable)}
