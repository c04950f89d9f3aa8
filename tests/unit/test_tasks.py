"""Tasks: each is one class and one function; what it says of itself decides keys, files and rows, whoever
adds it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, get_args

import pytest
import torch
from bad_input_helpers import NET, evaluation, recipe, refused, run
from reading_helpers import choices, noting_first

from condense import specs
from condense.command.show import describe
from condense.config import UserError, convert
from condense.estimate.work import work_of
from condense.evaluate import tasks
from condense.evaluate.trained import measured_accuracy
from condense.files import metrics_in, read_metrics
from condense.files.artifacts import read_json, write_json
from condense.jobs import Machine, costing, make_parent
from condense.plan import Maker, MetricsCell, data_cell
from condense.plan.published import metric_named, metric_of, published_rows
from condense.plan.tables import Plan
from condense.report import measured, records
from condense.specs import (
    ACCURACY,
    DEFAULT_TASK,
    AnyTask,
    Drift,
    Metric,
    TableSpec,
    Task,
    catalogue,
    task_class,
)
from condense.specs.tasks.base import check_class

pytestmark = pytest.mark.usefixtures("one_thread")


def kinds():
    return {
        next(field.default for field in fields(task) if field.name == "kind"): task
        for task in get_args(AnyTask)
    }


def test_every_task_is_computed_and_all_that_is_computed_is_a_task():
    read_sets = {kind for kind, task in kinds().items() if task.reads != "recipe"}
    assert read_sets == set(tasks.TASKS) and kinds().keys() - read_sets == set(costing.MEASURES)
    assert len({task.folder for task in kinds().values()}) == len(kinds())
    for task in kinds().values():
        check_class(task)
        assert "numerics" in vars(task), (
            "its mathematics has a number of its own, or it says that it has none"
        )
        assert task.__doc__ and task.title and task_class(task.folder) is task


def test_a_task_that_nothing_computes_is_refused():
    with pytest.raises(UserError, match="unknown task 'driift'; did you mean 'drift'"):
        tasks.task_function("driift")
    with pytest.raises(UserError, match="unknown task 'accuracy'"):  # its folder is called otherwise
        task_class("accuracy")


@pytest.mark.parametrize("given", ["accuracy", {"kind": "accuracy"}])
def test_a_task_without_settings_may_be_given_by_its_kind_alone(given):
    assert convert(AnyTask, given, "task") == DEFAULT_TASK


@pytest.mark.parametrize(
    "given, said",
    [
        ("acuracy", "task: kind: unknown value 'acuracy'; did you mean 'accuracy'"),
        ("drift", "task: the key 'ratio' is missing"),
        ({}, "task: the key 'kind' is missing: one of accuracy, "),
        ({"ratio": 0.5, "stage": 1}, "task: the key 'kind' is missing"),
        ({"kind": "drift", "ratio": 2, "stage": 1}, "ratio: must lie between 0 and 1"),
        ({"kind": "drift", "ratio": 0.5, "stage": 0}, "stage: must be at least 1"),
        ({"kind": "accuracy", "bins": 3}, "unknown key 'bins'"),
    ],
)
def test_a_task_that_is_no_such_one_says_so(given, said):
    with pytest.raises(UserError, match=said):
        convert(AnyTask, given, "task")


@dataclass(frozen=True, kw_only=True)
class Errors(Task):
    """Test error, so many times as large: a task that these tests alone know."""

    folder: ClassVar[str] = "errors"
    numerics: ClassVar[int | None] = None
    title: ClassVar[str] = "what is wrong"
    metrics: ClassVar[Mapping[str, Metric]] = {
        "accuracy": ACCURACY,
        "error": Metric("test error", better="lower", least=0.0, published=("spearman",)),
    }
    further: ClassVar[Mapping[str, str]] = {"other": "another set"}

    times: float = 1.0
    kind: Literal["errors"] = "errors"


def errors(task, sets, tested, trainer):
    assert set(sets.further) == {"other"} and len(sets.further["other"].by_step[0]()) == len(
        sets.judged.by_step[0]()
    )

    def measure(networks):
        (accuracies,) = measured_accuracy(tested, networks).values()
        return {"accuracy": accuracies, "error": [task.times * (1 - value / 100) for value in accuracies]}

    return trainer.measured(sets.judged.by_step, measure)


@pytest.fixture
def registered(monkeypatch):
    """`Errors` beside the other tasks: one class in the union, one function under its kind."""
    monkeypatch.setattr(specs.tasks, "AnyTask", specs.AnyTask | Errors)
    monkeypatch.setattr(specs, "AnyTask", specs.AnyTask | Errors)
    monkeypatch.setitem(tasks.TASKS, "errors", errors)


@pytest.fixture(scope="module")
def maker():
    return Maker(catalogue.scale("quick"))


def test_settings_of_a_task_enter_the_key_and_the_folder_the_path(maker):
    synthetic, other = (maker.synthetic("digits", "random", "convnet", 1, seed) for seed in (0, 1))
    plain = maker.metrics(synthetic, "convnet", "dc")

    def cell(task, **sets):
        return maker.metrics(synthetic, "convnet", "dc", task=task, sets=sets)

    assert plain.task == DEFAULT_TASK and plain.path.startswith("results/metrics/condense/digits/random/")
    asked = [
        cell(Errors(), other=other),
        cell(Errors(times=2.0), other=other),
        cell(Errors(), other=synthetic),
    ]
    assert len({plain.key, *(cell.key for cell in asked)}) == 4
    assert cell(Errors(times=1.0), other=other).key == asked[0].key  # a default enters no key
    assert asked[0].path.startswith("results/metrics/errors/") and asked[0].all_sets == [synthetic, other]
    assert json.loads(asked[1].task_settings) == {"kind": "errors", "times": 2.0}
    # Bare tasks have the keys that evaluations had before there were tasks.
    assert cell(specs.Snapshots()).key == plain.key
    assert work_of(asked[0]).flops_training == work_of(plain).flops_training


def test_further_sets_are_those_that_the_task_names(maker):
    synthetic = maker.synthetic("digits", "random", "convnet", 1, 0)
    for task, names, said in (
        (Errors(), {}, "task errors needs 'other', another set"),
        (Errors(), {"othr": synthetic}, "task errors: unknown set 'othr'; did you mean 'other'"),
        (DEFAULT_TASK, {"style": synthetic}, "task accuracy: unknown set 'style'"),
    ):
        with pytest.raises(UserError, match=said):
            MetricsCell(task, synthetic, "convnet", "{}", catalogue.protocol("dc"), 1, names)


def without_run(path):
    return {name: value for name, value in read_json(path).items() if name != "run"}


def test_the_command_computes_a_task_with_several_metrics_whole_or_in_parts(registered, made, tmp_path):
    """Whole, in parts, with a further set and settings; what comes out is read again, shown, and compared
    with the accuracy task."""
    given = ("--networks", 3, "--task", '{"kind": "errors", "times": 2}', "--with", f"other={made.synthetic}")

    def judged(name, *more):
        status, told = run(*evaluation(made.synthetic, made.digits, tmp_path / name, *more))
        assert status == 0, told
        return tmp_path / name

    whole, plain = judged("whole.json", *given), judged("plain.json", "--networks", 3)
    parts = [judged(f"{part}.json", *given, "--part", part) for part in ("2", "0-1")]
    joined = tmp_path / "joined.json"
    assert run("join", "--parts", *parts, "--out", joined)[0] == 0
    assert without_run(joined) == without_run(whole)
    found, alone = read_metrics(whole, "errors"), read_metrics(plain, "condense")
    metrics = metrics_in(found)
    assert metrics["accuracy"] == metrics_in(alone)["accuracy"] | {"unit": "%"}
    assert metrics["error"]["values"] == [2 * (1 - value / 100) for value in alone["accuracies"]]
    assert (
        "accuracies" not in found
        and found["errors"].keys() == {"times", "other"}
        and found["errors"]["times"] == 2.0
    )
    error = metrics["error"]
    assert re.search(r"^errors: times +2$", describe(whole), re.MULTILINE)
    assert re.search(rf"^error +{error['mean']:.4g} ± {error['std']:.2g}$", describe(whole), re.MULTILINE)
    assert re.search(
        rf"^accuracy +{alone['mean']:.2f} ± {alone['std']:.2f} %$", describe(whole), re.MULTILINE
    )
    assert "--with NAME=FILE: task errors needs 'other'" in refused(
        *evaluation(made.synthetic, made.digits, joined, "--task", "errors")
    )


# Settings that a task cannot be without
GIVEN = {
    "drift": {"ratio": 0.5, "stage": 1},
    "followed": {"tests": 1},
    "gradient_similarity": {"batch": 10},
    "continual": {"steps": 2},
    "search": {"candidates": 2, "truth_protocol": "nas201_truth", "truth_images": 40, "resamples": 10},
    "slimming": {"percents": [50]},
    "hypotheses": {"count": 1},
}
ARCHS = {
    "search": "nas_bench_201",
    "slimming": "convnet_bn",
    "hypotheses": "convnet",
}  # of tasks of certain networks


def snapshots_of_a_set(digits, folder):
    """The snapshots of a small set, made by the command."""
    data = ("--data", digits / "train.safetensors")
    shard = folder / "shard.safetensors"
    assert run("synthesize", *data, "--recipe", recipe(snapshots=1), "--ipc", 1, *NET, "--out", shard)[0] == 0
    assert run("gather", "--shards", shard, *data, "--out", folder / "synthetic.safetensors")[0] == 0
    return folder / "snapshots.safetensors"


def unread(kind, made, folder, monkeypatch):
    """The settings of a task that are not read while it is computed."""
    read, task = set(), kinds()[kind]
    monkeypatch.setitem(tasks.TASKS, kind, noting_first(tasks.TASKS[kind], read))
    settings = {"kind": kind, **GIVEN.get(kind, {})}
    given, arch = ["--task", json.dumps(settings)], ARCHS.get(kind)
    for name in task.further:
        given += ["--with", f"{name}={made.synthetic}"]
    maker = Maker(catalogue.scale("quick"))
    for name, need in convert(specs.AnyTask, settings, "task").parents().items():
        cell, path = need.cell(maker, data_cell("digits"), arch, 0, 0), folder / f"{name}.safetensors"
        make_parent(path, cell, made.digits / "train.safetensors", Machine("cpu", 1))
        given += ["--with", f"{name}={path}"]
    if arch:
        given += ["--arch", arch, "--options", maker.options(arch, "digits")]
    judged = snapshots_of_a_set(made.digits, folder) if task.reads == "snapshots" else made.synthetic
    status, told = run(*evaluation(judged, made.digits, folder / f"{kind}.json", *given))
    assert status == 0, told
    return choices(task, "kind") - read


WITH_SETTINGS = [kind for kind, task in kinds().items() if choices(task, "kind") and task.reads != "recipe"]


@pytest.mark.parametrize("kind", WITH_SETTINGS)
def test_every_setting_of_a_task_is_read(kind, made, tmp_path, monkeypatch):
    assert not unread(kind, made, tmp_path, monkeypatch)


def test_a_setting_of_a_task_that_nothing_reads_is_found(registered, made, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "kinds", lambda: {"errors": Errors})
    monkeypatch.setitem(tasks.TASKS, "errors", lambda task, *others: errors(Errors(times=2.0), *others))
    assert unread("errors", made, tmp_path, monkeypatch) == {"times"}


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda value: value["metrics"].pop("error"), "metrics: are accuracy instead of accuracy, error"),
        (
            lambda value: value["metrics"]["error"]["values"].pop(),
            "error: are 1 instead of one for each of 2 networks",
        ),
        (lambda value: value["metrics"]["error"].update(mean=7.0), "mean: is not that of its error"),
        (lambda value: value["metrics"]["error"].update(unit="%"), "unit: is not that of its error"),
        (
            lambda value: value["metrics"]["error"].update(values=[-1.0, 0.0], mean=-0.5, std=0.5),
            "error: -1 lies outside of 0 to inf",
        ),
        (
            lambda value: value.update(accuracies=[1.0, 2.0], mean=1.5, std=0.5),
            "accuracies: are not what its task gives",
        ),
        (lambda value: value.update(task="nothing"), "unknown task 'nothing'"),
    ],
)
def test_metrics_that_are_not_those_of_their_task_are_refused(registered, change, said, tmp_path):
    rows = {"accuracy": ([90.0, 92.0], 91.0, 1.0, "%"), "error": ([0.2, 0.1], 0.15, 0.05, "")}
    metrics = {
        name: dict(zip(("values", "mean", "std", "unit"), row, strict=True)) for name, row in rows.items()
    }
    value = {
        "schema": 1,
        "kind": "metrics",
        "task": "errors",
        "key": "k",
        "n_networks": 2,
        "metrics": metrics,
        "run": {},
    }
    write_json(tmp_path / "m.json", value)
    assert metrics_in(read_metrics(tmp_path / "m.json", "errors", "k")) == metrics
    change(value)
    write_json(tmp_path / "m.json", value)
    with pytest.raises(UserError, match=said):
        read_metrics(tmp_path / "m.json")


def of_table(paper, table):
    return [row for row in published_rows() if (row["paper"], row["table"]) == (paper, table)]


# Of tasks, the metric by the papers' word for it, where that is not the accuracy
EXPECTED = {
    "cost": {"speed": "speed", "peak_gpu_memory": "peak_memory"},
    "search": {name: name for name in ("spearman", "top1_accuracy", "time_cost", "storage")},
}


def test_a_table_may_say_which_metric_a_papers_word_means():
    for row in of_table("ddm", "7"):
        expected = "spearman_best" if row["metric"] == "spearman" else row["metric"]
        spec = Plan.specs_by_path()["ddm/table7"]
        assert metric_of(row, spec.task, spec.metrics) == expected
    with pytest.raises(UserError, match="metrics: task accuracy: unknown metric 'spearman_bst'"):
        TableSpec("table", "cpdm", "7", "x", metrics={"spearman": "spearman_bst"})


def test_the_papers_words_for_a_metric_are_told_by_the_metric():
    named = {row["metric"]: metric_named(row["metric"]) for row in published_rows()}
    assert {name for name, metric in named.items() if metric} == set(
        ACCURACY.published
    ) and ACCURACY.published[0] == "test_accuracy"
    for name in Plan.specs_by_path():
        spec = Plan.specs_by_path()[name]
        if isinstance(spec, TableSpec):
            found = {
                row["metric"]: metric_of(row, spec.task, spec.metrics)
                for row in Plan.published_of(spec)
                if row["metric"] not in spec.not_measured
            }
            wanted = EXPECTED.get(spec.task.kind, {}) | spec.metrics
            assert all(metric == wanted.get(word, "accuracy") for word, metric in found.items()), name


def seventh_table(monkeypatch, **changes):
    """The plan of a scale with one more table: cpdm's seventh, which ranks architectures."""
    spec = TableSpec("table", "cpdm", "7", "Search", **changes)
    known = Plan.specs_by_path()
    monkeypatch.setattr(Plan, "specs_by_path", staticmethod(lambda: known | {"cpdm/table7": spec}))
    monkeypatch.setattr(
        Plan, "file_of", classmethod(lambda cls, name: catalogue.file_of("tables", name.replace("/", "_")))
    )
    plan = Plan("quick")
    return plan, plan.tables["cpdm/table7"]


def test_a_row_is_never_filled_from_another_metric_than_its_own(monkeypatch):
    with pytest.raises(
        UserError,
        match=r"cpdm_table7.yaml.*: row cpdm Table 7, .*: its metric '\w+' is .*the task 'accuracy', which "
        r"gives accuracy",
    ):
        seventh_table(monkeypatch)
    (row, *_) = [row for row in of_table("cpdm", "7") if row["metric"] == "spearman"]
    with pytest.raises(
        UserError,
        match=r"its metric 'spearman' is none of the task 'accuracy', which gives accuracy; name the task",
    ):
        metric_of(row, DEFAULT_TASK)
    (row, *_) = [row for row in of_table("cpdm", "7") if row["metric"] == "top1_accuracy"]
    with pytest.raises(
        UserError,
        match=r"is of the published task 'nas', and the task 'accuracy'.* measures those of condense, "
        r"transfer",
    ):
        metric_of(row, DEFAULT_TASK)
    assert (
        metric_of(row, Errors()) == "accuracy"
        and metric_of(row | {"metric": "spearman", "unit": ""}, Errors()) == "error"
    )
    with pytest.raises(
        UserError, match="its metric 'spearman' is in '%', and 'error' of the task 'errors' in ''"
    ):
        metric_of(row | {"metric": "spearman"}, Errors())


def test_rows_of_one_table_are_filled_each_from_its_metric(registered, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "rows_from_elsewhere", lambda paper, table: [])
    quick = catalogue.scale("quick")
    scale = replace(quick, tables=quick.tables | {"cpdm/table7": specs.TableLimits(ipc=[50], n_networks=1)})
    monkeypatch.setattr(catalogue, "scale", lambda name: scale)
    plan, rows = seventh_table(monkeypatch, task=Errors(), sets={"other": "random"})
    by_metric = {row.metric: row for row in rows if row.runs}
    assert set(by_metric) == {"accuracy", "error"}, "the scale runs a row of each"
    for cell in plan.metrics_of("cpdm/table7"):
        metrics = {"accuracy": (80.0, "%"), "error": (0.25, "")}
        about = {
            "schema": 1,
            "kind": "metrics",
            "task": "errors",
            "key": cell.key,
            "n_networks": 1,
            "run": {},
        }
        about["metrics"] = {
            name: {"values": [value], "mean": value, "std": 0.0, "unit": unit}
            for name, (value, unit) in metrics.items()
        }
        write_json(tmp_path / cell.path, about)
        assert [one.recipe.name for one in cell.all_sets][1:] == ["random"]
    for metric, mean in (("accuracy", 80.0), ("error", 0.25)):
        assert {measured.measure(run, metric).mean for run in by_metric[metric].runs} == {mean}
    found = [record for record in records.records(plan, "cpdm/table7") if record.was_measured]
    told = {(record.values["metric"], float(record.values["measured"]), record.measure) for record in found}
    assert told == {("top1_accuracy", 80.0, "Test accuracy in %"), ("spearman", 0.25, "Test error")}
    assert "cpdm/table7" not in plan.accuracy_tables and "cpdm/table1" in plan.accuracy_tables


def test_what_a_table_does_not_measure_stays_empty_with_its_reason(monkeypatch):
    why = {"spearman": "no search yet", "top1_accuracy": "no search yet"}
    plan, rows = seventh_table(monkeypatch, not_measured=why)
    assert {(row.reason, row.runs) for row in rows} == {("no search yet", ())} and not plan.metrics_of(
        "cpdm/table7"
    )
    with pytest.raises(
        UserError, match="not_measured: unknown metric or setting 'sperman'; did you mean 'spearman'"
    ):
        seventh_table(monkeypatch, not_measured={"sperman": "x"})


def test_tables_of_tasks_that_they_cannot_show_are_refused():
    with pytest.raises(UserError, match="task: 'snapshots' gives curves over steps"):
        TableSpec("table", "cpdm", "7", "x", task=specs.Snapshots())
    with pytest.raises(UserError, match="sets: task drift needs 'style'"):
        TableSpec("table", "cpdm", "7", "x", task=Drift(ratio=0.5, stage=1))
    spec = TableSpec("table", "cpdm", "7", "x", task=Drift(ratio=0.5, stage=1), sets={"style": "dm"})
    assert replace(spec, note="y").task == spec.task


def test_a_measure_that_does_not_give_what_its_task_says_is_an_error_of_the_task(
    registered, monkeypatch, made, tmp_path
):
    monkeypatch.setitem(
        tasks.TASKS,
        "errors",
        lambda task, sets, tested, trainer: trainer.measured(sets.judged.by_step, lambda _: {}),
    )
    with pytest.raises(ValueError, match="a task says that it gives accuracy, error"):
        run(
            *evaluation(
                made.synthetic,
                made.digits,
                tmp_path / "x.json",
                "--task",
                "errors",
                "--with",
                f"other={made.synthetic}",
            )
        )


def test_losses_without_a_number_end_with_a_sentence(registered, monkeypatch, made, tmp_path):
    def lost(networks):
        return {"accuracy": [50.0], "error": [float(torch.tensor(torch.inf))]}

    monkeypatch.setitem(
        tasks.TASKS, "errors", lambda task, sets, tested, trainer: trainer.measured(sets.judged.by_step, lost)
    )
    said = refused(
        *evaluation(
            made.synthetic,
            made.digits,
            tmp_path / "x.json",
            "--task",
            "errors",
            "--with",
            f"other={made.synthetic}",
        )
    )
    assert "error: is no finite number for a trained network" in said
