"""Sharpness: estimates against whole Hessians of tiny problems, and one training for all snapshots."""

import math

import pytest
import torch
import torch.nn.functional as F
from bad_input_helpers import NET, recipe, run
from interruption_helpers import Stopping, until_done
from matching_helpers import protocol
from report_helpers import metrics_of, rows_of
from torch import nn

from condense import models
from condense.config import UserError
from condense.estimate.work import work_of
from condense.evaluate.sharpness import measured_sharpness, sharpness
from condense.evaluate.trained import TrainedNetworks
from condense.evaluate.trainer import TaskSet, TaskSets, Trainer
from condense.files import artifacts, metrics_in, read_metrics
from condense.files.checkpoints import Checkpoint
from condense.plan import Maker
from condense.plan.tables import Plan
from condense.report import figures
from condense.specs import catalogue
from condense.specs.tasks import Sharpness
from condense.training.losses import Loss
from condense.training.sets import tensor_set
from condense.training.stacked import Stacked

CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
SMALL = {"depth": 1, "width": 4}
NAME = "edc/figure2c_above"
pytestmark = pytest.mark.usefixtures("one_thread")


def drawn_networks(count, size):
    built = [models.build("convnet", channels=1, size=size, classes=3, **SMALL) for _ in range(count)]
    for seed, network in enumerate(built):
        models.reinitialise(network, seed)
        # Such that the loss bends
        network.classifier.weight.data *= 5
    return built


def drawn_set(images, size=8, seed=0, classes=10):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    return tensor_set(torch.randn(images, 1, size, size, generator=rng), labels)


def estimated(network, images, probes, seed=0, batch=None):
    networks = TrainedNetworks(network, torch.float32)
    return measured_sharpness(networks, images, Loss(None), None, probes, seed)


def whole_hessian(network, images):
    """The Hessian (n, n) of the mean loss by all pixels of all images, entry by entry."""
    start = images.fetch(torch.arange(len(images)))

    def loss(pixels):
        return F.cross_entropy(network(pixels.view_as(start)), images.labels)

    return torch.autograd.functional.hessian(loss, start.flatten())


def test_the_estimate_is_the_norm_of_the_whole_hessian():
    """A network with norms, pooling and ReLU on three images of 4 x 4 pixels. The error of 4,000 probes is
    about a percent."""
    (network,), images = drawn_networks(1, 4), drawn_set(3, 4, classes=3)
    wide = network.eval().double()
    images = tensor_set(images.fetch(torch.arange(3)).double(), images.labels)
    wanted = whole_hessian(wide, images)
    assert torch.allclose(wanted, wanted.T, atol=1e-8)
    found = estimated(wide, images, 4000)
    assert found["sharpness"].item() == pytest.approx(wanted.norm().item(), rel=0.05) and wanted.norm() > 1e-3
    plain = F.cross_entropy(wide(images.fetch(torch.arange(3))), images.labels)
    assert found["loss"].item() == pytest.approx(plain.item())


class Quadratic(nn.Module):
    """Two logits of which the loss of class 0 is softplus(w x^2): a Hessian that is diagonal."""

    def forward(self, images):
        return torch.stack([torch.zeros(len(images)), images.flatten(1).square().sum(1)], 1).to(images)


def test_of_a_diagonal_hessian_every_probe_gives_the_norm():
    """softplus(x^2) has the second derivative 2 s + 4 x^2 s (1 - s), s its sigmoid: one pixel an image."""
    x = torch.tensor([0.3, -0.8, 1.5], dtype=torch.float64).view(3, 1, 1, 1)
    found = estimated(Quadratic(), tensor_set(x, torch.zeros(3, dtype=torch.long)), 1)
    s = torch.sigmoid(x.square())
    bends = (2 * s + 4 * x.square() * s * (1 - s)) / 3
    assert found["sharpness"].item() == pytest.approx(bends.norm().item())
    assert found["loss"].item() == pytest.approx(F.softplus(x.square()).mean().item())


def test_networks_side_by_side_and_images_in_parts_are_as_each_alone(monkeypatch):
    built, images = [network.eval() for network in drawn_networks(3, 8)], drawn_set(70, classes=3)
    together = estimated(Stacked(built).eval(), images, 2)
    alone = [estimated(network, images, 2) for network in built]
    for name, values in together.items():
        assert values.tolist() == pytest.approx([each[name].item() for each in alone], rel=1e-3), name
    twice = tensor_set(images.fetch(torch.arange(70)).repeat(2, 1, 1, 1), images.labels.repeat(2))
    # The mean of the loss over twice the images bends half as much by each, in root of two as many entries
    ratio = estimated(built[0], twice, 200)["sharpness"] / estimated(built[0], images, 200)["sharpness"]
    assert ratio.item() == pytest.approx(1 / math.sqrt(2), rel=0.1)


def measured(train, checkpoint=NOWHERE):
    rules = protocol(precision="fp32", epochs=1)
    given = {"strategy": "none", "networks": (0, 1), "seed": 5, "checkpoint": checkpoint, "device": CPU}
    trainer = Trainer(train, rules, "convnet", SMALL, metrics=Sharpness.metrics, **given)
    by_step = {step: (lambda step=step: drawn_set(20, seed=step)) for step in (4, 8)}
    sets = TaskSets(TaskSet(None, {}, by_step), real=lambda: drawn_set(60, seed=9))
    return sharpness(Sharpness(probes=2), sets, drawn_set(20), trainer)


def test_one_training_serves_all_snapshots_and_goes_on(train, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    whole = measured(train)
    calls, broken = until_done(lambda: measured(train, Stopping(tmp_path / "c.resume", "k")))
    assert calls > 1 and broken == whole
    assert {name: list(by_step) for name, by_step in whole.items()} == {
        "sharpness": [4, 8],
        "loss": [4, 8],
    }
    assert len({value for values in whole["sharpness"].values() for value in values}) == 4


def test_the_command_measures_the_snapshots_of_a_set(digits, made, tmp_path):
    data = ("--data", digits / "train.safetensors")
    shard, made_set = tmp_path / "shard.safetensors", tmp_path / "synthetic.safetensors"
    assert run("synthesize", *data, "--recipe", recipe(snapshots=1), "--ipc", 1, *NET, "--out", shard)[0] == 0
    assert run("gather", "--shards", shard, *data, "--out", made_set)[0] == 0
    out = tmp_path / "m.json"
    brief = '{"name": "brief", "title": "t", "source": {"paper": "none"}, "epochs": 1, "batch": 256,'
    brief += ' "optimizer": {"lr": 0.01}, "schedule": {"kind": "constant"}}'
    given = ("--data", digits, "--protocol", brief, *NET, "--networks", 2, "--out", out)
    given += ("--task", '{"kind": "sharpness", "probes": 2}')
    assert run("evaluate", "--synthetic", tmp_path / "snapshots.safetensors", *given)[0] == 0
    found = read_metrics(out, "sharpness")
    values = metrics_in(found)["sharpness"]["values"]
    assert found["steps"] == [1, 2] and [len(row) for row in values] == [2, 2] and min(map(min, values)) > 0
    status, told = run("evaluate", "--synthetic", made_set, *given)
    assert status == 2 and "snapshots" in told
    with pytest.raises(UserError, match="probes: must be at least 1"):
        Sharpness(probes=0)


def test_its_cost_is_one_training_on_real_images_and_the_products():
    maker = Maker(catalogue.scale("quick"))
    made = maker.synthetic("digits16", "dm", "convnet", 10, 0, {"snapshots": 50})
    whole = maker.metrics(
        maker.synthetic("digits16", "whole", "convnet", "full", 0), "convnet", "dsdm_networks", 2
    )
    cell = maker.metrics(made, "convnet", "dsdm_networks", 2, Sharpness(probes=3))
    epochs = cell.protocol.epochs / whole.protocol.epochs
    forward = made.data.profile("convnet", cell.options).forward
    products = 2 * 4 * 3 * 4 * 3.0 * 100 * forward  # networks, snapshots, probes, passes
    wanted = work_of(whole).flops_training * epochs + products
    assert work_of(cell).flops_training == pytest.approx(wanted)


def test_the_figure_shows_both_metrics_over_the_steps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = Plan("quick")
    for cell in scale.metrics_of(NAME):
        curves = {name: {40: [0.01], 80: [0.002]} for name in Sharpness.metrics}
        artifacts.write_json(tmp_path / cell.path, metrics_of(cell, curves["loss"], curves) | {"run": {}})
    for folder in ("a", "b"):
        figures.make_figure(scale, NAME, tmp_path / folder / "f.png")
    assert (tmp_path / "a" / "f.svg").read_bytes() == (tmp_path / "b" / "f.svg").read_bytes()
    rows = rows_of(tmp_path / "a" / "f.csv")
    drawn = {(row["metric"], row["step"], row["value"]) for row in rows}
    assert drawn == {
        (name, *point) for name in Sharpness.metrics for point in (("40", "0.01"), ("80", "0.002"))
    }
    assert len(rows) == len(scale.figures[NAME].curves) * len(drawn) and len(scale.figures[NAME].curves) > 2
