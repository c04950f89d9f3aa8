"""Test passes over a training: they change nothing in it, and the best of them is that of a plain loop."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bad_input_helpers import evaluation, refused, run
from interruption_helpers import Stopping, until_done
from report_helpers import metrics_of, rows_of

from condense.config import UserError, merged, read
from condense.data.dataset import load
from condense.estimate.work import work_of
from condense.evaluate.following import Following
from condense.evaluate.protocols import Evaluation, evaluate, train_and_measure
from condense.evaluate.trained import measured_accuracy
from condense.files import artifacts, metrics_in, read_metrics
from condense.files.checkpoints import Checkpoint
from condense.plan.tables import Plan
from condense.report import fair, tables
from condense.specs import Protocol, catalogue
from condense.specs.tasks import Followed
from condense.training.following import Follower, epochs_of_passes
from condense.training.sets import pixel_set, tensor_set

CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
ALL = "color_crop_cutout_flip_scale_rotate"
SMALL = {"depth": 2, "width": 8}
VIT = {"depth": 1, "dim": 8, "heads": 1, "head_dim": 4, "mlp": 8}
STEADY = {
    **{"name": "steady", "title": "constant rate", "source": {"paper": "ours"}, "epochs": 6, "batch": 16},
    "optimizer": {"lr": 0.01, "momentum": 0.9, "weight_decay": 5.0e-4},
    **{"schedule": {"kind": "constant"}, "precision": "fp32"},
}
TABLE = "cpdm/table1"
METRICS = Followed(tests=1).metrics
pytestmark = pytest.mark.usefixtures("one_thread")


def protocol(**changes):
    return read(Protocol, merged(STEADY, changes), "test")


@pytest.fixture(scope="module")
def few(digits):
    """Forty training images, four a class, as a training set, and the test images."""
    data = load(digits / "train.safetensors")
    chosen = np.concatenate([np.arange(at, at + 4) for at in np.cumsum([0, *data.counts[:-1]])])
    chosen = torch.from_numpy(chosen)
    images = tensor_set(data.normalise(data.images[chosen]), data.labels[chosen])
    return images, load(digits / "test.safetensors")


def settings(arch="convnet", options=SMALL, checkpoint=NOWHERE, count=2, **more):
    given = {"arch": arch, "options": options, "strategy": ALL, "seed": 0, "device": CPU}
    return given | {"networks": range(count), "checkpoint": checkpoint} | more


def followed(few, rules, passes, **given):
    tested, given = pixel_set(few[1], CPU), settings(**given)
    how = {name: given.pop(name) for name in ("checkpoint", "at_once") if name in given}
    return train_and_measure(
        Evaluation(few[1], rules, metrics=METRICS, **given),
        few[0],
        lambda networks: measured_accuracy(tested, networks),
        following=Following(passes, "accuracy", "best_accuracy"),
        **how,
    )


UNLIKE = {
    "all that draws": (protocol(augment="all", cutmix=0.5), {}),
    "dropout": (protocol(), {"arch": "vit", "options": VIT}),
    "batch norm": (protocol(), {"arch": "convnet_bn"}),
    "an average": (protocol(average={"decay": 0.9}), {}),
    "at once": (protocol(), {"at_once": 2}),
    "at once, an average": (protocol(average={"decay": 0.9}), {"at_once": 2}),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_the_last_accuracy_is_bit_by_bit_that_without_following(few, name):
    rules, given = UNLIKE[name]
    alone = evaluate(*few, rules, **settings(**given))
    assert followed(few, rules, 3, **given)["accuracy"] == alone
    assert followed(few, rules, 6, **given)["accuracy"] == alone


@pytest.mark.parametrize("average", [None, {"decay": 0.5}])
@pytest.mark.parametrize("at_once", [1, 2])
def test_the_best_is_that_of_separate_trainings_up_to_each_pass(few, average, at_once):
    """Under a constant rate a training of six epochs begins as one of two does."""
    rules = protocol(average=average, optimizer={"lr": 0.2})
    plain = [
        evaluate(*few, replace(rules, epochs=epochs), **settings(at_once=at_once)) for epochs in (2, 4, 6)
    ]
    found = followed(few, rules, 3, at_once=at_once)
    assert found["accuracy"] == plain[-1]
    assert found["best_accuracy"] == [max(values) for values in zip(*plain, strict=True)]
    only = followed(few, rules, 1, at_once=at_once)
    assert only["best_accuracy"] == only["accuracy"] == plain[-1]


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_interrupted_training_remembers_its_passes(few, tmp_path, monkeypatch, at_once):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    rules = protocol(optimizer={"lr": 0.5})
    whole = followed(few, rules, 6, at_once=at_once)
    assert whole["best_accuracy"] != whole["accuracy"]
    checkpoint = Stopping(tmp_path / "x.resume", "k")
    calls, found = until_done(lambda: followed(few, rules, 6, at_once=at_once, checkpoint=checkpoint))
    assert calls > 5 and found == whole


def test_a_follower_tells_what_it_must_have_seen():
    follower = Follower([2, 4], 2, lambda: [50.0, 60.0])
    network = torch.nn.Linear(1, 1)
    for done in (1, 2, 3):
        follower.see(done, network, None)
    assert network.training and follower.fits(3) and follower.fits(2)
    assert not follower.fits(1) and not follower.fits(4)
    assert follower.best([55.0, 55.0]) == [55.0, 60.0]


def test_passes_are_spread_evenly_and_the_last_is_at_the_end():
    assert epochs_of_passes(4, 8) == [2, 4, 6, 8] and epochs_of_passes(1, 5) == [5]
    assert epochs_of_passes(3, 10) == [3, 7, 10] and epochs_of_passes(5, 5) == [1, 2, 3, 4, 5]
    after = epochs_of_passes(20, 1001)
    assert (
        len(set(after)) == 20
        and after[-1] == 1001
        and {b - a for a, b in zip(after, after[1:], strict=False)} == {50, 51}
    )
    with pytest.raises(UserError, match="tests: 6 test passes are asked for over a training of 5 epochs"):
        epochs_of_passes(6, 5)


def test_the_command_gives_last_and_best_whole_or_in_parts(made, tmp_path):
    task, long = json.dumps({"kind": "followed", "tests": 2}), json.dumps(STEADY | {"epochs": 3})

    def judged(name, *more):
        given = (made.synthetic, made.digits, tmp_path / name, "--networks", 2, "--protocol", long)
        status, told = run(*evaluation(*given, *more))
        assert status == 0, told
        return tmp_path / name

    whole, plain = judged("whole.json", "--task", task), judged("plain.json")
    parts = [judged(f"{part}.json", "--task", task, "--part", part) for part in ("0", "1")]
    assert run("join", "--parts", *parts, "--out", tmp_path / "joined.json")[0] == 0
    found = read_metrics(whole, "followed")
    assert found["followed"] == {"tests": 2}
    assert metrics_in(found) == metrics_in(read_metrics(tmp_path / "joined.json", "followed"))
    assert metrics_in(found)["accuracy"]["values"] == read_metrics(plain, "condense")["accuracies"]
    assert "the key 'tests' is missing" in refused(
        *evaluation(made.synthetic, made.digits, tmp_path / "x.json", "--task", "followed")
    )


@pytest.fixture
def only_table(monkeypatch):
    """Scale quick with one table, and one figure of snapshots."""
    known = {name: Plan.specs_by_path()[name] for name in (TABLE, "cpdm/figure2")}
    monkeypatch.setattr(Plan, "specs_by_path", staticmethod(lambda: known))
    scale = catalogue.scale("quick")
    return replace(scale, tables={"cpdm/figure2": scale.tables["cpdm/figure2"]})


def following(scale, monkeypatch, follow):
    monkeypatch.setattr(catalogue, "scale", lambda name: replace(scale, follow=follow))
    return Plan("quick")


def test_a_scale_that_follows_asks_for_other_evaluations_of_the_same_sets(only_table, monkeypatch):
    plain, plan = (following(only_table, monkeypatch, tests) for tests in (0, 40))
    kinds = {cell.task.kind for cell in plan.metrics.values()}
    assert kinds == {"followed", "snapshots"} and not plain.scale.follow
    assert plan.synthetic.keys() == plain.synthetic.keys() and len(plan.metrics) == len(plain.metrics)
    for before, after in zip(plain.metrics.values(), plan.metrics.values(), strict=True):
        assert after.judge == before.judge and after.synthetic.key == before.synthetic.key
        if before.task.kind != "accuracy":
            assert after == before
            continue
        tests = min(40, after.protocol.epochs)  # 30 where it trains on the whole training set
        assert after.task == Followed(tests=tests) and after.key != before.key
    (table,) = (name for name in plan.tables)
    first = plan.metrics_of(table)[0]
    assert work_of(first).flops_forward == 40 * work_of(plain.metrics_of(table)[0]).flops_forward
    assert plan.comparable.by_place.keys() == plain.comparable.by_place.keys()


def test_tables_show_the_best_beside_the_last_with_its_number_of_passes(only_table, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plan = following(only_table, monkeypatch, 20)
    given = {"accuracy": {0: [60.0, 62.0]}, "best_accuracy": {0: [64.0, 67.0]}}
    for path, cell in plan.metrics.items():
        by_metric = given if cell.task.best else None
        artifacts.write_json(Path(path), metrics_of(cell, given["accuracy"], by_metric) | {"run": {}})
    tables.make_table(plan, TABLE, Path("t.csv"))
    rows = [row for row in rows_of("t.csv") if row["measured"]]
    assert {(row["measured"], row["best"], row["best_std"], row["best_of"]) for row in rows} == {
        ("61.0", "65.5", "1.5", "20")
    }
    text = Path("t.md").read_text(encoding="utf-8")
    assert "| Method | Accuracy (last) | Random | Herding | Over random | Best of 20 test passes |" in text
    assert "| DM | **61.0 ± 1.0** | 61.0 ± 1.0 | 61.0 ± 1.0 | +0.0 | 65.5 ± 1.5 |" in text
    first = fair.comparisons(plan)[0].block
    at = first.columns.index("Best of 20 test passes")
    assert all(line.cells[at][0].published == "65.5 ± 1.5" for line in first.groups[0][1])
