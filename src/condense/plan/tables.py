"""Which cells a table or figure needs at a scale, and why a row stays empty where it needs none.

Floor 0. A table's rows are the published rows of that table; a row becomes cells where its method has a
recipe and its dataset is run at the scale, under its own name or by a stand-in that the table then names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from condense import plan
from condense.config import UserError, naming, unknown
from condense.plan import MetricsCell, ParentCell, SyntheticCell
from condense.plan.beside import Comparable
from condense.plan.checks import check_scale
from condense.plan.choices import Choices, require_taken
from condense.plan.curves import figure_of
from condense.plan.parent import with_their_own
from condense.plan.printed import PrintedSetting, settings_of
from condense.plan.published import method_of, published_rows
from condense.plan.ranges import Share
from condense.plan.rows import FigurePlan, Row
from condense.plan.table_rows import (
    require_datasets,
    require_drawn,
    require_judges,
    require_rows,
    row_of,
)
from condense.specs import DEFAULT_TASK, AnyTable, FigureSpec, SettingsSpec, TableSpec, catalogue


class Plan(Choices):
    """Everything that one scale asks for."""

    def __init__(self, scale: str):
        super().__init__(scale)
        check_scale(self)

    @staticmethod
    @catalogue.ByFolders
    def specs_by_path() -> dict[str, AnyTable]:
        """'cpdm/table1' -> its spec, for all tables and figures there are."""
        return {name: catalogue.table(stem) for name, stem in Plan._stems().items()}

    @staticmethod
    @catalogue.ByFolders
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

    def note_of(self, name: str) -> str:
        """What stands beside a table or figure: its own note, and the scale's for it."""
        return " ".join(filter(None, [self.specs_by_path()[name].note, self.limits(name).note]))

    def _place(self, name: str) -> str:
        """Where it stands what a table or figure changes in the recipes."""
        changed = f", changed by {self.maker.where}: tables: {name}" if self.limits(name).changes else ""
        return f"{self.file_of(name)}{changed}"

    @cached_property
    def tables(self) -> dict[str, list[Row]]:
        """'cpdm/table1' -> its rows."""
        specs = {name: spec for name, spec in self.specs_by_path().items() if isinstance(spec, TableSpec)}
        specs = {name: spec for name, spec in specs.items() if self.limits(name).run}
        rows = {}
        for name, spec in specs.items():
            with naming(self._place(name)):
                published = self.published_of(spec)
                require_taken(
                    self.limits(name).changes, [*map(method_of, published), *spec.sets.values()], "changes"
                )
                require_rows(spec)
                require_judges(spec, published)
                require_datasets(spec, published)
                rows[name] = [row_of(self, name, spec, row) for row in published]
        return rows

    @cached_property
    def settings(self) -> dict[str, list[PrintedSetting]]:
        """'cpdm/table10' -> its printed settings beside those of the recipes."""
        specs = {name: spec for name, spec in self.specs_by_path().items() if isinstance(spec, SettingsSpec)}
        made = {}
        for name, spec in specs.items():
            if self.limits(name).run:
                with naming(self.file_of(name)):
                    made[name] = settings_of(spec)
        return made

    @property
    def targets(self) -> list[str]:
        """The tables, those of settings and figures that the scale makes."""
        return [*self.tables, *self.settings, *self.figures]

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
                    require_drawn(spec)
                    plans[name] = figure_of(self, name, spec)
        return plans

    @staticmethod
    def published_of(spec: TableSpec) -> list[dict[str, str]]:
        """The published rows of a table, or those of its own. Raises UserError where it has none, or both,
        and for metrics and settings that no row has."""
        rows = [row for row in published_rows() if row["paper"] == spec.paper and row["table"] == spec.table]
        rows += [row for wanted in spec.printed for row in wanted.found_in(published_rows())]
        if rows and spec.rows:
            raise UserError(
                f"rows: {len(rows)} rows of params/published/results.csv belong to {spec.paper}/{spec.name}; "
                "rows of your own need a table of another paper or number, such as `paper: ours`"
            )
        rows = rows or [
            row for own in spec.rows for row in own.as_published(spec.paper, spec.table, spec.task_of)
        ]
        if not rows:
            raise UserError(
                f"{spec.paper}/{spec.name}: no row of params/published/results.csv belongs to it; what has "
                "no published numbers is compared by `rows` of its own, or in a figure (draw: "
                "accuracy_by_setting)"
            )
        metrics, settings = ({row[key] for row in rows} for key in ("metric", "setting"))
        for key, noun, asked, known in (
            ("not_measured", "metric or setting", spec.not_measured, metrics | settings),
            ("metrics", "metric", spec.metrics, metrics),
        ):
            for metric in asked:
                if metric not in known:
                    raise unknown(noun, metric, known - {""}, key)
        for key, named in {"settings": [*spec.settings], "tasks": [*spec.tasks]}.items():
            for setting in named:
                if setting not in settings:
                    raise unknown("setting", setting, settings - {""}, f"{key}: of the rows")
        return rows

    def metrics_of(self, name: str) -> list[MetricsCell]:
        """The metrics a table or figure reads, each once, in a fixed order."""
        if name in self.tables:
            cells = [cell for row in self.tables[name] for run in row.runs for cell in run.cells]
        elif name in self.figures:
            cells = [cell for curve in self.figures[name].curves for cell in curve.cells]
        elif name in self.settings:
            cells = []
        else:
            raise unknown("table or figure", name, self.targets)
        return list({cell.path: cell for cell in cells}.values())

    @cached_property
    def metrics(self) -> dict[str, MetricsCell]:
        """Path -> cell, of all metrics of the scale."""
        return {cell.path: cell for name in self.targets for cell in self.metrics_of(name)}

    def of_evaluations(self, cells: Iterable[MetricsCell]) -> Plan:
        """The same plan as if no other evaluations than `cells` belonged to it."""
        part = copy.copy(self)
        part.__dict__.pop("comparable", None)
        part.__dict__["metrics"] = {cell.path: cell for cell in cells}
        return part

    def with_targets(self, tables: dict[str, list[Row]], figures: dict[str, FigurePlan]) -> Plan:
        """The same plan as if these were its tables and figures; those of settings stay."""
        part = copy.copy(self)
        for derived in ("metrics", "comparable", "synthetic", "parents", "data"):
            part.__dict__.pop(derived, None)
        part.__dict__.update(tables=tables, figures=figures)
        return part

    @cached_property
    def comparable(self) -> Comparable:
        """Which evaluations of the scale may stand beside which."""
        return Comparable(self.maker, self.metrics.values())

    def beside(self, name: str) -> list[MetricsCell]:
        """The evaluations of baselines that a table shows beside its own, each once, in a fixed order.

        They are those of the scale, whichever table asks for them.
        """
        runs = [run for row in self.tables.get(name, []) for run in row.runs]
        shown = [entry.run for run in runs for entry in self.comparable.baselines(run).values() if entry.run]
        return list({cell.path: cell for run in shown for cell in run.cells}.values())

    @cached_property
    def synthetic(self) -> dict[str, SyntheticCell]:
        """Key -> cell, of all synthetic sets of the scale."""
        cells = [one for cell in self.metrics.values() for one in cell.all_sets]
        cells += [cell for figure in self.figures.values() for curve in figure.curves for cell in curve.shown]
        cells += [part for cell in cells for part in cell.joins]
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
        cells += [parent for cell in self.metrics.values() for parent in cell.parents.values()]
        return {cell.key: cell for cell in with_their_own(cells)}

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
        # Of what was put together the parts are not, nor the classes that they are of
        sets = [cell for cell in sets if not cell.data.is_part]
        data = [cell.train for cell in self.data.values() if not cell.is_part]
        return [*self.metrics, *(cell.path for cell in sets), *data]

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
        named = [f"{arch}/{name}" for name in reversed(catalogue.lineage(cell.synthetic.data.settings_of))]
        return cell.parts(next((given[name] for name in [*named, arch] if name in given), None))
