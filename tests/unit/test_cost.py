"""What condensing costs: which iterations are measured, and memory that does not suffice."""

import json
from types import SimpleNamespace

import pytest
import torch
from bad_input_helpers import BRIEF, NET, recipe, refused, run

from condense import engines
from condense.command.show import describe
from condense.config import UserError
from condense.estimate.work import work_of
from condense.files import artifacts, metrics_in, read_metrics
from condense.jobs import costing
from condense.jobs.costing import Enough, Stopwatch, asked_in_vain
from condense.plan import Maker
from condense.plan.tables import Plan
from condense.plan.together import evaluations_together
from condense.report import records
from condense.specs import catalogue
from condense.specs.costs.work import Work
from condense.specs.tasks import Cost

CPU = torch.device("cpu")
TASK = json.dumps({"kind": "cost", "warmup": 1, "iterations": 2})
NAME = "cpdm/table3"
pytestmark = pytest.mark.usefixtures("one_thread")


def measuring(digits, out, *more, **changes):
    given = ("--recipe", recipe(**{"steps": 6} | changes), "--ipc", 1) if "--recipe" not in more else ()
    named = ("evaluate", "--task", TASK, "--data", digits, "--protocol", BRIEF, "--networks", 1)
    return (*named, *NET, "--out", out, *given, *more)


def test_a_stopwatch_ends_after_the_iterations_behind_the_warm_up(monkeypatch):
    told = iter([0.0, 5.0, 6.0, 8.0, 12.0])
    monkeypatch.setattr(costing.time, "perf_counter", lambda: next(told))
    watch = Stopwatch(2, 3, CPU)
    assert [watch.due() for _ in range(4)] == [False] * 4
    with pytest.raises(Enough):
        watch.due()
    assert watch.measured == [1.0, 2.0, 4.0] and watch.load(object) is None


def test_the_command_runs_so_many_iterations_and_writes_each(digits, tmp_path):
    out = tmp_path / "m.json"
    status, told = run(*measuring(digits, out))
    assert status == 0, told
    found = read_metrics(out, "cost")
    metrics, cost = metrics_in(found), found["cost"]
    assert len(cost["seconds"]) == 2 and cost["warmup"] == 1 and cost["iterations"] == 2
    assert metrics["speed"]["mean"] == sum(sorted(cost["seconds"])) / 2
    assert metrics["peak_memory"]["mean"] == found["run"]["peak_memory_bytes"] / 1e9
    assert cost["device"] == found["run"]["device"] and found["method"] == "dm" and found["ipc"] == 1
    assert "s/iter" in describe(out) and sorted(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    "error, more",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"), 2.5 * 2**30),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 640 bytes."), 640),
        (MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000000000,)"), 7.45 * 2**30),
        (MemoryError("Unable to allocate 2.00 EiB for an array with shape (288230376151711744,)"), 2 * 2**60),
        (MemoryError(), 0),
    ],
)
def test_memory_that_does_not_suffice_is_a_result(error, more, digits, tmp_path, monkeypatch):
    def lacking(name):
        def run(site, orders):
            raise error

        return run

    monkeypatch.setattr(engines, "engine", lacking)
    out = tmp_path / "m.json"
    status, told = run(*measuring(digits, out))
    assert status == 0, told
    found = read_metrics(out, "cost")
    assert found["out_of_memory"] == found["run"]["peak_memory_bytes"] + int(more)
    assert metrics_in(found) == {}
    assert "out of memory" in describe(out) and "GB needed" in describe(out)
    artifacts.write_json(out, found | {"metrics": {"speed": {}}})
    with pytest.raises(UserError):
        read_metrics(out, "cost")


def test_other_errors_are_no_want_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        asked_in_vain(RuntimeError("shapes cannot be multiplied"))


def test_what_is_not_measured_is_refused(digits, made, tmp_path):
    out = tmp_path / "m.json"
    for more, said in (
        (("--synthetic", made.synthetic), "--synthetic: the task 'cost' reads a recipe; leave"),
        (("--networks", 2), "measures a recipe once; give 1"),
        (("--method", "ed"), "--method: the recipe is that of 'dm'"),
        (("--recipe", "random", "--ipc", 1), "'random' takes no iterations"),
        (("--recipe", "cpdm", "--ipc", 1), "cpdm: uses a"),
        (("--with", f"teacher={made.teacher}"), "unknown name 'teacher'"),
    ):
        assert said in refused(*measuring(digits, out, *more)), more
    assert "1 + 2 iterations are asked for, and 'dm' has 3" in refused(*measuring(digits, out, steps=3))
    assert "--recipe: the task 'accuracy' reads a set" in refused(
        *measuring(digits, out, "--task", "accuracy", "--synthetic", made.synthetic)
    )
    for given in ({"warmup": 0}, {"iterations": 0}):
        with pytest.raises(UserError, match="must be at least 1"):
            Cost(**given)


def test_a_recipe_is_measured_without_its_set_but_with_what_is_made_before_it():
    scale = Plan("quick")
    cells = scale.metrics_of(NAME)
    assert [cell.synthetic.recipe.name for cell in cells] == ["ncfm", "ncfm_cpdm"]
    together = {cell.path for group in evaluations_together(scale) for cell in group.cells}
    for cell in cells:
        assert cell.all_sets == [] and cell.n_networks == 1 and cell.path not in together
        assert cell.parents and {parent.key for parent in cell.parents.values()} <= scale.parents.keys()
        whole, part = work_of(cell.synthetic), work_of(cell)
        assert part.flops_training == whole.flops_training * 15 / cell.synthetic.recipe.steps
        assert part.peak_bytes == whole.peak_bytes and isinstance(part, Work)
    maker = Maker(catalogue.scale("quick"))
    made = maker.synthetic("digits16", "cpdm", "convnet", 10, 0)
    one, other = (maker.metrics(made, "vit", "dc", 7, task) for task in (Cost(), Cost(iterations=9)))
    assert one.key != other.key and one.eval_arch == "convnet" and list(one.parents) == list(made.parents)


def test_the_table_names_the_device_and_says_what_did_not_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "rows_from_elsewhere", lambda paper, table: [])
    scale = Plan("quick")
    about = {"schema": 1, "kind": "metrics", "task": "cost", "n_networks": 1, "run": {"device": "a machine"}}
    values = {
        name: {"values": [0.25], "mean": 0.25, "std": 0.0, "unit": metric.unit}
        for name, metric in Cost.metrics.items()
    }
    for cell, given in zip(
        scale.metrics_of(NAME), ({"metrics": values}, {"out_of_memory": 81 * 10**9}), strict=True
    ):
        artifacts.write_json(tmp_path / cell.path, about | {"key": cell.key} | given)
    found = [record for record in records.records(scale, NAME) if record.was_measured]
    told = [(record.values["method"], record.values["measured"], record.device) for record in found]
    assert told.count(("ncfm", "0.25", "a machine")) == 1
    assert told.count(("ncfm_cpdm", "OOM (81 GB needed)", "a machine")) == 2
    assert {record.values["n_networks"] for record in found} == {""}
    assert SimpleNamespace(**found[0].values).measured_std == ""
