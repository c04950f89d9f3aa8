"""What judging costs: passes that are counted while networks are judged are those that the estimate reckons
with, and what each way to need fewer of them saves, over lists of all evaluations of a scale.

The rates are assumed ones, and the same in all that is compared.
"""

import math
from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch
from judging_helpers import cell_of, judged_in, judged_on
from torch import nn

from condense import kernels, specs
from condense.augment import siamese
from condense.config import merged, read
from condense.data.dataset import load
from condense.estimate import work as estimated
from condense.estimate.rates import REFERENCE, cost
from condense.estimate.work import work_of
from condense.evaluate import protocols
from condense.evaluate.following import Following
from condense.evaluate.protocols import Evaluation, train_and_measure
from condense.evaluate.synthetic import decoded
from condense.evaluate.trained import measured_accuracy
from condense.files.checkpoints import Checkpoint
from condense.plan import Maker, data_cell
from condense.plan.profiles import profile
from condense.plan.tables import Plan
from condense.specs import catalogue
from condense.specs.costs.networks import counted_networks
from condense.specs.costs.profile import Profile
from condense.specs.tasks import Followed
from condense.training.sets import pixel_set, tensor_set

DEPTH, IMAGES, BATCH = 2, 40, 16
OPTIONS = {"depth": DEPTH, "width": 8}
STRATEGY = "color_crop_cutout_flip_scale_rotate"
TESTS = 3
STEM = '{"stem":"imagenet"}'
# ResNets for 32 pixels on 64, which no scale uses any more: counted as all others are
FORMER = {
    "resnet18": Profile(
        4443340800, 4443545600, 62, 11271432, 7680712, 4708224, 262144, 512, batched=1, ties_batch=0
    ),
    "resnet152": Profile(
        29776936960, 29777756160, 465, 58545928, 84326600, 55543680, 1048576, 2048, batched=1, ties_batch=0
    ),
}


@pytest.fixture(scope="module")
def test_images(digits):
    return load(digits / "test.safetensors")


@pytest.fixture
def counted(monkeypatch, one_thread):
    """Passes of networks and applied operations, counted while they are made: of how many images, and in how
    many calls."""
    found = Counter()

    def see(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            what = "training" if torch.is_grad_enabled() else "testing"
            assert module.training == (what == "training")
            found[f"{what} calls"] += 1
            networks = module.out_channels // OPTIONS["width"]
            found[f"{what} images"] += len(inputs[0]) * networks

    def apply(images, drawn, applied=siamese.apply):
        found["operations"] += 1
        return applied(images, drawn)

    # Whether networks at once are those alone is found out on a few images before
    monkeypatch.setattr(protocols, "_difference", lambda *given: "")
    monkeypatch.setattr(siamese, "apply", apply)
    handle = nn.modules.module.register_module_forward_hook(see)
    with kernels.plain():
        yield found
    handle.remove()


def judged(test, protocol, networks, at_once):
    images = test.normalise(test.images[:IMAGES])
    tested = pixel_set(test, torch.device("cpu"))
    metrics, cpu = Followed(tests=TESTS).metrics, torch.device("cpu")
    return train_and_measure(
        Evaluation(test, protocol, "convnet", OPTIONS, STRATEGY, range(networks), 0, metrics, cpu),
        tensor_set(images, test.labels[:IMAGES]),
        lambda trained: measured_accuracy(tested, trained),
        Checkpoint(None, ""),
        at_once=at_once,
        following=Following(TESTS, "accuracy", "best_accuracy"),
    )


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_the_passes_of_an_evaluation_are_those_of_the_estimate(counted, test_images, at_once):
    """Five networks, alone, in groups of 2, 2 and 1, and all in one."""
    changes = {"epochs": 20, "batch": BATCH, "precision": "fp32"}
    protocol = read(specs.Protocol, merged(asdict(catalogue.protocol("dc")), changes), "test")
    accuracies = judged(test_images, protocol, 5, at_once)["accuracy"]
    convolutions = {name: number / DEPTH for name, number in counted.items()}
    operations = counted["operations"]
    assert len(accuracies) == 5
    spec = replace(data_cell("digits").spec, strategy=STRATEGY)
    network, runs = profile("convnet", '{"depth":2,"width":8}', 1, 8, 10), math.ceil(5 / at_once)
    work = protocol.training_work(network, spec, IMAGES, 5, spec.test, at_once, runs=runs)
    assert convolutions["training images"] * 3 * network.forward == work.flops_training
    assert convolutions["testing images"] * network.forward == TESTS * work.flops_forward
    assert convolutions["training calls"] * network.layers == work.calls_training
    # A smaller last group takes larger batches
    difference = TESTS * work.calls_forward - convolutions["testing calls"] * network.layers
    assert difference == 0 if 5 % at_once == 0 else 0 < difference < TESTS * work.calls_forward / runs
    # Which operations networks draw is a matter of chance, and how many of them differ
    assert operations == pytest.approx(work.draws, rel=0 if at_once == 1 else 0.1)


def test_networks_are_trained_on_what_stored_images_are_decoded_to(test_images):
    maker = Maker(catalogue.scale("paper"))
    stored = maker.synthetic("cifar10", "idm", "convnet", 3, 0)
    header = {"mean": [0.5] * 3, "std": [0.5] * 3, "decode": asdict(stored.recipe.decode)}
    pixels = torch.rand(30, 3, 32, 32).numpy()
    images, labels = decoded(pixels, torch.arange(10).repeat_interleave(3).numpy(), header)
    assert len(images) == len(labels) == stored.images_trained == 4 * 30
    plain = maker.synthetic("cifar10", "dm", "convnet", 3, 0)
    one, four = (work_of(maker.metrics(cell, "convnet", "dc")) for cell in (plain, stored))
    assert four.flops_training == 4 * one.flops_training and four.flops_forward == one.flops_forward


def hours(list_of_cells, maker=None):
    """GPU-hours of all evaluations of a list at the assumed rates."""
    return sum(
        number * cost(work_of(cell_of(kind, maker), on_gpu=True), REFERENCE) / 3600
        for kind, number in list_of_cells.items()
    )


def changed(found, **changes):
    """The list with these settings in place of its own, where a function of them is not the same."""
    new = Counter()
    for kind, number in found.items():
        new[kind._replace(**{name: value(kind) for name, value in changes.items()})] += number
    return new


def test_a_list_costs_what_the_plan_costs_that_it_was_taken_from(monkeypatch):
    monkeypatch.delenv("CONDENSE_CLIP", raising=False)
    plan = Plan("quick")
    found = judged_in(plan)
    cells = [cell for cell in plan.metrics.values() if not cell.reads_recipe]
    assert sum(found.values()) == len(cells) and len(found) < len(cells) / 3
    wanted = sum(cost(work_of(cell, on_gpu=True), REFERENCE) for cell in cells) / 3600
    assert hours(found, Maker(replace(plan.scale, follow=0))) == pytest.approx(wanted, rel=1e-9)


@pytest.fixture
def alone(monkeypatch):
    """What a list costs where no two networks are trained side by side."""

    def hours_alone(found):
        with monkeypatch.context() as patched:
            patched.setattr(estimated, "networks_together", lambda cell, networks: 1)
            return hours(found)

    return hours_alone


def test_what_judging_costs_by_the_plan_of_november_24(monkeypatch, alone):
    """10,821 GPU-hours were reckoned then, 10,826 with the starts of split jobs: each network alone, and a
    set with the images that it stores. Fewer passes save 1 % of what they are; most goes with other
    networks."""
    then = judged_on("2026-11-24")
    for arch, counted in FORMER.items():
        monkeypatch.setitem(counted_networks(), (arch, "{}", 3, 64, 200), counted)
    assert sum(then.values()) == 2609
    as_stored = changed(then, decoded=lambda kind: "1")
    published = changed(
        then,
        options=lambda kind: STEM if kind.dataset == "tinyimagenet" and kind.arch in FORMER else kind.options,
    )
    assert alone(as_stored) == pytest.approx(10_821, rel=1e-3)
    assert alone(then) == pytest.approx(11_131, rel=1e-3)
    assert hours(then) == pytest.approx(11_008, rel=1e-3)
    assert alone(published) == pytest.approx(4_113, rel=1e-3)
    assert hours(published) == pytest.approx(3_917, rel=1e-3)


def test_what_judging_costs_by_the_plan_of_november_30(alone):
    """The ResNets for 64 pixels are the published ones; each network is tested 20 times."""
    now = judged_on("2026-11-30")
    assert sum(now.values()) == 4586
    assert alone(now) == pytest.approx(6_369, rel=1e-3)
    assert hours(now) == pytest.approx(6_063, rel=1e-3)
