"""What a scale takes of tables and figures: datasets, settings, methods, and why others stay out. Floor 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from condense import plan
from condense.config import UserError, unknown
from condense.specs import FigureSpec, TableLimits, TableSpec, Task, catalogue
from condense.specs.changes import laid_over


class Choices:
    """What one scale chooses."""

    def __init__(self, scale: str):
        self.scale = catalogue.scale(scale)
        self.maker = plan.Maker(self.scale)

    def limits(self, name: str) -> TableLimits:
        return self.scale.tables.get(name, TableLimits(run=not self.scale.only_tables))

    def datasets_of(self, name: str) -> dict[str, list[str]]:
        """The papers' dataset -> the datasets that a table or figure is run on."""
        return self.scale.datasets | self.limits(name).datasets

    @staticmethod
    def wanted(limits: TableLimits, setting: str, train_arch: str = "") -> bool:
        return setting in (limits.settings or [setting]) and train_arch in [
            "",
            *(limits.train_archs or [train_arch]),
        ]

    def task_of(self, spec: TableSpec, limits: TableLimits, setting: str) -> Task:
        """The task of the rows of a published setting of a table, as the scale changes it."""
        return self.changed(spec, limits, spec.task_of(setting))

    def changed(self, spec: TableSpec | FigureSpec, limits: TableLimits, task: Task) -> Task:
        """The task of a table or figure, as the scale changes it."""
        if not limits.task:
            return task
        where = f"{self.maker.where}: tables: {spec.paper}/{spec.name}: task"
        changed: Task = laid_over(task, limits.task, where)
        return changed

    def numbers(self, limits: TableLimits, method: str) -> list[int] | None:
        """The images a class of which sets of a method are made here; None for all that are published."""
        wanted, own = limits.ipc or self.scale.ipc, self.scale.ipc_of.get(method)
        return wanted if own is None else [ipc for ipc in own if wanted is None or ipc in wanted]

    def absent(self, method: str) -> str:
        """Why `method` is not run here; '' if it is."""
        if method not in catalogue.names_in("methods"):
            return "method not built yet"
        if self.scale.methods is not None and method not in self.scale.methods:
            return f"not run at {self.scale.name}"
        lacking = next((entry.absent for entry in plan.lacks(catalogue.recipe(method))), "")
        return lacking or self.scale.empty.get(method, "")

    def variants(self, limits: TableLimits, task: Task, data: plan.DataCell) -> list[Task]:
        """The ways of `task` that are measured here on sets of `data`. Raises UserError for more than it
        has."""
        wanted = limits.n_variants or task.variants
        if wanted > task.variants:
            raise UserError(
                f"n_variants: {wanted} are asked for, and the task '{task.kind}' has {task.variants}"
            )
        return [task.fitted(data.spec.classes).variant(number) for number in range(wanted)]

    def enough(self, method: str, data: plan.DataCell, ipc: int, change: dict[str, Any]) -> bool:
        """Whether every class of `data` has the images that a set starts from."""
        return self.maker.recipe(method, data, ipc, change).images_needed(ipc) <= data.spec.smallest_class


def taken(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `changes` whose settings the engine of the method `name` has."""
    known = type(catalogue.recipe(name)).setting_names()
    return {setting: value for setting, value in changes.items() if setting in known}


def require_taken(changes: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Raises UserError for a setting that is to be changed and that none of the methods has."""
    if not changes:
        return
    methods = catalogue.names_in("methods")
    engines = {type(catalogue.recipe(name)) for name in names if name in methods}
    known = {setting for engine in engines for setting in engine.setting_names()}
    for setting in changes if engines else ():
        if setting not in known:
            raise unknown("setting", setting, known, where)
