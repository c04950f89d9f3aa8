"""An evaluation in parts is that in one job; what is no part of it is refused; which evaluations a scale
splits."""

import json
from dataclasses import replace

import pytest
from bad_input_helpers import BRIEF, NET, evaluation, refused, run

from condense import jobs
from condense.config import UserError
from condense.files.artifacts import read_json
from condense.jobs.facts import joined_facts
from condense.plan.manifests import manifest
from condense.plan.tables import Plan
from condense.specs import catalogue

pytestmark = pytest.mark.usefixtures("one_thread")
JUDGED = ("evaluate", "--protocol", BRIEF, "--networks", 1, *NET)
WHOLE = (*JUDGED, "--method", "whole")


def judged(made, out, *more):
    status, told = run(*evaluation(made.synthetic, made.digits, out, "--networks", 3, *more))
    assert status == 0, told
    return out


@pytest.fixture(scope="module")
def parts(made, tmp_path_factory):
    """Networks 0 and 1, and network 2, of an evaluation of three."""
    folder = tmp_path_factory.mktemp("parts")
    return [judged(made, folder / f"{part}.json", "--part", part) for part in ("0-1", "2")]


def without_run(path):
    """The bytes of a metrics file without its run."""
    value = read_json(path)
    value.pop("run")
    return json.dumps(value)


def joined(out, *parts):
    status, told = run("join", "--parts", *parts, "--out", out)
    assert status == 0, told
    return out


def test_joined_parts_are_the_metrics_of_one_job(made, parts, tmp_path):
    whole = judged(made, tmp_path / "whole.json")
    for order in (parts, parts[::-1]):
        out = joined(tmp_path / "joined.json", *order)
        assert without_run(out) == without_run(whole)
        assert out.read_text().split('"run": {')[0] == whole.read_text().split('"run": {')[0]
    costs, run_facts = [read_json(part)["run"] for part in parts], read_json(out)["run"]
    assert run_facts["seconds"] == pytest.approx(sum(cost["seconds"] for cost in costs), abs=1e-3)
    assert run_facts["peak_memory_bytes"] == max(cost["peak_memory_bytes"] for cost in costs)
    assert run_facts["jobs"] == 2 and run_facts["device"] == costs[0]["device"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["joined.json", "whole.json"]


def test_costs_add_up_and_memory_does_not():
    first, second = (
        {"seconds": s, "peak_memory_bytes": m, "device": d} for s, m, d in ((1.5, 7, "a"), (2.25, 9, "b"))
    )
    assert joined_facts([first, second]) == {
        "seconds": 3.75,
        "peak_memory_bytes": 9,
        "device": "a",
        "jobs": 2,
    }


@pytest.mark.parametrize("what", ["snapshots", "whole set"])
def test_snapshots_and_the_whole_set_are_split_alike(what, digits, tmp_path):
    if what == "snapshots":
        changes = [("test", {"steps": 4, "batch_real": 8, "snapshots": 2})]
        recipe = catalogue.resolve(catalogue.recipe("dm"), "digits", "none", 1, changes)
        network = {"arch": "convnet", "options": {"depth": 1, "width": 4}}
        shard = jobs.ShardJob(recipe, digits / "train.safetensors", **network, ipc=1, seed=0, key="k")
        jobs.condense_shard(tmp_path / "shard.safetensors", shard, jobs.Machine("cpu", 1))
        jobs.gather(
            tmp_path / "synthetic.safetensors", [tmp_path / "shard.safetensors"], digits / "train.safetensors"
        )
        given = ("--task", "snapshots", "--synthetic", tmp_path / "snapshots.safetensors")
    else:
        given = ("--method", "whole")
    command = (*JUDGED, *given, "--data", digits, "--networks", 2)
    for name, more in (("all", ()), ("a", ("--part", "0")), ("b", ("--part", "1-1"))):
        assert run(*command, "--out", tmp_path / f"{name}.json", *more)[0] == 0
    out = joined(tmp_path / "joined.json", tmp_path / "b.json", tmp_path / "a.json")
    assert without_run(out) == without_run(tmp_path / "all.json")
    assert len(read_json(out)["accuracies"]) == 2 and (
        what == "whole set" or read_json(out)["steps"] == [2, 4]
    )


class Cut(jobs.judging.Checkpoint):
    """Interrupts after every save."""

    def save(self, tensors, state):
        super().save(tensors, state)
        raise KeyboardInterrupt

    def part(self, name):
        return Cut(self.path.with_name(f"{self.path.name}.{name}"), f"{self.key}-{name}")


def test_a_part_that_was_cut_off_goes_on_and_not_from_another_parts_checkpoint(
    made, parts, tmp_path, monkeypatch
):
    out = tmp_path / "part.json"
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr("condense.jobs.judging.Checkpoint", Cut)
    again = evaluation(made.synthetic, made.digits, out, "--networks", 3, "--part", "0-1")
    other = evaluation(made.synthetic, made.digits, out, "--networks", 3, "--part", "1-2")
    statuses = [run(*other)[0], *(run(*again)[0] for _ in range(20))]
    assert statuses[:2] == [130, 130] and statuses[-1] == 0
    assert without_run(out) == without_run(parts[0])


def test_files_that_do_not_make_an_evaluation_are_refused(made, parts, tmp_path):
    first, last = parts
    out = tmp_path / "out.json"
    assert "networks [0, 1] instead of each of 3 once" in refused("join", "--parts", first, "--out", out)
    assert "networks [0, 1, 0, 1, 2]" in refused("join", "--parts", first, last, first, "--out", out)
    overlapping = judged(made, tmp_path / "overlapping.json", "--part", "1-2")
    assert "networks [0, 1, 1, 2]" in refused("join", "--parts", overlapping, first, "--out", out)
    for more, name in (
        (("--key", "another"), "key"),
        (("--networks", 4), "n_networks"),
        (("--seed", 1), "seed"),
    ):
        other = judged(made, tmp_path / f"{name}.json", *more, "--part", "2-2")
        assert f"{name}.json: is a part of another evaluation" in refused(
            "join", "--parts", first, other, "--out", out
        )
    assert "holds 'metrics', but a part" in refused("join", "--parts", made.metrics, "--out", out)
    assert "network 3 is not among the 3" in refused(
        *evaluation(made.synthetic, made.digits, out, "--networks", 3, "--part", "2-3")
    )
    assert not out.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"accuracies": [[0, [50.0]]]},
        {"accuracies": []},
        {"accuracies": [[0, [50.0, 101.0]]]},
        {"accuracies": [[0, [50.0, float("nan")]]]},
        {"accuracies": [[2, [50.0, 51.0]]]},
        {"accuracies": "none"},
        {"networks": [1, 0]},
        {"networks": 3},
        {"n_networks": "3"},
        {"task": "other"},
        {"run": {"seconds": "1"}},
    ],
)
def test_a_part_that_was_changed_is_called_damaged(change, parts, tmp_path):
    path = tmp_path / "part.json"
    path.write_text(json.dumps(read_json(parts[0]) | change))
    assert f"{path}: damaged" in refused("join", "--parts", path, parts[1], "--out", tmp_path / "out.json")


def test_a_scale_splits_by_architecture_and_more_narrowly_by_dataset():
    plan = Plan("quick")
    cells = {
        cell.eval_arch: replace(cell, n_networks=3)
        for cell in plan.metrics.values()
        if cell.synthetic.data.name == "digits16"
    }
    assert plan.parts(cells["convnet"]) == ["0-2"]
    plan.scale = replace(plan.scale, networks_per_job={"convnet": 2})
    assert plan.parts(cells["convnet"]) == ["0-1", "2-2"]
    plan.scale = replace(
        plan.scale, networks_per_job={"convnet": 2, "convnet/digits16": 5, "convnet/cifar10": 1}
    )
    assert plan.parts(cells["convnet"]) == ["0-2"]
    place = cells["convnet"].path.removeprefix("results/metrics/").removesuffix(".json")
    assert cells["convnet"].part_path("0-1") == f"results/parts/{place}/networks0-1.json"


@pytest.mark.parametrize(
    "name, said",
    [
        ("resnet125", "unknown evaluation architecture 'resnet125'; did you mean 'resnet152'"),
        ("convnet/digits61", "unknown dataset 'digits61'; did you mean 'digits16'"),
        ("convnet/tinyimagenet", "unknown dataset 'tinyimagenet'"),
    ],
)
def test_a_split_of_what_is_not_evaluated_is_refused(name, said, monkeypatch):
    scale = replace(catalogue.scale("quick"), networks_per_job={name: 1})
    monkeypatch.setattr(catalogue, "scale", lambda wanted: scale)
    with pytest.raises(UserError, match=f"quick.yaml: networks_per_job: {said}"):
        Plan("quick")


def test_the_split_enters_no_key_and_no_manifest(monkeypatch):
    plain = Plan("quick")
    scale = replace(plain.scale, networks_per_job={"convnet": 1})
    monkeypatch.setattr(catalogue, "scale", lambda wanted: scale)
    assert list(Plan("quick").metrics) == list(plain.metrics)
    assert manifest(Plan("quick"), "cpdm/table1") == manifest(plain, "cpdm/table1")
