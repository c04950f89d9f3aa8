"""Statistics matching as an engine: against a plain loop over batches, split and resumed anywhere; its parts
by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interruption_helpers import Stopping, until_done
from matching_helpers import CPU, NOWHERE
from pytest import approx
from torch import nn

from condense import engines, models, plan
from condense.augment import siamese, views
from condense.config import UserError
from condense.discrepancy.energy import energy_distance
from condense.discrepancy.statistics import channel_moments, layered_gap, moment_gap
from condense.engines.beside import MatchingBeside
from condense.engines.orders import Order, Site
from condense.engines.starts import numbered_images
from condense.engines.statistics import batches_of
from condense.engines.streams import RealBatches
from condense.machine import seeds
from condense.models.observing import LayerInputs
from condense.networks.making import Making
from condense.networks.pretrain import load_teacher, pretrain
from condense.specs import catalogue
from condense.specs.statistics import Crop, View

pytestmark = pytest.mark.usefixtures("one_thread")
OBSERVER = {"width": 4}
SMALL = {"steps": 5, "batches": {"images": 6}, "view": {"crop": {"least": 0.3}, "roll": 1}}


def recipe(name="sre2l", **changes):
    strategy = plan.data_cell("digits").spec.strategy
    return catalogue.resolve(catalogue.recipe(name), "digits", strategy, 2, [("test", SMALL | changes)])


@pytest.fixture(scope="module")
def observers(train, tmp_path_factory):
    """Two observers of the digits, by the names that a recipe gives them."""
    folder, made = tmp_path_factory.mktemp("observers"), {}
    protocol = replace(catalogue.protocol("observer"), epochs=1)
    for arch in ("resnet18_bn", "convnet_bn"):
        made[f"observer_{arch}"] = folder / f"{arch}.safetensors"
        options = OBSERVER if arch == "resnet18_bn" else {"depth": 1, "width": 4}
        pretrain(Making(made[f"observer_{arch}"], train, arch, options, 0, arch, CPU), protocol, "none")
    return made


def run(value, train, observers, *, ipc=2, first=0, checkpoint=NOWHERE):
    site = Site(train, train.classes, "resnet18_bn", OBSERVER, 3, CPU)
    asked = {name: observers[name] for name in value.parents()}
    return engines.engine("statistics")(site, [Order(value, ipc, asked, checkpoint, first)])[0]


def plainly(value, train, observers, ipc, seed=3):
    """One batch after the other through all steps, with torch's own optimiser and hooks of its own."""
    low, high = (
        torch.tensor([(level - m) / s for m, s in zip(train.mean, train.std, strict=True)]).view(-1, 1, 1)
        for level in (0.0, 1.0)
    )
    networks = [load_teacher(observers[name], train, CPU)[0] for name in value.parents()]
    start = numbered_images(train, train.classes, 0, ipc, value, seed)
    found = torch.empty_like(start)
    for image in range(ipc):
        for number, labels in enumerate(torch.arange(10).split(value.batches.images)):
            x = start[labels, image].clone().requires_grad_(True)
            optimizer = torch.optim.Adam([x], lr=value.optimizer.lr, betas=(0.5, 0.9))
            for step in range(value.steps):
                rate = 0.5 * (1 + np.cos(np.pi * step / value.steps)) * value.optimizer.lr
                optimizer.param_groups[0]["lr"] = rate
                generator = seeds.generator(seed, "view", "of_each_class", image, number, step)
                look = views.draw(value.view, train.size, step, value.steps, generator)
                network, gaps, hooks = networks[step % len(networks)], [], []
                for layer in [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]:

                    def see(module, given, gaps=gaps):
                        maps = given[0].transpose(0, 1).flatten(1)
                        variance = ((maps - maps.mean(1, keepdim=True)) ** 2).mean(1)
                        gaps.append(
                            (module.running_var - variance).norm()
                            + (module.running_mean - maps.mean(1)).norm()
                        )

                    hooks.append(layer.register_forward_pre_hook(see))
                loss = F.cross_entropy(network(views.seen(x, look)), labels)
                loss = loss + value.statistics.weight * (10 * gaps[0] + sum(gaps[1:]))
                for hook in hooks:
                    hook.remove()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():  # the noise of the first step is seen as it is
                    x.clamp_(low, high)
            found[labels, image] = x.detach().clamp(low, high)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"init": "real", "schedule": {"kind": "cosine", "stretch": 1.0}, "batches": {"images": 100}},
        {"observers": {"protocol": "observer", "archs": ["resnet18_bn", "convnet_bn"]}},
        {"view": {"crop": {"least": 0.2, "falls": "linear"}, "flip": False, "roll": 0, "one_way": False}},
    ],
)
def test_images_are_those_of_a_plain_loop_over_batches(changes, train, observers):
    value = recipe(**changes)
    ours = run(value, train, observers).images
    torch.testing.assert_close(ours, plainly(value, train, observers, 2), rtol=1e-3, atol=2e-4)


def test_observers_serve_in_the_order_of_the_recipe_whatever_that_of_their_files(train, observers):
    value = recipe(observers={"protocol": "observer", "archs": ["resnet18_bn", "convnet_bn"]})
    turned = dict(reversed(observers.items()))
    assert list(turned) != list(value.parents())
    site = Site(train, train.classes, "resnet18_bn", OBSERVER, 3, CPU)
    (made,) = engines.engine("statistics")(site, [Order(value, 2, turned, NOWHERE)])
    assert torch.equal(made.images, run(value, train, observers).images)


def test_the_loss_falls_and_its_parts_are_told(train, observers):
    history = run(recipe(steps=40, view={"roll": 1}), train, observers).history
    for row in history:
        assert row["loss"] == approx(row["classification"] + 0.01 * row["statistics"], rel=1e-4)
    for name in ("classification", "statistics"):
        assert history[-1][name] < 0.8 * history[0][name]


def test_images_made_apart_are_those_made_together(train, observers):
    value = recipe()
    assert value.splits_by(True) == "images"
    whole = run(value, train, observers, ipc=3).images
    parts = [run(value, train, observers, ipc=count, first=first).images for first, count in ((0, 1), (1, 2))]
    assert torch.equal(torch.cat(parts, 1), whole)


@pytest.mark.parametrize(
    "changes",
    [
        {"batches": {"order": "class_by_class"}},
        {"mirrored": True},
        {"decode": {"factor": 2}, "init": "mosaic"},
    ],
)
def test_what_depends_on_the_whole_set_is_not_split(changes, train, observers):
    value = recipe(**changes)
    assert value.splits_by(True) is None and value.splits_by(False) is None
    made = run(value, train, observers).images
    assert made.shape == (10, 2, 1, 8, 8) and torch.isfinite(made).all()


def test_a_run_that_stops_anywhere_goes_on_to_the_same_images(train, observers, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    value = recipe(snapshots=2)
    whole = run(value, train, observers)
    _, stopped = until_done(
        lambda: run(value, train, observers, checkpoint=Stopping(tmp_path / "part", "key"))
    )
    assert torch.equal(stopped.images, whole.images) and stopped.history == whole.history
    assert stopped.snapshots.keys() == {2, 4}


def test_batches_hold_every_image_once_in_the_order_that_is_asked_for():
    of_each = batches_of(recipe(), 10, 2, 4)
    assert [batch.classes.tolist() for batch in of_each[:2]] == [list(range(6)), list(range(6, 10))]
    assert [batch.images.unique().tolist() for batch in of_each] == [[0], [0], [1], [1]]
    assert [batch.name for batch in of_each] == [("of_each_class", n, k) for n in (4, 5) for k in (0, 1)]
    by_class = batches_of(recipe(batches={"images": 6, "order": "class_by_class"}), 10, 3, 0)
    assert by_class[0].classes.tolist() == [0, 0, 0, 1, 1, 1] and by_class[0].images.tolist() == [0, 1, 2] * 2
    assert sum(len(batch.classes) for batch in by_class) == 30


def test_statistics_of_the_real_images_have_no_gap():
    maps = torch.randn(50, 3, 4, 4, dtype=torch.float64) * 2 + 1
    norm = nn.BatchNorm2d(3, momentum=1.0).double()
    norm(maps)
    mean, variance = channel_moments(maps)
    torch.testing.assert_close(mean, norm.running_mean)
    torch.testing.assert_close(variance * 800 / 799, norm.running_var)
    assert moment_gap((mean, variance), (mean, variance)) == 0
    away = moment_gap((mean + torch.tensor([3.0, 4.0, 0.0]), variance), (mean, variance))
    assert away.item() == approx(5.0)
    shifted = (mean + torch.tensor([3.0, 4.0, 0.0]), variance)
    assert layered_gap([shifted, shifted], [(mean, variance)] * 2, 10.0).item() == approx(55.0)


@pytest.mark.parametrize(
    ("method", "dataset", "least"), [("sre2l", "cifar100", 0), ("sre2l", "tinyimagenet", -4)]
)
def test_rolls_go_the_ways_that_the_codes_have(method, dataset, least):
    value = catalogue.resolve(catalogue.recipe(method), dataset, "crop_flip", 1, [])
    rolls = [
        views.draw(value.view, 64, 0, 9, torch.Generator().manual_seed(seed)).rolled for seed in range(300)
    ]
    assert {way for roll in rolls for way in roll} == set(range(least, 5))


def test_a_set_is_stored_in_the_levels_of_eight_bits_where_asked(train, observers):
    """Cut, as a cast to bytes cuts."""
    found = [run(recipe(eight_bit=chosen, snapshots=5), train, observers) for chosen in (False, True)]
    levels = [train.denormalise(outcome.images) * 255 for outcome in found]
    assert torch.equal(found[1].snapshots[5], found[1].images), "snapshots are of sets as they are stored"
    torch.testing.assert_close(levels[1], (levels[0] + 1e-3).floor().clamp(0, 255), rtol=0, atol=1e-3)
    assert (levels[0] - levels[1]).max() > 0.9


def test_a_roll_and_a_box_move_pixels_as_they_say():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    rolled = views.seen(images, views.Look(rolled=(1, -1)))
    assert rolled[0, 0, 1, 0] == images[0, 0, 0, 1] and rolled[0, 0, 0, 3] == images[0, 0, 3, 0]
    flipped = views.seen(images, views.Look(flipped=True))
    assert flipped[0, 0, 0].tolist() == [3.0, 2.0, 1.0, 0.0]
    boxed = views.seen(images, views.Look(box=(1, 1, 2, 2)))
    assert boxed.shape == images.shape and boxed.min() == 5.0 and boxed.max() == 10.0


def test_boxes_have_the_area_that_is_asked_for():
    crop = View(crop=Crop(0.25, 0.5))
    generator = seeds.generator(0, "boxes")
    boxes = [views.draw(crop, 100, 0, 10, generator).box for _ in range(300)]
    areas = [height * width / 1e4 for _, _, height, width in boxes]
    assert 0.24 < min(areas) < 0.27 and 0.48 < max(areas) < 0.51
    assert all(0 <= top <= 100 - h and 0 <= left <= 100 - w for top, left, h, w in boxes)
    assert all(0.74 < w / h < 1.35 for _, _, h, w in boxes)


def test_a_network_without_batch_norm_cannot_observe(train, tmp_path):
    with pytest.raises(UserError, match="has no BatchNorm2d, whose statistics are asked for"):
        LayerInputs(models.build("mlp", channels=1, size=8, classes=10), [nn.BatchNorm2d])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"observers": {"protocol": "observer", "archs": []}}, "at least one architecture"),
        ({"observers": {"protocol": "observer", "archs": ["mlp", "mlp"]}}, "none twice"),
        ({"view": {"crop": {"least": 0.9, "most": 0.5}}}, "least <= most"),
        ({"view": {"crop": {"least": 0.1, "over": 0.5}}}, "the least area does not fall"),
        ({"view": {"roll": -1}}, "roll"),
        ({"view": {"roll": 0}}, "one_way: is of rolls, and there are none"),
        ({"statistics": {"weight": 0}}, "statistics: weight: must be above 0"),
        ({"batches": {"images": 1}}, "batches: images"),
        ({"optimizer": {"plateau": {}}}, "follows `schedule` alone"),
        ({"schedule": {"kind": "cosine", "warmup": 2}}, "does not rise at first"),
        ({"batch_real": 5}, "batch_real"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, told):
    with pytest.raises(UserError, match=told):
        recipe(**changes)


BESIDE = {
    "terms": [{"name": "energy_distance"}, {"name": "classifier_critic", "sees": "plain", "weight": 0.5}],
    "batch_real": 8,
    "weight": 3.0,
}


def test_terms_beside_give_the_gradient_of_their_weighted_sum(train, observers):
    """One step: against the terms themselves, of all classes at once."""
    value = recipe(beside=BESIDE, batches={"images": 6})
    site = Site(train, train.classes, "resnet18_bn", OBSERVER, 3, CPU)
    network = load_teacher(observers["observer_resnet18_bn"], train, CPU)[0]
    images = torch.randn(10, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10)[:, None].expand(-1, 2)
    beside = MatchingBeside(value.beside, site, shown=2, at_once=6)
    assert [part.stop - part.start for part in beside.parts] == [3, 3, 3, 3]
    gradient, told = beside.gradient(network, images, labels, 2, 5)
    stream = RealBatches(train, train.classes, 8, 3, CPU)
    real = train.normalise(stream.taken(stream.chosen(2)))
    augment = value.beside.augment
    draws = [
        siamese.draw(augment.siamese, 8, seeds.generator(3, "augment", label, 2), augment.mode)
        for label in range(10)
    ]
    x, loss = images.clone().requires_grad_(True), 0.0
    for label in range(10):
        seen = [network.embed(siamese.apply(batch[label], draws[label])) for batch in (real, x)]
        distance = energy_distance(seen[0][None].detach(), seen[1][None], constant=False).sum()
        loss = loss + 3 * distance + 1.5 * F.cross_entropy(network(x[label]), labels[label])
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, x)[0], rtol=1e-4, atol=1e-6)
    assert beside.total(told, 2, 5).item() == approx(loss.item(), rel=1e-4)


def test_terms_beside_move_the_images_and_are_told(train, observers):
    plain, with_terms = (run(recipe(**changes), train, observers) for changes in ({}, {"beside": BESIDE}))
    assert (plain.images - with_terms.images).abs().mean() > 1e-3
    for row in with_terms.history:
        parts = row["classification"] + 0.01 * row["statistics"]
        parts += 3 * row["energy_distance"] + 1.5 * row["classifier_critic"]
        assert row["loss"] == approx(parts, rel=1e-4)
    assert recipe(beside=BESIDE).splits_by(False) is None


def test_what_terms_beside_remember_outlives_a_stop(train, observers, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    observed = {"observers": {"protocol": "observer", "archs": ["convnet_bn"]}}
    value = recipe(**observed, beside={**BESIDE, "terms": [{"name": "historical_mean"}, {"name": "moments"}]})
    whole = run(value, train, observers)
    _, stopped = until_done(
        lambda: run(value, train, observers, checkpoint=Stopping(tmp_path / "part", "key"))
    )
    assert torch.equal(stopped.images, whole.images) and stopped.history == whole.history


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ([], "beside: terms: at least one"),
        ([{"name": "clip_critic"}], "needs 'clip', and the critic here is the network"),
        ([{"name": "energy_distance", "turn": 1}], "takes a step of its own"),
        ([{"name": "inter_class_margin"}], "looks at all classes at once"),
        ([{"name": "cross_entropy", "under": "trained"}], "networks"),
    ],
)
def test_terms_that_cannot_stand_beside_are_refused(terms, told):
    with pytest.raises(UserError, match=told):
        recipe(beside={**BESIDE, "terms": terms})
