"""Network slimming: channels by hand, networks without them against networks in which they are silent, and
the first training against a plain loop."""

import copy
import sys
from dataclasses import replace
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
from condense.config import UserError
from condense.estimate.work import work_of
from condense.evaluate.protocols import evaluate
from condense.evaluate.slimming import first_training, slimming, tuned_by, without
from condense.evaluate.trainer import TaskSet, TaskSets, Trainer
from condense.files import artifacts, metrics_in, read_metrics
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.models.slimmed import slim, smallest
from condense.plan import Maker
from condense.plan.tables import Plan
from condense.report import figures
from condense.specs import TableLimits, catalogue
from condense.specs.tasks import Slimming
from condense.training.sets import pixel_set, tensor_set

pytest.importorskip("torch_pruning", reason="takes channels out: extra 'slimming'")
CPU = torch.device("cpu")
NOWHERE = Checkpoint(None, "")
SMALL = {"depth": 2, "width": 8}
BATCH = '{"depth": 1, "width": 4, "norm": "batch"}'
NAME = "edc/figure4_left"
pytestmark = pytest.mark.usefixtures("one_thread")


def scales(*groups):
    return [torch.tensor(group) for group in groups]


@pytest.mark.parametrize(
    "percent, wanted",
    [(0, [[], []]), (39, [[1], []]), (40, [[1], [0]]), (60, [[1, 2], [0]]), (79, [[1, 2], [0]])],
)
def test_the_smallest_scales_of_all_layers_go_and_no_others(percent, wanted):
    assert smallest(scales([0.5, 0.1, 0.3], [0.2, 0.4]), percent) == wanted


def test_each_group_keeps_its_largest_and_the_next_smallest_goes_in_its_place():
    assert smallest(scales([0.1, 0.2], [0.9, 0.8]), 50) == [[0], [1]]
    assert smallest(scales([0.0, 0.0], [0.0, 0.0, 0.0]), 40) == [[1], [1]]  # of equal ones the first
    with pytest.raises(
        UserError, match=r"80 % of the 5 channels .* are 4, and 3 can .*: ask for at most 79 %"
    ):
        smallest(scales([0.5, 0.1, 0.3], [0.2, 0.4]), 80)


NETWORKS = {
    "vgg11_bn": (32, {"width": 4}),
    "convnet_bn": (8, SMALL),
    "alexnet_bn": (16, {"width": 8}),
    "resnet18_bn": (16, {"width": 4}),
    "mobilenet_v2": (32, {}),
}


def marked(arch, classes=10):
    """A network whose batch norms have drawn weights, and the number of a channel as its running mean."""
    size, options = NETWORKS[arch]
    network = models.build(arch, channels=1, size=size, classes=classes, **options).eval()
    models.reinitialise(network, 0)
    rng = torch.Generator().manual_seed(1)
    for norm in norms(network):
        norm.weight.data = torch.randn(len(norm.weight), generator=rng)
        norm.bias.data = torch.randn(len(norm.weight), generator=rng) / 4
        norm.running_mean = torch.arange(len(norm.weight)) / 256
    return network, torch.randn(3, 1, size, size, generator=rng)


def norms(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("arch", NETWORKS)
def test_a_network_without_channels_is_the_one_in_which_they_are_silent(arch):
    """Channels whose batch norm gives 0 reach nothing through ReLU, pooling, and convolutions padded by 0."""
    network, images = marked(arch)
    silent, before = copy.deepcopy(network), [norm.weight.detach().abs() for norm in norms(network)]
    went, of = slim(network, images[:1], 40)
    assert went == of * 40 // 100
    kept = [(norm.running_mean * 256).round().long() for norm in norms(network)]
    for norm, places in zip(norms(silent), kept, strict=True):
        off = torch.ones(len(norm.weight), dtype=torch.bool)
        off[places] = False
        norm.weight.data[off], norm.bias.data[off] = 0.0, 0.0
    with torch.no_grad():
        torch.testing.assert_close(network(images), silent(images), rtol=1e-4, atol=1e-5)
    if arch in ("vgg11_bn", "convnet_bn", "alexnet_bn"):  # each batch norm is a group of its own
        assert of == sum(map(len, before))
        threshold = torch.cat(before).sort().values[went]
        for values, places in zip(before, kept, strict=True):
            assert places.tolist() == (values >= threshold).nonzero()[:, 0].tolist()


def test_what_is_lost_is_counted_in_parameters_and_channels():
    """A convolution has 9 inputs outputs weights and a bias, a norm two numbers, a channel; the last layer
    reads the last channels."""
    network, images = marked("vgg11_bn")

    def parameters(widths):
        pairs = zip([1, *widths], widths, strict=False)
        return sum(9 * a * b + 3 * b for a, b in pairs) + 10 * widths[-1] + 10

    full = [4, 8, 16, 16, 32, 32, 32, 32]
    assert models.count_parameters(network) == parameters(full)
    found = without(
        network.state_dict(),
        images[:1],
        55,
        models.build("vgg11_bn", channels=1, size=32, classes=10, width=4),
    )
    left = [len(norm.weight) for norm in norms(found)]
    assert sum(full) - sum(left) == sum(full) * 55 // 100
    share = 100 * (1 - parameters(left) / parameters(full))
    assert found.lost == pytest.approx({"removed_parameters": share, "removed_channels": 100 * 94 / 172})
    assert found.lost["removed_parameters"] > 60


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "arch, said, size",
    [
        ("convnet", "no", 32),
        ("mlp", "none", 32),
        ("vit", "none", 32),
        ("tv_swin_t", "none", 64),
        ("shufflenet_v2_x0_5", "cannot", 32),
        ("tv_shufflenet_v2_x0_5", "cannot", 64),
    ],
)
def test_networks_that_have_no_such_channels_are_refused(arch, said, size):
    network = models.build(arch, channels=1, size=size, classes=10)
    with pytest.raises(UserError, match=f"{said}.*choose (an|another) architecture.*vgg11_bn"):
        slim(network, torch.zeros(1, 1, size, size), 50)


@pytest.mark.filterwarnings("error")
def test_parameters_beside_the_layers_are_no_reason_to_warn():
    network = models.build("convnet_bn", channels=1, size=8, classes=10, **SMALL)
    network.register_parameter("beside", nn.Parameter(torch.ones(3)))
    assert slim(network, torch.zeros(1, 1, 8, 8), 50) == (8, 16)


def test_without_the_library_the_sentence_says_what_to_install(monkeypatch, made, tmp_path):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    said = refused(*evaluation(made.synthetic, made.digits, tmp_path / "x.json", "--task", "slimming"))
    assert "task slimming needs the package torch-pruning" in said and "extra 'slimming'" in said


def trainer(train, checkpoint=NOWHERE, networks=(0, 1), metrics=None, **changes):
    rules = protocol(**{"precision": "fp32", "epochs": 3, "augment": "none"} | changes)
    given = {"strategy": "none", "networks": networks, "seed": 5, "checkpoint": checkpoint, "device": CPU}
    return Trainer(train, rules, "convnet_bn", SMALL, metrics=metrics or Slimming.metrics, **given)


def images_of(train, each=6):
    whole = pixel_set(train, CPU)
    chosen = [(whole.labels == label).nonzero()[:each, 0] for label in range(10)]
    return whole.part(torch.cat(chosen))


def measured(task, train, checkpoint=NOWHERE, **changes):
    made = images_of(train)
    sets = TaskSets(TaskSet(None, {}, {0: lambda: made}))
    return slimming(task, sets, pixel_set(train, CPU), trainer(train, checkpoint, **changes))


@pytest.mark.parametrize("penalty", [0.0, 0.05])
def test_the_first_training_adds_the_penalty_as_a_plain_loop_does(train, penalty):
    """Sources' own way: after the backward pass, penalty times the sign of each scale joins its gradient."""
    constant = {"kind": "constant"}
    made, one = images_of(train), trainer(train, networks=[3], schedule=constant)
    rules = one.protocol
    found = first_training(Slimming(penalty=penalty), made, one)
    network = models.build("convnet_bn", channels=1, size=8, classes=10, **SMALL).train()
    models.reinitialise(network, seeds.stream(5, "evaluation", 3))
    given = rules.optimizer
    steps = torch.optim.SGD(network.parameters(), given.lr, given.momentum, weight_decay=given.weight_decay)
    for _ in range(3):
        steps.zero_grad()
        F.cross_entropy(network(made.fetch(torch.arange(len(made)))), made.labels).backward()
        for norm in norms(network):
            norm.weight.grad.add_(penalty * norm.weight.detach().sign())
        steps.step()
    assert len(made) <= rules.batch and given.nesterov is False
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)
    other = first_training(Slimming(penalty=0.1), made, one)
    assert (other["stages.0.body.1.weight"] - found["stages.0.body.1.weight"]).abs().max() > 1e-3


def test_a_whole_network_without_a_penalty_is_that_of_the_accuracy(train):
    found = measured(Slimming(percents=[0], penalty=0.0), train)
    one = trainer(train)
    settings = {"arch": one.arch, "options": SMALL, "strategy": "none", "networks": (0, 1), "seed": 5}
    plain = evaluate(images_of(train), train, one.protocol, checkpoint=NOWHERE, device=CPU, **settings)
    assert found["pruned_accuracy"][0] == plain and len(set(plain)) == 2
    assert found["removed_parameters"][0] == found["removed_channels"][0] == [0.0, 0.0]


def test_to_draw_a_slim_network_gives_back_what_was_left_of_the_trained_one():
    network, images = marked("convnet_bn")
    fresh = models.build("convnet_bn", channels=1, size=8, classes=10, **SMALL)
    found = without(network.state_dict(), images[:1], 50, fresh)
    before = copy.deepcopy(found.state_dict())
    places = (before["network.stages.1.body.1.running_mean"] * 256).long()
    name = "stages.1.body.0.bias"
    assert 0 < len(places) < 8 and torch.equal(before[f"network.{name}"], network.state_dict()[name][places])
    for tensor in (*found.parameters(), *(norm.running_var for norm in norms(found))):
        tensor.data.add_(1.0)
    models.reinitialise(found, 7)
    assert all(torch.equal(value, before[name]) for name, value in found.state_dict().items())


def test_the_second_training_goes_on_from_there_for_its_share_of_the_epochs(train):
    task = Slimming(percents=[0, 50], tuning=0.5)
    brief, longer = (measured(task, train, epochs=epochs) for epochs in (1, 20))
    assert brief["removed_channels"] == {0: [0.0, 0.0], 50: [50.0, 50.0]}
    assert longer["accuracy"][50] != longer["pruned_accuracy"][50]
    assert min(longer["pruned_accuracy"][0]) > max(brief["pruned_accuracy"][0])
    assert min(longer["accuracy"][50]) > max(longer["pruned_accuracy"][50])
    rules = protocol(epochs=9)
    shares = {1.0: 9, 0.5: 4, 0.01: 1, 2.0: 18}
    assert {share: tuned_by(Slimming(tuning=share), rules).epochs for share in shares} == shares
    assert tuned_by(Slimming(tuning=0.5), protocol(least_updates=1000)).least_updates == 500
    late = protocol(schedule={"kind": "step", "at": [0.5], "warmup": 2})
    with pytest.raises(UserError, match="warmup: must be at most the 1 epochs"):
        tuned_by(Slimming(tuning=0.5), late)


def test_networks_do_not_depend_on_each_other_and_long_parts_go_on(train, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    task = Slimming(percents=[0, 30, 60])
    whole = measured(task, train)
    calls, broken = until_done(partial(measured, task, train, Stopping(tmp_path / "c.resume", "k")))
    # Of each network: every epoch of every training but its last, the first network, and each share but one
    assert calls > 2 * (4 * 2 + 1 + 2) and broken == whole
    made = images_of(train)
    sets = TaskSets(TaskSet(None, {}, {0: lambda: made}))
    alone = slimming(task, sets, pixel_set(train, CPU), replace(trainer(train), networks=[1]))
    for name, by_percent in whole.items():
        assert list(by_percent) == [0, 30, 60]
        assert alone[name] == {percent: values[1:] for percent, values in by_percent.items()}, name


def test_a_damaged_first_training_is_named(train, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    one = trainer(train, Checkpoint(tmp_path / "c.resume", "k"), networks=[1])
    state = first_training(Slimming(), images_of(train), one)
    again = first_training(Slimming(), tensor_set(torch.zeros(0, 1, 8, 8), torch.zeros(0).long()), one)
    assert all(torch.equal(value, again[name]) for name, value in state.items())  # nothing was trained
    with pytest.raises(UserError, match="c.resume.trained.*it holds network 1 instead of 0"):
        first_training(Slimming(), images_of(train), replace(one, networks=[0]))


@pytest.mark.parametrize(
    "given, said",
    [
        ({"percents": []}, "percents: ascending whole numbers are needed"),
        ({"percents": [50, 10]}, "percents: ascending whole numbers are needed"),
        ({"percents": [10, 100]}, "percents: must be at most 99, found 100"),
        ({"percents": [-1]}, "percents: must be at least 0"),
        ({"penalty": -0.1}, "penalty: must lie from 0 to 1"),
        ({"tuning": 0.0}, "tuning: must lie above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        Slimming(**given)


def test_the_command_slims_networks_whole_and_in_parts(made, tmp_path):
    task = '{"kind": "slimming", "percents": [0, 50]}'
    more = ("--options", BATCH, "--networks", 2, "--task", task)

    def judged(name, *others):
        status, told = run(*evaluation(made.synthetic, made.digits, tmp_path / name, *more, *others))
        assert status == 0, told
        return tmp_path / name

    whole, parts = judged("whole.json"), [judged(f"{part}.json", "--part", part) for part in "01"]
    assert run("join", "--parts", *parts, "--out", tmp_path / "joined.json")[0] == 0
    found = read_metrics(whole, "slimming")
    assert metrics_in(read_metrics(tmp_path / "joined.json", "slimming")) == metrics_in(found)
    metrics = metrics_in(found)
    assert found["steps"] == [0, 50] and metrics["removed_channels"]["values"] == [[0.0] * 2, [50.0] * 2]
    # 2 of 4 channels of 9 weights and 3 numbers, each with 160 weights that read it at 4 x 4 places
    share = 100 * 2 * (12 + 160) / (4 * (12 + 160) + 10)
    assert metrics["removed_parameters"]["values"][1] == pytest.approx([share] * 2)
    few = task.replace("0, 50", "90")
    deep = BATCH.replace('"depth": 1', '"depth": 2')
    given = (made.synthetic, made.digits, tmp_path / "x.json", "--options", deep, "--task", few)
    assert "90 % of the 8 channels of this network are 7, and 6 can be taken out" in refused(
        *evaluation(*given)
    )


def test_its_cost_is_that_of_the_first_training_and_of_smaller_networks():
    maker = Maker(catalogue.scale("quick"))
    made = maker.synthetic("digits16", "dm", "convnet", 10, 0)
    plain = work_of(maker.metrics(made, "vgg11_bn", "dc", 2))
    found = work_of(maker.metrics(made, "vgg11_bn", "dc", 2, Slimming(percents=[0, 50], tuning=0.5)))
    assert found.flops_training == pytest.approx((1 + 0.5 * (1 + 0.25)) * plain.flops_training)
    assert found.flops_forward == 3 * 2 * plain.flops_forward
    assert found.draws == 3 * plain.draws and found.bytes_out > plain.bytes_out


def test_the_figure_shows_accuracies_by_what_was_taken_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale = Plan("quick")
    cells = scale.metrics_of(NAME)
    assert len(cells) == 4 and {tuple(cell.task.percents) for cell in cells} == {(0, 30, 60)}
    assert {cell.eval_arch for cell in cells} == {"vgg11_bn"} and {cell.n_networks for cell in cells} == {2}
    for cell in cells:
        values = {
            "accuracy": {0: [90.0, 92.0], 30: [80.0, 84.0], 60: [70.0, 70.0]},
            "pruned_accuracy": {0: [89.0, 91.0], 30: [10.0, 14.0], 60: [10.0, 10.0]},
            "removed_parameters": {0: [0.0, 0.0], 30: [51.0, 53.0], 60: [85.0, 85.5]},
            "removed_channels": {0: [0.0, 0.0], 30: [29.65, 29.65], 60: [59.88, 59.88]},
        }
        artifacts.write_json(tmp_path / cell.path, metrics_of(cell, values["accuracy"], values) | {"run": {}})
    for folder in ("a", "b"):
        figures.make_figure(scale, NAME, tmp_path / folder / "f.png")
    assert (tmp_path / "a" / "f.svg").read_bytes() == (tmp_path / "b" / "f.svg").read_bytes()
    rows = rows_of(tmp_path / "a" / "f.csv")
    assert len(rows) == 4 * 3 * 2 and {row["method"] for row in rows} == {"edc", "random", "dm", "cpdm"}
    (row,) = [row for row in rows if (row["method"], row["percent"], row["network"]) == ("dm", "30", "1")]
    numbers = ("accuracy", "pruned_accuracy", "removed_parameters", "removed_channels")
    assert [row[name] for name in numbers] == ["84", "14", "53", "29.65"]


def test_a_scale_changes_the_settings_of_a_figures_task(monkeypatch):
    def plan(name, **task):
        quick = catalogue.scale("quick")
        limits = replace(quick.tables.get(name, TableLimits()), task=task)
        scale = replace(quick, tables=quick.tables | {name: limits})
        monkeypatch.setattr(catalogue, "scale", lambda _: scale)
        return Plan("quick")

    (task,) = {cell.task_settings for cell in plan(NAME, percents=[0, 10]).metrics_of(NAME)}
    assert '"percents":[0,10]' in task and '"tuning":1' in task
    with pytest.raises(UserError, match="tables: edc/figure4_left: task: unknown key 'percent'"):
        plan(NAME, percent=[0]).metrics_of(NAME)
    with pytest.raises(UserError, match="tables: cpdm/figure1: task: this figure names none"):
        plan("cpdm/figure1", percents=[0])
