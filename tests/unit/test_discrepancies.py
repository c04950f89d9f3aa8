"""Discrepancies of finished sets: those of a plain loop, 0 where a set is its real images, and a planted
ranking that the figure finds."""

import csv
import os
from pathlib import Path

import pytest
import torch
from bad_input_helpers import evaluation, refused, run
from interruption_helpers import Stopping, until_done
from matching_helpers import protocol
from report_helpers import RUN, metrics_of

from condense import models
from condense.config import UserError
from condense.discrepancy.kernels import kernel_mmd
from condense.evaluate.discrepancies import discrepancies
from condense.evaluate.trainer import TaskSet, TaskSets, Trainer
from condense.files import artifacts
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.plan.tables import Plan
from condense.report import figures
from condense.specs.tasks import Discrepancies
from condense.training.sets import tensor_set

CPU = torch.device("cpu")
SMALL = {"depth": 1, "width": 4}
FIGURE = "ours/figure2"
pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(a_class, seed, classes=10):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(a_class)
    return torch.randn(len(labels), 1, 8, 8, generator=rng), labels


def measured(train, made, real, task=Discrepancies(real=5), checkpoint=None):  # noqa: B008
    given = {"strategy": "none", "networks": (0, 1, 2), "seed": 5, "device": CPU}
    trainer = Trainer(
        train,
        protocol(precision="fp32"),
        "convnet",
        SMALL,
        metrics=Discrepancies.metrics,
        checkpoint=checkpoint or Checkpoint(None, ""),
        **given,
    )
    sets = TaskSets(TaskSet(None, {}, {0: lambda: tensor_set(*made)}), real=lambda: tensor_set(*real))
    return {name: by_step[0] for name, by_step in discrepancies(task, sets, None, trainer).items()}


def test_they_are_those_of_a_plain_loop(train):
    made, real = drawn(3, 0), drawn(8, 1)
    found = measured(train, made, real)
    for number in range(3):
        network = models.build("convnet", channels=1, size=8, classes=10, **SMALL)
        models.reinitialise(network, seeds.stream(5, "evaluation", number))
        wanted = {name: [] for name in Discrepancies.metrics}
        for label in range(10):
            stream = seeds.generator(5, "discrepancies", number, label)
            chosen = torch.randperm(8, generator=stream)[:5]
            with torch.no_grad():
                x = network.embed(real[0][real[1] == label][chosen]).flatten(1).double()
                s = network.embed(made[0][made[1] == label]).flatten(1).double()
            wanted["mean"].append((x.mean(0) - s.mean(0)).square().sum())
            wanted["variance"].append((x.var(0, correction=0) - s.var(0, correction=0)).square().sum())
            both = [torch.cov(side.T, correction=0) for side in (x, s)]
            wanted["covariance"].append((both[0] - both[1]).square().sum())
            wanted["energy"].append(
                2 * torch.cdist(x, s).mean() - torch.cdist(x, x).mean() - torch.cdist(s, s).mean()
            )
            wanted["kernel"].append(kernel_mmd(x, s))
        for name, values in wanted.items():
            assert found[name][number] == pytest.approx(float(sum(values)) / 10, rel=1e-4, abs=1e-6), name


def test_a_set_that_is_its_real_images_has_none_and_another_has_some(train):
    images, labels = drawn(4, 2)
    same = measured(train, (images, labels), (images, labels))
    near = measured(train, (1.3 * images + 0.2, labels), (images, labels))
    for name in Discrepancies.metrics:
        for number in range(3):
            assert abs(same[name][number]) < 1e-4 < near[name][number], name


def test_an_interrupted_measurement_goes_on(train, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    made, real = drawn(3, 0), drawn(8, 1)
    checkpoint = Stopping(tmp_path / "x.resume", "k")
    calls, found = until_done(lambda: measured(train, made, real, checkpoint=checkpoint))
    assert calls > 1 and found == measured(train, made, real)


def test_a_set_without_images_of_a_class_and_a_single_real_image_are_refused(train, made, digits, tmp_path):
    images, labels = drawn(2, 0, classes=9)
    with pytest.raises(UserError, match="has no image of class 9"):
        measured(train, (images, labels), drawn(4, 1))
    task = '{"kind": "discrepancies", "real": 1}'
    command = evaluation(made.synthetic, digits, tmp_path / "a.json", "--task", task)
    assert "real: must be at least 2, found 1" in refused(*command)


def test_the_command_measures_a_set(made, digits, tmp_path):
    out = tmp_path / "a.json"
    status, told = run(*evaluation(made.synthetic, digits, out, "--task", "discrepancies", "--networks", 2))
    assert status == 0, told
    assert all(len(found["values"]) == 2 for found in artifacts.read_json(out)["metrics"].values())


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A folder in which the accuracy of every method of the figure falls as its 'mean' grows, and rises with
    its 'energy'."""
    monkeypatch.chdir(tmp_path)
    scale = Plan("quick")
    for rank, curve in enumerate(scale.figures[FIGURE].curves):
        for cell in curve.cells:
            networks = range(cell.n_networks)
            if cell.task.comparable:
                by_metric = {"accuracy": {0: [90.0 - rank + 0.1 * number for number in networks]}}
            else:
                by_metric = {name: {0: [1.0 for _ in networks]} for name in cell.task.metrics}
                by_metric["mean"] = {0: [2.0**rank for _ in networks]}
                by_metric["energy"] = {0: [100.0 - rank for _ in networks]}
            first = next(iter(by_metric.values()))
            artifacts.write_json(Path(cell.path), metrics_of(cell, first, by_metric) | {"run": RUN})
    return scale


def test_the_figure_finds_a_planted_ranking(planted):
    figures.make_figure(planted, FIGURE, Path("figure.png"))
    with open("figure.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {row["metric"]: float(row["spearman"]) for row in rows}
    assert found["mean"] == -1.0 and found["energy"] == 1.0 and found["kernel"] == 0.0
    assert len({row["method"] for row in rows}) == len(planted.figures[FIGURE].curves) > 10
    assert os.path.getsize("figure.png") > 10_000
