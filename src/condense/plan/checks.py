"""What a scale names is there: tables, datasets, architectures, methods. Floor 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from condense.config import UserError, naming, unknown
from condense.plan import Maker, MetricsCell, data_cell
from condense.plan.profiles import require_architecture
from condense.plan.published import architectures, published_rows
from condense.specs import AnyTable, FigureSpec, Scale, SettingsSpec, TableLimits, TableSpec, catalogue


class ScalePlan(Protocol):
    """What is asked here of a plan of a scale, a `plan.tables.Plan`."""

    scale: Scale
    maker: Maker

    def limits(self, name: str) -> TableLimits:
        """What the scale says of a table or figure."""

    def metrics_of(self, name: str) -> list[MetricsCell]:
        """The metrics that it reads."""

    def file_of(self, name: str) -> Path:
        """The file that says what it shows."""

    def specs_by_path(self) -> Mapping[str, AnyTable]:
        """All tables and figures there are, by their names."""

    def published_of(self, spec: TableSpec) -> list[dict[str, str]]:
        """The rows of a table."""


def check_scale(plan: ScalePlan) -> None:
    """Raises UserError for a name in the scale of a plan that nothing has: what it is said of would not
    change, or stay empty, without a word."""
    scale, where = plan.scale, plan.maker.where
    for name in scale.tables:
        if name not in plan.specs_by_path():
            raise unknown("table", name, plan.specs_by_path(), f"{where}: tables")
        _require_limits(plan, name)
    _require_datasets(plan)
    for name in scale.architectures:
        arch, _, dataset = name.partition("/")
        require_architecture(arch, f"{where}: architectures", plan.maker.options(arch, dataset))
    evaluated = _evaluated_with(plan.specs_by_path().values())
    for key, names in {"networks_per_job": scale.networks_per_job, "epochs_of": scale.epochs_of}.items():
        for arch, _, dataset in (name.partition("/") for name in names):
            if arch not in evaluated:
                raise unknown("evaluation architecture", arch, evaluated, f"{where}: {key}")
            if dataset and dataset not in scale.dataset_names:
                raise unknown("dataset", dataset, scale.dataset_names, f"{where}: {key}")
    tables = {f"tables: {name}: empty": limits.empty for name, limits in scale.tables.items()}
    known = [*catalogue.names_in("methods"), *evaluated]
    for key, entries in {"empty": scale.empty, "remarks": scale.remarks, **tables}.items():
        for name in entries:
            if name not in known:
                raise unknown("method or architecture", name, known, f"{where}: {key}")


def require_networks(plan: ScalePlan, targets: Iterable[str]) -> None:
    """Raises UserError, naming file and key, for a network that cannot be built for the images that it is to
    see, of those that the evaluations of tables and figures need. Networks that are not in the table of
    those of the scales are counted for that, with torch."""
    for name in targets:
        spec, cells = plan.specs_by_path()[name], plan.metrics_of(name)
        for arch in _networks_in(spec):
            require_architecture(arch, str(plan.file_of(name)))
        sets = [one for cell in cells for one in cell.all_sets]
        seen = [(cell.synthetic.data, cell.eval_arch, cell.options) for cell in cells]
        seen += [(one.data, one.arch, one.options) for one in sets]
        seen += [(one.data, one.arch, one.options) for part in sets for one in part.parents.values()]
        for data, arch, options in seen:
            with naming(f"{plan.maker.where}: architectures: {arch}"):
                if arch != "none":
                    data.profile(arch, options)


def _networks_in(spec: AnyTable) -> set[str]:
    """The architectures that a table or figure names itself; those of published rows are known."""
    if isinstance(spec, FigureSpec):
        return {spec.train_arch, spec.eval_arch, *([spec.feature_arch] if spec.feature_arch else [])}
    own = spec.rows if isinstance(spec, TableSpec) else ()
    return {arch for rows in own for arch in (rows.train_arch, *architectures(rows.eval_arch))}


def _evaluated_with(specs: Iterable[AnyTable]) -> list[str]:
    """The architectures that tables and figures evaluate with, sorted."""
    drawn, own = set(), set()
    for spec in specs:
        drawn |= {spec.eval_arch} if isinstance(spec, FigureSpec) else set()
        own |= {rows.eval_arch for rows in spec.rows} if isinstance(spec, TableSpec) else set()
    return sorted(drawn.union(own, *(architectures(row["eval_arch"]) for row in published_rows())))


def _require_datasets(plan: ScalePlan) -> None:
    """Raises UserError for a dataset that no table or figure is of, or not the one that names it, in place of
    which others would stand: nothing would run on these; and for one that is a copy of none that there is."""
    of = {name: _datasets_shown(plan, spec) for name, spec in plan.specs_by_path().items()}
    named = [("datasets", plan.scale.datasets, set().union(*of.values()))]
    named += [
        (f"tables: {name}: datasets", limits.datasets, of[name]) for name, limits in plan.scale.tables.items()
    ]
    for key, datasets, known in named:
        for name in datasets:
            if name not in known:
                raise unknown("dataset of a table or figure", name, known, f"{plan.maker.where}: {key}")
            for entry in datasets[name]:
                _require_original(entry)


def _require_original(dataset: str) -> None:
    """Raises UserError where what a dataset `copies` is none: no published number would stand beside it."""
    copied = data_cell(dataset).spec.copies
    known = {*catalogue.names_in("datasets"), *(row["dataset"] for row in published_rows())}
    if copied is not None and copied not in known:
        raise unknown("dataset", copied, known, f"{catalogue.file_of('datasets', dataset)}: copies")


def _datasets_shown(plan: ScalePlan, spec: AnyTable) -> set[str]:
    """The papers' datasets that a table or figure is of."""
    if isinstance(spec, TableSpec):
        with naming(plan.file_of(f"{spec.paper}/{spec.name}")):
            return {row["dataset"] for row in plan.published_of(spec)}
    return {spec.dataset} - {""} if isinstance(spec, FigureSpec) else set()


def _require_limits(plan: ScalePlan, name: str) -> None:
    """Raises UserError if the scale names a setting or a condensing architecture that the table or figure has
    not."""
    spec, limits, where = plan.specs_by_path()[name], plan.limits(name), f"{plan.maker.where}: tables: {name}"
    if isinstance(spec, SettingsSpec) and limits != TableLimits(run=limits.run):
        raise UserError(
            f"{where}: is a table of settings, of which a scale says whether it is made (`run`); leave the "
            "rest out"
        )
    with naming(plan.file_of(name)):
        rows = plan.published_of(spec) if isinstance(spec, TableSpec) else []
    points = [point.name for point in spec.points] if isinstance(spec, FigureSpec) else None
    if limits.task and getattr(spec, "task", None) is None:
        raise UserError(f"{where}: task: this figure names none for a scale to change; leave it out")
    known = {
        "settings": [row["setting"] for row in rows] if points is None else points,
        "train_archs": [row["train_arch"] for row in rows],
        "judges": list(spec.judges.values()) if isinstance(spec, TableSpec) else [],
    }
    for key, entry in [(what, entry) for what in known for entry in getattr(limits, what) or []]:
        if entry not in known[key]:
            raise unknown(key.rstrip("s"), entry, set(known[key]), f"{where}: {key}")
