"""The landscape of a loss: directions by hand, a bowl whose rise is known, and losses of networks that are
moved by a plain loop."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from bad_input_helpers import evaluation, refused, run
from interruption_helpers import Stopping, until_done
from matching_helpers import protocol
from report_helpers import metrics_of, rows_of
from torch import nn

from condense import models
from condense.command.show import describe
from condense.config import UserError
from condense.estimate.work import work_of
from condense.evaluate.landscape import directions, filters, landscape, mean_loss, measured_landscape, moved
from condense.evaluate.trained import TrainedNetworks
from condense.evaluate.trainer import TaskSet, TaskSets, Trainer
from condense.files import artifacts, metrics_in, read_metrics
from condense.files.artifacts import read_json
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.plan import Maker
from condense.plan.tables import Plan
from condense.report import figures
from condense.specs import FigureSpec, catalogue
from condense.specs.tasks import GradientSimilarity, Landscape
from condense.training.losses import Loss
from condense.training.sets import tensor_set
from condense.training.stacked import Stacked

CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
SMALL = {"depth": 1, "width": 4}
TASK = Landscape(points=3, radius=0.4)
GIVEN = ("--task", '{"kind": "landscape", "points": 3}')
NAME = "edc/figure2b"
pytestmark = pytest.mark.usefixtures("one_thread")


def drawn_networks(count, arch="convnet"):
    built = [models.build(arch, channels=1, size=8, classes=10, **SMALL) for _ in range(count)]
    for seed, network in enumerate(built):
        models.reinitialise(network, seed)
    return built


def drawn_set(images=30, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return tensor_set(torch.randn(images, 1, 8, 8, generator=rng), torch.arange(10).repeat(images // 10))


def drawn(weights, count, axis=0):
    return directions(weights, count, seeds.generator(0, "landscape", "direction", axis))


def test_every_filter_of_a_direction_is_as_long_as_that_of_the_weights():
    weights = [parameter.detach() for parameter in filters(drawn_networks(1)[0])]
    assert len(weights) == 2
    for weight, along in zip(weights, drawn(weights, 1), strict=True):
        torch.testing.assert_close(along.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))
        assert along.flatten(1)[0] @ weight.flatten(1)[0] != pytest.approx(weight[0].norm().item() ** 2)
    noise = torch.randn(2, 3, generator=seeds.generator(0, "landscape", "direction", 0))
    (along,) = drawn([torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])], 1)
    torch.testing.assert_close(along, torch.stack([5 * noise[0] / noise[0].norm(), torch.zeros(3)]))


@pytest.mark.parametrize(
    "arch", ["convnet", "convnet_bn", "convnet_ln", "convnet_gn", "vit", "tv_swin_t", "tv_convnext_tiny"]
)
def test_biases_norms_and_scales_of_channels_stay_as_they_are(arch):
    """Whatever their shape: those of a layer norm are maps, a bias of positions is a table."""
    with torch.device("meta"):
        options = SMALL if arch.startswith("convnet") else {}
        network = models.build(arch, channels=1, size=64, classes=10, **options)
        moving = {id(parameter) for parameter in filters(network)}
    names = {name for name, parameter in network.named_parameters() if id(parameter) in moving}
    layers = (nn.Conv2d, nn.Linear, nn.MultiheadAttention)
    of_layers = {f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, layers)}
    others = {"class_token", "positions", "in_proj_weight"}
    assert names == {
        name
        for name, _ in network.named_parameters()
        if name in of_layers or name.rpartition(".")[2] in others
    }


@pytest.mark.parametrize("arch", ["convnet", "convnet_ln"])
def test_networks_side_by_side_are_moved_as_each_alone(arch):
    built, images = drawn_networks(3, arch), drawn_set()
    losses = {
        name: partial(mean_loss, images=images, compared=(Loss(None), None)) for name in ("loss", "test_loss")
    }
    together = measured_landscape(TASK, losses, 1, TrainedNetworks(Stacked(built), torch.float32))
    alone = [measured_landscape(TASK, losses, 1, TrainedNetworks(one, torch.float32)) for one in built]
    for name, values in together.items():
        assert values == pytest.approx([each[name][0] for each in alone], rel=1e-4, abs=1e-5), name


class Bowl(nn.Module):
    def __init__(self):
        super().__init__()
        rng = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(4, 5, generator=rng, dtype=torch.float64))


def test_the_rise_in_a_bowl_is_half_the_squares_of_both_directions():
    """Where the loss is |w - w0|^2 + 7, its mean over a circle of radius r is 7 + r^2 (|a|^2 + |b|^2) / 2."""
    bowl = Bowl()
    start, before = bowl.weight.detach().clone(), bowl.weight.detach().clone()
    (first,), (second,) = drawn([start], 1, 0), drawn([start], 1, 1)
    losses = dict.fromkeys(
        ("loss", "test_loss"), lambda _: (bowl.weight.detach() - start).square().sum().view(1) + 7
    )
    found = measured_landscape(TASK, losses, 0, TrainedNetworks(bowl, torch.float64))
    sizes = first.square().sum() + second.square().sum()
    assert found["rise"] == pytest.approx([0.4**2 * sizes.item() / 2]) and found["test_rise"] == found["rise"]
    for number, place in enumerate((a, b) for a in TASK.grid for b in TASK.grid):
        wanted = 7 + (place[0] * first + place[1] * second).square().sum().item()
        assert found[f"loss{number}"] == pytest.approx([wanted]), place
    assert torch.equal(bowl.weight, before) and TASK.grid == [-1.0, 0.0, 1.0]


def test_weights_come_back_whatever_happens():
    weights = filters(drawn_networks(1)[0])
    before, along = [weight.detach().clone() for weight in weights], drawn(weights, 1)
    with pytest.raises(KeyboardInterrupt), moved(weights, (along, along), (0.3, 0.4)):
        torch.testing.assert_close(weights[0], before[0] + 0.7 * along[0])
        raise KeyboardInterrupt
    assert all(torch.equal(weight, value) for weight, value in zip(weights, before, strict=True))


@pytest.mark.parametrize("arch", ["convnet", "convnet_bn", "convnet_ln"])
def test_losses_are_those_of_networks_moved_by_hand(train, arch):
    """With no epoch the networks are as drawn; their losses are those of copies with other weights."""
    images = drawn_set()
    (network,) = drawn_networks(1, arch)
    networks = TrainedNetworks(network, torch.float32)
    loss = partial(mean_loss, images=images, compared=(Loss(None), None))
    found = measured_landscape(TASK, {"loss": loss, "test_loss": loss}, 0, networks)
    weights = [weight.detach().clone() for weight in filters(network)]
    both = drawn(weights, 1, 0), drawn(weights, 1, 1)
    other = models.build(arch, channels=1, size=8, classes=10, **SMALL).eval()
    other.load_state_dict(network.state_dict())
    for number, (a, b) in enumerate((a, b) for a in TASK.grid for b in TASK.grid):
        for parameter, weight, first, second in zip(filters(other), weights, *both, strict=True):
            parameter.data = weight + a * first + b * second
        wanted = F.cross_entropy(other(images.fetch(torch.arange(30))), images.labels).item()
        assert found[f"loss{number}"] == pytest.approx([wanted], rel=1e-4)


def measured(train, checkpoint=NOWHERE, networks=(0, 1)):
    rules = protocol(precision="fp32", epochs=1)
    given = {"strategy": "none", "networks": networks, "seed": 5, "checkpoint": checkpoint, "device": CPU}
    trainer = Trainer(train, rules, "convnet", SMALL, metrics=Landscape.metrics, **given)
    sets = TaskSets(TaskSet(None, {}, {0: drawn_set}))
    return landscape(TASK, sets, drawn_set(20, 1), trainer)


def test_an_interrupted_landscape_is_the_same(train, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    whole = measured(train)
    calls, broken = until_done(lambda: measured(train, Stopping(tmp_path / "c.resume", "k")))
    assert calls > 1 and broken == whole
    assert list(whole["loss"]) == list(range(9)) and list(whole["rise"]) == [0]
    assert {name: values[0][1:] for name, values in whole.items()} == {
        name: values[0] for name, values in measured(train, networks=(1,)).items()
    }


def test_the_command_writes_all_losses_whole_or_in_parts(made, tmp_path):
    def judged(name, *more):
        given = evaluation(made.synthetic, made.digits, tmp_path / name, *GIVEN, "--networks", 2, *more)
        assert run(*given)[0] == 0
        return tmp_path / name

    whole, parts = judged("whole.json"), [judged(f"{part}.json", "--part", part) for part in ("0", "1")]
    joined = tmp_path / "joined.json"
    assert run("join", "--parts", *parts, "--out", joined)[0] == 0
    found = read_metrics(whole, "landscape")
    assert {name: value for name, value in found.items() if name != "run"} == {
        name: value for name, value in read_json(joined).items() if name != "run"
    }
    metrics = metrics_in(found)
    assert found["steps"] == list(range(9)) and found["landscape"] == {"points": 3}
    assert [len(metrics["test_loss"]["values"]), len(metrics["test_loss"]["values"][0])] == [9, 2]
    assert len(metrics["rise"]["values"]) == 2
    shown = describe(whole)
    assert f"{metrics['rise']['mean']:.4g} ±" in shown and "test_loss 8" in shown


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda value: value["metrics"]["rise"].update(values=[[0.1, 0.2]]),
            "rise: are not those of its task",
        ),
        (lambda value: value["metrics"]["loss"].update(values=[0.1, 0.2]), "loss: are not those of its task"),
        (lambda value: value["steps"].pop(), "steps: are not ascending ones, one for each list of values"),
    ],
)
def test_metrics_of_the_other_form_are_refused(change, said, tmp_path):
    cell = next(cell for cell in Plan("quick").metrics_of(NAME))
    curve = {number: [1.0, 2.0] for number in range(9)}
    by_metric = {
        name: curve if not metric.once else {0: [0.1, 0.2]} for name, metric in Landscape.metrics.items()
    }
    value = metrics_of(cell, curve, by_metric) | {"run": {}}
    artifacts.write_json(tmp_path / "m.json", value)
    assert read_metrics(tmp_path / "m.json", "landscape")["steps"] == list(range(9))
    change(value)
    artifacts.write_json(tmp_path / "m.json", value)
    with pytest.raises(UserError, match=said):
        read_metrics(tmp_path / "m.json")


def test_bad_settings_are_refused(made, tmp_path):
    for given, said in (
        ({"points": 4}, "points: an odd number is needed"),
        ({"points": 1}, "points: must be at least 3"),
        ({"extent": 0.0}, "extent: must be above 0"),
        ({"radius": float("inf")}, "radius: must be above 0 and at most 100"),
    ):
        with pytest.raises(UserError, match=said):
            Landscape(**given)
    task = '{"kind": "landscape", "points": 8}'
    said = refused(*evaluation(made.synthetic, made.digits, tmp_path / "m.json", "--task", task))
    assert "points: an odd number is needed" in said
    figure = {"kind": "figure", "paper": "edc", "figure": "9", "title": "t", "dataset": "cifar10"}
    with pytest.raises(
        UserError, match="shows curves over the points of a square, which 'gradient_similarity'"
    ):
        FigureSpec(**figure, methods=["dm"], ipc=[10], draw="landscape", task=GradientSimilarity())


def test_its_cost_is_that_of_the_points_beside_the_training():
    maker = Maker(catalogue.scale("quick"))
    synthetic = maker.synthetic("digits16", "dm", "convnet", 10, 0)
    plain, cell = (
        maker.metrics(synthetic, "convnet", "dc", 2, *task) for task in ((), (Landscape(points=5),))
    )
    images = 100 + synthetic.data.spec.test
    forward = synthetic.data.profile("convnet", cell.options).forward
    assert work_of(cell).flops_training == work_of(plain).flops_training
    assert work_of(cell).flops_forward == work_of(plain).flops_forward + 2 * (25 + 16) * images * forward


def test_the_figure_shows_every_loss(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = Plan("quick")
    points = scale.figures[NAME].spec.task.points
    for cell in scale.metrics_of(NAME):
        curve = {number: [float(number % points)] for number in range(points**2)}
        by_metric = {name: {0: [0.5]} if metric.once else curve for name, metric in Landscape.metrics.items()}
        artifacts.write_json(tmp_path / cell.path, metrics_of(cell, curve, by_metric) | {"run": {}})
    for folder in ("a", "b"):
        figures.make_figure(scale, NAME, tmp_path / folder / "f.png")
    assert (tmp_path / "a" / "f.svg").read_bytes() == (tmp_path / "b" / "f.svg").read_bytes()
    rows = rows_of(tmp_path / "a" / "f.csv")
    assert (
        len(rows) == len(scale.figures[NAME].curves) * 2 * points**2 and len(scale.figures[NAME].curves) > 2
    )
    second = {(row["second"], row["value"]) for row in rows}
    assert second == {
        (f"{place:.4g}", f"{at:g}") for at, place in enumerate(scale.figures[NAME].spec.task.grid)
    }
