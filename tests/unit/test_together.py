"""Several evaluations in one process: which go together, what the job makes, and what it leaves to others."""

import os
import shlex
import signal
from dataclasses import replace

import pytest
from bad_input_helpers import evaluation, refused, run

from condense.command import cli
from condense.estimate.asked import Asked
from condense.estimate.jobs import jobs_behind
from condense.estimate.measured import Pace
from condense.estimate.rates import REFERENCE
from condense.estimate.schedule import graph
from condense.files import read_together
from condense.files.artifacts import read_json, write_json
from condense.plan import Maker
from condense.plan.tables import Plan
from condense.plan.together import evaluations_together

pytestmark = pytest.mark.usefixtures("one_thread")
TABLE = "cpdm/table14"


def plan_with(**changes):
    found = Plan("quick")
    found.scale = replace(found.scale, **changes)
    found.maker = Maker(found.scale)
    return found


def askers(plan, cell):
    return {name for name in plan.targets if cell.path in paths_of(plan, name)}


def paths_of(plan, name):
    return {cell.path for cell in [*plan.metrics_of(name), *plan.beside(name)]}


def test_evaluations_go_together_if_the_same_tables_show_them():
    plan = plan_with(evaluations_per_job=5, networks_per_job={"vit": 1})
    groups = evaluations_together(plan)
    paths = [cell.path for group in groups for cell in group.cells]
    assert len(paths) == len(set(paths)) > 100
    for group in groups:
        assert 2 <= len(group.cells) <= 5
        assert len({frozenset(askers(plan, cell)) for cell in group.cells}) == 1
    left = [cell for path, cell in plan.metrics.items() if path not in paths]
    assert any(cell.eval_arch == "vit" for cell in left)  # the scale splits it
    assert all(cell.eval_arch != "vit" for group in groups for cell in group.cells)
    assert {cell.path for cell in plan.metrics.values() if not cell.synthetic.recipe.makes_set} <= {
        cell.path for cell in left
    }
    assert len({group.path for group in groups}) == len(groups)
    assert evaluations_together(plan_with(evaluations_per_job=1)) == []


def test_what_is_made_moves_no_border(tmp_path, monkeypatch):
    before = evaluations_together(Plan("quick"))
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / before[0].cells[0].path, {})
    assert evaluations_together(Plan("quick")) == before


def test_a_job_of_several_is_reckoned_with_one_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan, alone = plan_with(), plan_with(evaluations_per_job=1)
    groups = [group for group in evaluations_together(plan) if TABLE in askers(plan, group.cells[0])]
    saved = sum(len(group.cells) - 1 for group in groups)
    seconds = [
        sum(node.seconds for node in graph(made, [TABLE], None, Pace(made.maker)) if node.stage == "evaluate")
        for made in (plan, alone)
    ]
    assert seconds[1] - seconds[0] == pytest.approx(saved * REFERENCE.start)
    cells = groups[0].cells
    need, needs = (
        Asked(plan.scale).need_together(cells),
        [Asked(plan.scale).need("evaluate", c) for c in cells],
    )
    assert max(each.seconds for each in needs) < need.seconds < sum(each.seconds for each in needs)
    assert need.host_bytes == max(each.host_bytes for each in needs)
    jobs = list(
        jobs_behind(
            plan, [TABLE], [plan.metrics[path] for path in paths_of(plan, TABLE)], whole=False, on_gpu=False
        )
    )
    evaluating = [job for job in jobs if job.stage == "evaluate"]
    assert len(evaluating) == len(paths_of(plan, TABLE)) - saved
    assert sum(job.stage == "join" for job in jobs) == saved + len(groups)


def command(made, out, *more):
    return shlex.join(str(word) for word in evaluation(made.synthetic, made.digits, out, *more))


def test_what_fails_is_told_and_left_and_the_others_are_made(made, tmp_path):
    first, bad, last = (tmp_path / f"{name}.json" for name in ("first", "bad", "last"))
    index = tmp_path / "index.json"
    words = [command(made, first), command(made, bad, "--arch", "no_net"), command(made, last)]
    status, told = run("together", "--index", index, *words)
    assert status == 0 and told.count("condense: ") == 1 and "no_net" in told
    assert read_together(index).made == [str(first), str(last)]
    alone = tmp_path / "alone.json"
    assert run(*evaluation(made.synthetic, made.digits, alone))[0] == 0
    told_after = [read_json(path)["run"].get("after", 0) for path in (first, last)]
    assert told_after[1] == told_after[0] + 2, "the one that failed began, too"
    values = [{**read_json(path), "run": None} for path in (alone, first, last)]
    assert values[0] == values[1] == values[2]


def test_an_error_of_ours_is_left_too(made, tmp_path, monkeypatch, caplog):
    def broken(args):
        raise ZeroDivisionError("a fault")

    monkeypatch.setitem(cli.VERBS, "evaluate", broken)
    assert run("together", "--index", tmp_path / "index.json", command(made, tmp_path / "a.json"))[0] == 0
    assert read_together(tmp_path / "index.json").made == []
    assert "was left to a job of its own" in caplog.text


def test_a_stop_ends_all_of_them_and_leaves_no_index(made, tmp_path, monkeypatch):
    begun = []

    def stopped(args):
        begun.append(args.out)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setitem(cli.VERBS, "evaluate", stopped)
    words = [command(made, tmp_path / f"{name}.json") for name in "ab"]
    status, told = run("together", "--index", tmp_path / "index.json", *words)
    assert status == cli.INTERRUPTED and "interrupted" in told
    assert len(begun) == 1 and not (tmp_path / "index.json").exists()


def test_only_evaluations_go_together(made, tmp_path):
    assert "list: only commands that begin with `evaluate`" in refused(
        "together", "--index", tmp_path / "index.json", "list methods"
    )
