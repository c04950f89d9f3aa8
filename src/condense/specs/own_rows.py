"""Rows of a table that compares methods without the numbers of one paper: a comparison of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

from condense.config import UserError, unknown
from condense.specs.common import at_least, check_names, not_above
from condense.specs.tasks import ACCURACY, Task


@dataclass(frozen=True)
class PrintedElsewhere:
    """A number in percent that the paper of a method prints, shown beside what is measured; `note` says where
    and how it was measured there."""

    method: str
    ipc: int
    value: float
    note: str
    std: float | None = None
    setting: str = ""

    def __post_init__(self) -> None:
        not_above({"value": self.value, "std": self.std}, 100)
        if not self.note:
            raise UserError("note: say which table prints the number, and by which judge")


@dataclass(frozen=True)
class OwnRows:
    """Every method with every setting at every number of images a class, on the papers' `dataset`, by the
    `metrics` of the table's task (none named: the accuracy, or all that the task gives one value of)."""

    dataset: str
    methods: list[str]
    ipc: list[int]
    metrics: list[str] = field(default_factory=list)
    settings: list[str] = field(default_factory=lambda: [""])
    train_arch: str = "convnet"
    eval_arch: str = "convnet"
    printed: list[PrintedElsewhere] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_names(
            {
                "dataset": self.dataset,
                "methods": self.methods,
                "train_arch": self.train_arch,
                "eval_arch": self.eval_arch,
                "metrics": self.metrics,
            }
        )
        for key in ("methods", "ipc", "settings", "metrics"):
            entries = getattr(self, key)
            if not entries and key != "metrics":
                raise UserError(f"{key}: at least one is needed")
            repeated = next((entry for entry in entries if entries.count(entry) > 1), None)
            if repeated is not None:
                raise UserError(f"{key}: {repeated!r} stands there twice")
        for ipc in self.ipc:
            at_least({"ipc": ipc}, 1)
        for number in self.printed:
            for key, known in (("method", self.methods), ("ipc", self.ipc), ("setting", self.settings)):
                if getattr(number, key) not in known:
                    raise unknown(key, str(getattr(number, key)), map(str, known), "printed")

    def as_published(self, paper: str, table: str, task_of: Callable[[str], Task]) -> list[dict[str, str]]:
        """The rows in the form of those of `params/published/results.csv`, without a value where none is
        printed; `task_of` gives the task of a setting. Raises UserError for a metric that it does not
        give."""
        printed = {(number.method, number.ipc, number.setting): number for number in self.printed}
        rows = []
        for ipc, method, setting in product(self.ipc, self.methods, self.settings):
            task, number = task_of(setting), printed.get((method, ipc, setting))
            for metric in self.metrics or _shown(task):
                accuracy = metric == ACCURACY.published[0]
                known = ACCURACY if accuracy else task.numbers().get(metric)
                if known is None:
                    raise unknown("metric", metric, task.numbers(), f"rows: metrics: task {task.kind}")
                shown = number if accuracy or known is ACCURACY else None
                rows.append(
                    {
                        "paper": paper,
                        "table": table,
                        "dataset": self.dataset,
                        "ipc": str(ipc),
                        "method": method,
                        "train_arch": self.train_arch,
                        "eval_arch": self.eval_arch,
                        "task": (task.answers or ("condense",))[0],
                        "metric": metric,
                        "setting": setting,
                        "value": f"{shown.value:.1f}" if shown else "",
                        "std": f"{shown.std:.1f}" if shown and shown.std is not None else "",
                        "unit": known.unit,
                        "note": shown.note if shown else "",
                    }
                )
        return rows


def _shown(task: Task) -> list[str]:
    """What is shown of a task where nothing is named: the accuracy, or all metrics that are one value."""
    if ACCURACY in task.metrics.values():
        return [ACCURACY.published[0]]
    return [name for name in task.metrics if not task.is_curve(name)]
