"""Similarity of gradients: against gradients of one plain pass, where it must be 1, and what is refused."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from bad_input_helpers import evaluation, refused, run
from interruption_helpers import Stopping, until_done
from matching_helpers import protocol
from report_helpers import made_up_metrics, rows_of

from condense import models
from condense.config import UserError, convert
from condense.estimate.work import work_of
from condense.evaluate.gradient_similarity import cosine, gradient_similarity
from condense.evaluate.trainer import TaskSet, TaskSets, Trainer
from condense.files import metrics_in, read_metrics
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.plan import Maker
from condense.plan.tables import Plan
from condense.report import figures
from condense.specs import FigureSpec, catalogue
from condense.specs.tasks import GradientSimilarity, Snapshots
from condense.training.sets import Targets, tensor_set

CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
SMALL = {"depth": 1, "width": 4}
NAME = "edc/figure2c_below"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("similarity")
    made_up_metrics(folder)
    return folder


def drawn_set(images, seed, name="the set"):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(10).repeat(images // 10)
    return tensor_set(torch.randn(images, 1, 8, 8, generator=rng), labels, name=name)


def trainer(train, arch="convnet", networks=(0, 1, 2), checkpoint=NOWHERE, **changes):
    rules = protocol(precision="fp32", **changes)
    given = {"strategy": "none", "networks": networks, "seed": 5, "checkpoint": checkpoint, "device": CPU}
    return Trainer(train, rules, arch, SMALL, metrics=GradientSimilarity.metrics, **given)


def similar(trainer, made, real, batch):
    sets = TaskSets(TaskSet(None, {}, {0: lambda: made}), real=lambda: real)
    found = gradient_similarity(GradientSimilarity(batch=batch), sets, real, trainer)
    assert {tuple(by_step) for by_step in found.values()} == {(0,)}
    return {name: by_step[0] for name, by_step in found.items()}


def plain_gradient(network, images, labels):
    network.zero_grad()
    F.cross_entropy(network(images), labels).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).double()


def test_the_cosines_are_those_of_gradients_of_one_pass_each(train):
    """The batches are the first of the named streams; the gradient of all real images is that of one pass."""
    made, real = drawn_set(30, 0), drawn_set(70, 1)
    found = similar(trainer(train), made, real, 8)
    for number in range(3):
        network = models.build("convnet", channels=1, size=8, classes=10, **SMALL)
        models.reinitialise(network, seeds.stream(5, "evaluation", number))
        whole = plain_gradient(network, real.fetch(torch.arange(70)), real.labels)
        for name, images, side in (("similarity", made, "set"), ("real_similarity", real, "real")):
            stream = seeds.generator(5, "gradient-similarity", number, side)
            rows = torch.randperm(len(images), generator=stream)[:8]
            batch = plain_gradient(network, images.fetch(rows), images.labels[rows])
            wanted = (batch @ whole / batch.norm() / whole.norm()).item()
            assert found[name][number] == pytest.approx(wanted, abs=1e-5)
    assert len({round(value, 4) for values in found.values() for value in values}) == 6


def test_cosines_by_hand():
    cases = torch.tensor([3.0, 4.0]), torch.tensor([4.0, -3.0]), torch.tensor([-6.0, -8.0])
    assert [cosine(cases[0], other) for other in cases] == [1.0, 0.0, -1.0]
    with pytest.raises(UserError, match="which has no direction"):
        cosine(cases[0], torch.zeros(2))


@pytest.mark.parametrize("arch", ["convnet", "convnet_bn"])
def test_a_set_of_all_real_images_is_as_similar_as_can_be(train, arch):
    real = drawn_set(40, 2)
    found = similar(trainer(train, arch), real, real, 40)
    assert [value for values in found.values() for value in values] == pytest.approx([1.0] * 6, abs=1e-6)


def test_networks_do_not_depend_on_each_other_nor_on_interruptions(train, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    made, real = drawn_set(20, 0), drawn_set(30, 1)
    whole = similar(trainer(train), made, real, 5)
    alone = similar(trainer(train, networks=(2,)), made, real, 5)
    assert {name: [values[2]] for name, values in whole.items()} == alone
    stopping = trainer(train, checkpoint=Stopping(tmp_path / "c.resume", "k"))
    calls, broken = until_done(lambda: similar(stopping, made, real, 5))
    assert calls == 3 and broken == whole


def test_soft_labels_count_where_the_protocol_says_so(train):
    """With the classes themselves as probabilities nothing changes; with others the gradient does."""
    made, real = drawn_set(20, 0), drawn_set(30, 1)
    hard = similar(trainer(train), made, real, 5)
    same = replace(made, targets=Targets(F.one_hot(made.labels, 10).float(), "probabilities"))
    other = replace(made, targets=Targets(same.targets.values.roll(1, 0), "probabilities"))
    soft = trainer(train, loss={"name": "soft"})
    assert similar(soft, same, real, 5)["similarity"] == pytest.approx(hard["similarity"], abs=1e-6)
    assert similar(soft, other, real, 5)["similarity"] != pytest.approx(hard["similarity"], abs=1e-2)
    with pytest.raises(UserError, match="compares with soft labels, and the set has none"):
        similar(soft, made, real, 5)


def test_a_batch_that_is_larger_than_the_set_is_refused(train, made, tmp_path):
    with pytest.raises(UserError, match="batch: 21 images are asked for, and the set has 20: give a batch"):
        similar(trainer(train), drawn_set(20, 0), drawn_set(30, 1), 21)
    given = ("--task", '{"kind": "gradient_similarity"}')
    assert "batch: 50 images are asked for" in refused(
        *evaluation(made.synthetic, made.digits, tmp_path / "m.json", *given)
    )
    with pytest.raises(UserError, match="batch: must be at least 1"):
        GradientSimilarity(batch=0)


def test_the_command_writes_every_value_and_says_what_it_measured(made, tmp_path):
    given = ("--networks", 3, "--task", '{"kind": "gradient_similarity", "batch": 5}')
    out, other = tmp_path / "m.json", tmp_path / "n.json"
    assert run(*evaluation(made.synthetic, made.digits, out, *given))[0] == 0
    assert run(*evaluation(made.synthetic, made.digits, other, *given, "--part", "1"))[0] == 0
    metrics = metrics_in(read_metrics(out, "gradient_similarity"))
    assert [len(metrics[name]["values"]) for name in GradientSimilarity.metrics] == [3, 3]
    assert all(-1 < value < 1 for about in metrics.values() for value in about["values"])
    no_set = ("evaluate", "--data", made.digits, "--method", "whole", "--protocol", "dc", "--networks", 1)
    said = refused(*no_set, "--arch", "convnet", *given[2:], "--out", tmp_path / "x.json")
    assert "--synthetic must name the set whose batches are compared" in said


def test_its_cost_is_that_of_a_pass_over_the_real_images_a_network():
    maker = Maker(catalogue.scale("quick"))
    synthetic = maker.synthetic("digits16", "dm", "convnet", 10, 0)
    cell, twice = (
        maker.metrics(synthetic, "resnet18_bn", "dc", count, GradientSimilarity()) for count in (4, 8)
    )
    network, train = synthetic.data.profile(cell.eval_arch, cell.options), synthetic.data.spec.train
    work = work_of(cell)
    assert work.flops_training == 4 * (train + 100) * 3 * network.forward and work.flops_forward == 0
    assert work_of(twice).flops_training == 2 * work.flops_training
    assert math.isclose(work.calls_training, 4 * network.layers * (2 + train / 50))


FIGURE = {
    **{"kind": "figure", "paper": "edc", "figure": "9", "title": "t", "dataset": "cifar10"},
    **{"methods": ["dm"], "ipc": [10], "draw": "distribution"},
}


def test_a_figure_of_values_says_of_which_task():
    task = convert(FigureSpec, FIGURE | {"task": "gradient_similarity", "networks": 3}, "f").task
    assert task == GradientSimilarity()
    for change, said in (
        ({}, "task: is needed for 'draw: distribution'"),
        ({"task": Snapshots()}, "shows single values of networks, which 'snapshots' does not give"),
        ({"task": GradientSimilarity(), "networks": 0}, "networks: must be at least 1"),
        ({"task": {"kind": "drift", "ratio": 0, "stage": 1}}, "task: task drift needs 'style'"),
        ({"draw": "images", "networks": 3}, "networks: this figure is drawn of sets"),
    ):
        with pytest.raises(UserError, match=said):
            convert(FigureSpec, FIGURE | change, "f")


def test_every_value_is_drawn_and_written(here, tmp_path):
    scale = Plan("quick")
    figures.make_figure(scale, NAME, tmp_path / "f.png")
    rows = rows_of(tmp_path / "f.csv")
    drawn = [(row["method"], row["metric"], row["network"], row["value"]) for row in rows]
    methods = [curve.method for curve in scale.figures[NAME].curves]
    values = [("0", "0.6"), ("1", "0.61"), ("2", "0.62")]
    wanted = [(method, "similarity", *value) for method in methods for value in values]
    assert drawn == [*wanted, *(("", "real_similarity", *value) for value in values)]
    assert methods == ["edc", "dm", "ed", "cpdm"] and Path(tmp_path / "f.svg").stat().st_size
    missing = scale.figures[NAME].missing
    assert list(missing) == ["sre2l"]
    assert missing["sre2l"].startswith("its images are made for soft labels")
    figures.make_figure(scale, NAME, tmp_path / "again" / "f.png")
    assert (tmp_path / "again" / "f.svg").read_bytes() == (tmp_path / "f.svg").read_bytes()


def test_a_figure_names_its_own_number_of_networks():
    of_scale = {cell.n_networks for cell in Plan("quick").metrics_of(NAME)}
    of_figure = {cell.n_networks for cell in Plan("paper").metrics_of(NAME)}
    assert of_scale == {6} and of_figure == {100}
