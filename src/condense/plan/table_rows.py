"""The cells that measure a published row, or why there are none. Floor 0."""

from __future__ import annotations

from condense import plan
from condense.config import UserError, merged, unknown
from condense.plan import MetricsCell, SyntheticCell
from condense.plan.choices import Choices, taken
from condense.plan.published import architectures, method_names, method_of, metric_of, published_rows
from condense.plan.rows import Row, Run
from condense.specs import FigureSpec, TableLimits, TableSpec, Task, catalogue
from condense.specs.common import Ipc


def row_of(choices: Choices, name: str, spec: TableSpec, row: dict[str, str]) -> Row:
    """The published `row` of the table `name` and its runs on each dataset: under the table's protocol, then
    under the judge that the row had, if the table names one.

    Raises UserError for a metric or setting that the table does not explain.
    """
    left_out = [spec.not_measured[row[key]] for key in ("metric", "setting") if row[key] in spec.not_measured]
    if left_out:
        return Row(row, (), left_out[0])
    task, method = spec.task_of(row["setting"]), method_of(row)
    metric = metric_of(row, task, spec.metrics)
    reason = next((why for name in (method, *spec.sets.values()) if (why := choices.absent(name))), "")
    if not reason and (task.of_a_set or spec.sets) and not catalogue.recipe(method).makes_set:
        reason = f"the task '{task.kind}' needs a {task.of_a_set or 'synthetic set'}"
    if not reason and task.reads == "recipe" and not catalogue.recipe(method).condenses:
        reason = f"the task '{task.kind}' needs a recipe that condenses in steps"
    if reason:
        return Row(row, (), reason)
    limits = choices.limits(name)
    left = choices.scale.empty | limits.empty
    reason = next((left[entry] for entry in (method, *architectures(row["eval_arch"])) if entry in left), "")
    if reason:
        return Row(row, (), reason)
    not_here = f"not run at {choices.scale.name}"
    if not choices.wanted(limits, row["setting"], row["train_arch"]):
        return Row(
            row, (), not_here, cause="the scale takes other settings or condensing architectures of it"
        )
    wanted = choices.numbers(limits, method)
    if row["ipc"] != "full" and (
        not row["ipc"].isdigit() or (wanted is not None and int(row["ipc"]) not in wanted)
    ):
        taken_here = ", ".join(map(str, wanted or ())) or "no"
        return Row(
            row, (), not_here, cause=f"the scale takes {taken_here} images a class, and not {row['ipc']}"
        )
    papers = row["dataset"]
    datasets = [
        spec.data_on(papers) if entry == papers else entry
        for entry in choices.datasets_of(name).get(papers, [])
    ]
    if not datasets:
        cause = f"no dataset stands in for '{row['dataset']}' (`datasets` of the scale)"
        return Row(row, (), not_here, cause=cause)
    own = spec.judge_on(row["dataset"], method)
    judges = ["", own] if own and (limits.judges is None or own in limits.judges) else [""]
    runs = [
        run
        for dataset in datasets
        for judge in judges
        if (run := _run(choices, spec, limits, row, method, dataset, judge)) is not None
    ]
    cause = f"{', '.join(datasets)}: a class has too few images for {row['ipc']} of {method}"
    if not runs:
        return Row(row, (), not_here, metric, cause)
    return Row(row, tuple(runs), metric=metric, judge=own or "")


def _run(
    choices: Choices,
    spec: TableSpec,
    limits: TableLimits,
    row: dict[str, str],
    method: str,
    dataset: str,
    judge: str,
) -> Run | None:
    """The row measured on `dataset` by its `judge`, '' for the table's; None where a class has too few
    images."""
    if spec.settings and row["setting"] not in spec.settings:
        raise unknown("setting", row["setting"], spec.settings, "settings")
    asked = spec.settings.get(row["setting"], {})
    names = [method, *spec.sets.values()]
    changes = {name: merged(asked, taken(name, limits.changes)) for name in names}
    data = plan.data_cell(dataset)
    ipc: Ipc = "full" if row["ipc"] == "full" else int(row["ipc"])
    if ipc != "full" and not all(choices.enough(name, data, ipc, change) for name, change in changes.items()):
        return None
    once = not catalogue.recipe(method).makes_set or spec.task_of(row["setting"]).reads == "recipe"
    sets = 1 if once else limits.n_sets or choices.scale.n_sets
    train_arch = row["train_arch"] or "convnet"

    def made(name: str, seed: int, task: Task) -> SyntheticCell:
        steps = task.class_steps(data.spec.classes)
        return choices.maker.synthetic(dataset, name, train_arch, ipc, seed, changes[name], steps)

    def judged(arch: str, seed: int, task: Task) -> MetricsCell:
        settings = (arch, judge or spec.protocol_on(row["dataset"]), limits.n_networks, task)
        further = {name: made(other, seed, task) for name, other in spec.sets.items()}
        return choices.maker.metrics(made(method, seed, task), *settings, further)

    variants = choices.variants(limits, choices.task_of(spec, limits, row["setting"]), data)
    groups = tuple(
        tuple(
            judged(spec.arch_on(row["dataset"], arch), seed, task)
            for task in variants
            for seed in range(sets)
        )
        for arch in architectures(row["eval_arch"])
    )
    return Run(dataset, groups, judge)


def require_judges(spec: TableSpec, published: list[dict[str, str]]) -> None:
    """Raises UserError for a judge of a method that the table does not show, or one that is no protocol."""
    shown = {method_of(row) for row in published}
    named = [("judges", entry) for entry in spec.judges.items()]
    for dataset, on in spec.by_dataset.items():
        named += [(f"by_dataset: {dataset}: judges", entry) for entry in on.judges.items()]
    for where, (method, judge) in named:
        if method not in shown:
            raise unknown("method", method, shown, where)
        catalogue.protocol(judge)


def require_datasets(spec: TableSpec, published: list[dict[str, str]]) -> None:
    """Raises UserError for a dataset that no row of the table is of, an architecture that no row of it names,
    and one of ours, or a protocol, that does not exist."""
    named: dict[str, set[str]] = {}
    for row in published:
        named.setdefault(row["dataset"], set()).update(architectures(row["eval_arch"]))
    for dataset, on in spec.by_dataset.items():
        if dataset not in named:
            raise unknown("dataset", dataset, named, "by_dataset")
        if on.protocol:
            catalogue.protocol(on.protocol)
        if on.data and dataset not in (on.data, plan.data_cell(on.data).spec.copies):
            raise UserError(
                f"by_dataset: {dataset}: data: '{on.data}' does not say that it `copies` {dataset}, so its "
                "numbers would stand as those of another dataset"
            )
        for arch in on.archs:
            if arch not in named[dataset]:
                raise unknown("architecture", arch, named[dataset], f"by_dataset: {dataset}: archs")


def require_rows(spec: TableSpec) -> None:
    """Raises UserError for a name in the own rows of a table that nothing has: they would stay empty, or
    unchanged, without a word."""
    datasets = {*catalogue.names_in("datasets"), *(row["dataset"] for row in published_rows())}
    for own in spec.rows:
        named = {
            "method": (own.methods, catalogue.names_in("methods")),
            "dataset": ([own.dataset], datasets),
            "setting": ([name for name in own.settings if name], spec.settings),
        }
        for noun, (names, known) in named.items():
            for name in names:
                if name not in known:
                    raise unknown(noun, name, known, "rows")


def require_drawn(spec: FigureSpec) -> None:
    """Raises UserError for a method or dataset of a figure that neither this project nor a published row has:
    it would be drawn without, or not at all."""
    published = published_rows()
    methods = {*catalogue.names_in("methods"), *method_names(), *(row["method"] for row in published)}
    datasets = {*catalogue.names_in("datasets"), *(row["dataset"] for row in published)}
    for name in spec.methods:
        if name not in methods:
            raise unknown("method", name, methods, "methods")
    if spec.dataset and spec.dataset not in datasets:
        raise unknown("dataset", spec.dataset, datasets, "dataset")
