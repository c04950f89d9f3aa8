"""Which cells a table or figure needs at a scale, and why a row stays empty where it needs none.

Floor 0. A table's rows are the published rows of that table; a row becomes cells where its method has a
recipe and its dataset is run at the scale, under its own name or by a stand-in that the table then names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from condense import plan
from condense.config import UserError, merged, naming, unknown
from condense.plan import MetricsCell, ParentCell, SyntheticCell
from condense.plan.published import architectures, method_of, metric_of, published_rows
from condense.plan.ranges import Share
from condense.plan.rows import Curve, DriftCurve, FigurePlan, PointCurve, Row, Run, SetCurve
from condense.specs import DEFAULT_TASK, FigureSpec, Point, TableLimits, TableSpec, catalogue
from condense.specs.common import Ipc


@cache
def evaluation_architectures() -> list[str]:
    """The architectures that tables and figures evaluate with, sorted."""
    drawn = {spec.eval_arch for spec in Plan.specs_by_path().values() if isinstance(spec, FigureSpec)}
    return sorted(drawn.union(*(architectures(row["eval_arch"]) for row in published_rows())))


class Plan:
    """Everything that one scale asks for."""

    def __init__(self, scale: str):
        self.scale = catalogue.scale(scale)
        self.maker = plan.Maker(self.scale)
        for name in self.scale.tables:
            if name not in self.specs_by_path():
                raise unknown("table", name, self.specs_by_path(), f"{self.maker.where}: tables")
            self._require_known(name)
        for name in self.scale.networks_per_job:
            self._require_evaluated(*name.split("/", 1))

    def _require_evaluated(self, arch: str, dataset: str | None = None) -> None:
        """Raises UserError if no table or figure evaluates with `arch`, or if `dataset` is not one of the
        scale's."""
        where, datasets = f"{self.maker.where}: networks_per_job", self.scale.dataset_names
        if arch not in evaluation_architectures():
            raise unknown("evaluation architecture", arch, evaluation_architectures(), where)
        if dataset is not None and dataset not in datasets:
            raise unknown("dataset", dataset, datasets, where)

    def _require_known(self, name: str) -> None:
        """Raises UserError if the scale names a setting or a condensing architecture that the table or figure
        has not."""
        spec, limits = self.specs_by_path()[name], self.limits(name)
        with naming(self.file_of(name)):
            rows = self._published(spec) if isinstance(spec, TableSpec) else []
        settings = (
            [point.name for point in spec.points]
            if isinstance(spec, FigureSpec)
            else [row["setting"] for row in rows]
        )
        known = {"settings": settings, "train_archs": [row["train_arch"] for row in rows]}
        for key, entry in [(what, entry) for what in known for entry in getattr(limits, what) or []]:
            if entry not in known[key]:
                raise unknown(
                    key.rstrip("s"), entry, set(known[key]), f"{self.maker.where}: tables: {name}: {key}"
                )

    @staticmethod
    @cache
    def specs_by_path() -> dict[str, TableSpec | FigureSpec]:
        """'cpdm/table1' -> its spec, for all tables and figures there are."""
        return {name: catalogue.table(stem) for name, stem in Plan._stems().items()}

    @staticmethod
    @cache
    def _stems() -> dict[str, str]:
        """'cpdm/table1' -> the name of its file. Raises UserError if two files are of the same table or
        figure."""
        stems: dict[str, str] = {}
        for stem in catalogue.names_in("tables"):
            name = f"{(spec := catalogue.table(stem)).paper}/{spec.name}"
            if name in stems:
                other = catalogue.file_of("tables", stems[name])
                raise UserError(
                    f"{catalogue.file_of('tables', stem)}: is of {name}, as {other} is; leave one of them out"
                )
            stems[name] = stem
        return stems

    @classmethod
    def file_of(cls, name: str) -> Path:
        """The file that says what a table or figure shows."""
        return catalogue.file_of("tables", cls._stems()[name])

    def limits(self, name: str) -> TableLimits:
        return self.scale.tables.get(name, TableLimits(run=not self.scale.only_tables))

    def datasets_of(self, name: str) -> dict[str, list[str]]:
        """The papers' dataset -> the datasets that a table or figure is run on."""
        return self.scale.datasets | self.limits(name).datasets

    def _place(self, name: str) -> str:
        """Where it stands what a table or figure changes in the recipes."""
        changed = f", changed by {self.maker.where}: tables: {name}" if self.limits(name).changes else ""
        return f"{self.file_of(name)}{changed}"

    @staticmethod
    def _wanted(limits: TableLimits, setting: str, train_arch: str = "") -> bool:
        return setting in (limits.settings or [setting]) and train_arch in [
            "",
            *(limits.train_archs or [train_arch]),
        ]

    @cached_property
    def tables(self) -> dict[str, list[Row]]:
        """'cpdm/table1' -> its rows."""
        specs = {name: spec for name, spec in self.specs_by_path().items() if isinstance(spec, TableSpec)}
        specs = {name: spec for name, spec in specs.items() if self.limits(name).run}
        rows = {}
        for name, spec in specs.items():
            with naming(self._place(name)):
                published = self._published(spec)
                _require_taken(
                    self.limits(name).changes, [*map(method_of, published), *spec.sets.values()], "changes"
                )
                rows[name] = [self._row(name, spec, row) for row in published]
        return rows

    @property
    def accuracy_tables(self) -> list[str]:
        """The tables whose numbers are plain test accuracies, which the summary is of."""
        specs = self.specs_by_path()
        return [
            name
            for name in self.tables
            if isinstance(spec := specs[name], TableSpec) and spec.task == DEFAULT_TASK
        ]

    @cached_property
    def figures(self) -> dict[str, FigurePlan]:
        """'cpdm/figure1' -> its curves."""
        specs = {name: spec for name, spec in self.specs_by_path().items() if isinstance(spec, FigureSpec)}
        plans = {}
        for name, spec in specs.items():
            if self.limits(name).run:
                with naming(self._place(name)):
                    plans[name] = self._figure(name, spec)
        return plans

    @staticmethod
    def _published(spec: TableSpec) -> list[dict[str, str]]:
        rows = [row for row in published_rows() if row["paper"] == spec.paper and row["table"] == spec.table]
        if not rows:
            raise UserError(
                f"{spec.paper}/{spec.name}: no row of params/published/results.csv belongs to it; what has "
                "no published numbers is compared in a figure (draw: accuracy_by_setting)"
            )
        metrics = {row["metric"] for row in rows}
        for metric in spec.not_measured:
            if metric not in metrics:
                raise unknown("metric", metric, metrics, "not_measured")
        settings = {row["setting"] for row in rows}
        for setting in spec.settings:
            if setting not in settings:
                raise unknown("setting", setting, settings, "settings")
        return rows

    def _absent(self, method: str) -> str:
        """Why `method` is not run here; '' if it is."""
        if method not in catalogue.names_in("methods"):
            return "method not built yet"
        if self.scale.methods is not None and method not in self.scale.methods:
            return f"not run at {self.scale.name}"
        return next((entry.absent for entry in plan.lacks(catalogue.recipe(method))), "")

    def _row(self, name: str, spec: TableSpec, row: dict[str, str]) -> Row:
        if row["metric"] in spec.not_measured:
            return Row(row, (), spec.not_measured[row["metric"]])
        metric, method = metric_of(row, spec.task), method_of(row)
        reason = next((why for name in (method, *spec.sets.values()) if (why := self._absent(name))), "")
        if not reason and (spec.task.of_a_set or spec.sets) and not catalogue.recipe(method).makes_set:
            reason = f"the task '{spec.task.kind}' needs a {spec.task.of_a_set or 'synthetic set'}"
        if reason:
            return Row(row, (), reason)
        limits = self.limits(name)
        if not self._wanted(limits, row["setting"], row["train_arch"]):
            return Row(row, (), f"not run at {self.scale.name}")
        wanted = limits.ipc or self.scale.ipc
        if row["ipc"] != "full" and (
            not row["ipc"].isdigit() or (wanted is not None and int(row["ipc"]) not in wanted)
        ):
            return Row(row, (), f"not run at {self.scale.name}")
        datasets = self.datasets_of(name).get(row["dataset"], [])
        runs = [
            run for dataset in datasets if (run := self._run(spec, limits, row, method, dataset)) is not None
        ]
        return Row(row, tuple(runs), "" if runs else f"not run at {self.scale.name}", metric)

    def _run(
        self, spec: TableSpec, limits: TableLimits, row: dict[str, str], method: str, dataset: str
    ) -> Run | None:
        if spec.settings and row["setting"] not in spec.settings:
            raise unknown("setting", row["setting"], spec.settings, "settings")
        asked = spec.settings.get(row["setting"], {})
        names = [method, *spec.sets.values()]
        changes = {name: merged(asked, _taken(name, limits.changes)) for name in names}
        data = plan.data_cell(dataset)
        ipc: Ipc = "full" if row["ipc"] == "full" else int(row["ipc"])
        if ipc != "full" and not all(
            self._enough(name, data, ipc, change) for name, change in changes.items()
        ):
            return None
        sets = 1 if not catalogue.recipe(method).makes_set else limits.n_sets or self.scale.n_sets
        train_arch = row["train_arch"] or "convnet"

        def made(name: str, seed: int) -> SyntheticCell:
            return self.maker.synthetic(dataset, name, train_arch, ipc, seed, changes[name])

        groups = []
        for arch in architectures(row["eval_arch"]):
            settings = (arch, spec.protocol, limits.n_networks, spec.task)
            further = [{name: made(other, seed) for name, other in spec.sets.items()} for seed in range(sets)]
            groups.append(
                tuple(
                    self.maker.metrics(made(method, seed), *settings, further[seed]) for seed in range(sets)
                )
            )
        return Run(dataset, tuple(groups))

    def _enough(self, method: str, data: plan.DataCell, ipc: int, change: dict[str, Any]) -> bool:
        """Whether every class of `data` has the images that a set starts from."""
        return self.maker.recipe(method, data, ipc, change).images_needed(ipc) <= data.spec.smallest_class

    def _figure(self, name: str, spec: FigureSpec) -> FigurePlan:
        limits = self.limits(name)
        asked = [*spec.methods, *spec.further]
        _require_taken(spec.changes, asked, "changes")
        _require_taken(limits.changes, asked, "changes")
        missing = {method: self._absent(method) for method in asked if self._absent(method)}
        cut = tuple(point.name for _, point in spec.lines if point and not self._wanted(limits, point.name))
        lines = [
            (method, point)
            for method, point in spec.lines
            if method not in missing and not (point and point.name in cut)
        ]
        lines = [] if missing.keys() & set(spec.further) else lines
        curves = []
        for dataset in self.datasets_of(name).get(spec.dataset, []):
            ipcs = limits.ipc or spec.ipc
            curves += [self._curve(spec, limits, dataset, *line, ipc) for ipc in ipcs for line in lines]
        return FigurePlan(spec, tuple(curve for curve in curves if curve), missing, cut)

    def _curve(
        self, spec: FigureSpec, limits: TableLimits, dataset: str, method: str, point: Point | None, ipc: int
    ) -> Curve | None:
        sets = (limits.n_sets or self.scale.n_sets) if spec.judged else 1
        asked = point.change if point else {}
        further = {name: merged(_taken(name, spec.changes), _taken(name, asked)) for name in spec.further}
        changes = further | {method: merged(_taken(method, spec.changes), asked)}
        changes = {name: merged(change, _taken(name, limits.changes)) for name, change in changes.items()}
        if not all(
            self._enough(name, plan.data_cell(dataset), ipc, change) for name, change in changes.items()
        ):
            return None

        def made(name: str) -> list[SyntheticCell]:
            return [
                self.maker.synthetic(dataset, name, spec.train_arch, ipc, seed, changes[name])
                for seed in range(sets)
            ]

        cells, settings = made(method), (spec.eval_arch, spec.protocol, limits.n_networks)
        if spec.judged:
            others = {other: made(other) for other in spec.further}
            judged = [
                tuple(
                    self.maker.metrics(
                        cell, *settings, task, {name: others[other][seed] for name, other in further.items()}
                    )
                    for seed, cell in enumerate(cells)
                )
                for task, further in spec.judged
            ]
            measured = tuple(cell for of_task in judged for cell in of_task)
            if spec.drift:
                at = dict(zip(spec.drift.ratios, judged, strict=True))
                return DriftCurve(method, dataset, ipc, measured, drift=spec.drift, at=at)
            return (
                PointCurve(method, dataset, ipc, measured, point=point)
                if point
                else Curve(method, dataset, ipc, measured)
            )
        parents = (
            {"teacher": self.maker.teacher(plan.data_cell(dataset), spec.feature_arch, "selection")}
            if spec.feature_arch
            else {}
        )
        return SetCurve(method, dataset, ipc, (), parents, synthetic=cells[0])

    def metrics_of(self, name: str) -> list[MetricsCell]:
        """The metrics a table or figure reads, each once, in a fixed order."""
        if name in self.tables:
            cells = [cell for row in self.tables[name] for run in row.runs for cell in run.cells]
        elif name in self.figures:
            cells = [cell for curve in self.figures[name].curves for cell in curve.cells]
        else:
            raise unknown("table or figure", name, [*self.tables, *self.figures])
        return list({cell.path: cell for cell in cells}.values())

    @cached_property
    def metrics(self) -> dict[str, MetricsCell]:
        """Path -> cell, of all metrics of the scale."""
        return {cell.path: cell for name in [*self.tables, *self.figures] for cell in self.metrics_of(name)}

    @cached_property
    def synthetic(self) -> dict[str, SyntheticCell]:
        """Key -> cell, of all synthetic sets of the scale."""
        cells = [one for cell in self.metrics.values() for one in cell.all_sets]
        cells += [cell for figure in self.figures.values() for curve in figure.curves for cell in curve.shown]
        return {cell.key: cell for cell in cells if cell.recipe.makes_set}

    @cached_property
    def parents(self) -> dict[str, ParentCell]:
        """Key -> cell, of all that has to be made before the sets and figures of the scale, such as teachers
        and banks of networks."""
        cells: list[ParentCell] = [
            parent for cell in self.synthetic.values() for parent in cell.parents.values()
        ]
        cells += [
            parent
            for figure in self.figures.values()
            for curve in figure.curves
            for parent in curve.parents.values()
        ]
        return {cell.key: cell for cell in cells}

    @cached_property
    def data(self) -> dict[str, plan.DataCell]:
        """Key -> cell, of all prepared datasets of the scale."""
        cells = [cell.synthetic.data for cell in self.metrics.values()] + [
            cell.data for cell in self.synthetic.values()
        ]
        return {cell.key: cell for cell in cells}

    def keepable(self, few: bool = False) -> list[str]:
        """Paths of the results worth keeping: all metrics, sets and prepared data; `few` leaves out most
        sets."""
        sets = [
            cell for cell in self.synthetic.values() if not few or (cell.seed == 0 and cell.ipc in (1, 10))
        ]
        return [*self.metrics, *(cell.path for cell in sets), *(cell.train for cell in self.data.values())]

    def shards(self, cell: SyntheticCell) -> list[Share]:
        """What separate jobs make of `cell` at this scale."""
        return cell.shards(
            self.scale.classes_per_job_of.get(cell.recipe.name, self.scale.classes_per_job),
            self.scale.images_per_job,
        )

    def parts(self, cell: MetricsCell) -> list[str]:
        """The ranges of networks that `cell` is evaluated in at this scale; a single one is no part but the
        whole evaluation."""
        given, arch = self.scale.networks_per_job, cell.eval_arch
        return cell.parts(given.get(f"{arch}/{cell.synthetic.data.name}", given.get(arch)))


def _taken(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `changes` whose settings the engine of the method `name` has."""
    known = type(catalogue.recipe(name)).setting_names()
    return {setting: value for setting, value in changes.items() if setting in known}


def _require_taken(changes: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Raises UserError for a setting that is to be changed and that none of the methods has."""
    engines = {type(catalogue.recipe(name)) for name in names if name in catalogue.names_in("methods")}
    known = {setting for engine in engines for setting in engine.setting_names()}
    for setting in changes if engines else ():
        if setting not in known:
            raise unknown("setting", setting, known, where)
