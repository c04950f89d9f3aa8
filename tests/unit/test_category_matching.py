"""Statistics matching by classes as an engine: against a plain loop over batches, resumed anywhere; flatness,
spread and what else its loss is made of."""

import json
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from interruption_helpers import Stopping, until_done
from matching_helpers import CPU, NOWHERE
from pytest import approx
from statistics_helpers import (
    ARCHS,
    gathered,
    made_parents,
    plain_moments,
    plainly_seen,
    recipe,
    run,
    teach,
)
from torch import nn

from condense import engines, plan
from condense.augment import views
from condense.config import UserError
from condense.discrepancy.flatness import logit_flatness, spectral_spread
from condense.engines.orders import Order, Site
from condense.engines.patches import images_of_patches
from condense.engines.starts import numbered_images
from condense.machine import seeds
from condense.networks.layer_statistics import load_statistics
from condense.networks.pretrain import load_teacher
from condense.specs import StatisticsRecipe, catalogue
from condense.specs.statistics import View

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def parents(train, tmp_path_factory):
    """Two observers of the digits and what their layers are given."""
    return made_parents(train, tmp_path_factory.mktemp("observers"))


@dataclass
class PlainLoss:
    """The loss of a batch at a step, by torch's own operations."""

    value: StatisticsRecipe
    network: nn.Module
    known: list
    labels: torch.Tensor
    look: views.Look
    left_out: set
    running: dict  # (layer, moment) -> mean before the step
    kept: dict = field(default_factory=dict)  # the same after it

    def gap(self, at, layer, maps):
        """That of a layer, and its moments."""
        settings, convolution = self.value.statistics, isinstance(layer, nn.Conv2d)
        wanted = self.known[at].of_all if convolution else (layer.running_mean, layer.running_var)
        of_class = [each[self.labels].mean(0) for each in self.known[at].of_classes]
        found, gap = plain_moments(maps)[: len(wanted)], 0.0
        for kind, now in enumerate(found):
            if settings.running:
                before = self.running.get((at, kind))
                if before is None:
                    before = torch.zeros_like(now) if settings.from_zero else now
                mixed = (settings.running * before + (1 - settings.running) * now).detach()
                self.kept[at, kind] = mixed
                now = mixed + now - now.detach()
            gap = gap + (1 - settings.classes) * (wanted[kind] - now).norm()
            if not settings.by_class:
                gap = gap + settings.classes * (of_class[kind] - now).norm()
        for label in self.labels.tolist() if settings.by_class else ():  # each image counts once
            part = plain_moments(maps[self.labels == label])[: len(wanted)]
            each = [(of[label] - one).norm() for of, one in zip(self.known[at].of_classes, part, strict=True)]
            gap = gap + settings.classes * sum(each) / len(self.labels)
        return gap, found

    def __call__(self, given):
        """The loss, the logits and the moments of every layer."""
        seen = views.seen(given, self.look)
        layers, maps, logits = plainly_seen(self.network, seen)
        total, moments_found = 0.0, []
        for at, (layer, each) in enumerate(zip(layers, maps, strict=True)):
            if at in self.left_out and isinstance(layer, nn.Conv2d):
                continue
            gap, found = self.gap(at, layer, each)
            moments_found.append(found)
            total = total + gap * (self.value.statistics.first if at == 0 else 1.0)
        loss = F.cross_entropy(logits, self.labels) + self.value.statistics.weight * total
        if self.value.spread is not None:
            for label in self.labels.unique():
                flat = seen[self.labels == label].flatten(1)
                spectrum = torch.linalg.eigvals(flat @ flat.T).real
                aim = (spectrum / self.value.spread.temperature).softmax(0).detach()
                spread = F.kl_div(spectrum.log_softmax(0), aim, reduction="sum")
                loss = loss + self.value.spread.weight * spread
        return loss, logits, moments_found


def plain_gradient(loss_of, x, mean, flatness):
    """The gradient of a batch, flattened as `flatness` says."""
    loss, logits, found = loss_of(x)
    kept, kind = dict(loss_of.kept), getattr(flatness, "name", None)
    if kind in ("logits", "statistics"):
        with torch.no_grad():
            _, of_mean, other = loss_of(mean)
        if kind == "logits":
            wanted = (of_mean / flatness.temperature).softmax(1)
            divergence = wanted * (wanted.log() - (logits / flatness.temperature).log_softmax(1))
            loss = loss + flatness.weight * divergence.mean()
        else:
            for at, (one, two) in enumerate(zip(found, other, strict=True)):
                gap = sum((a - b).norm() for a, b in zip(one, two, strict=True))
                loss = loss + flatness.weight * gap * (loss_of.value.statistics.first if at == 0 else 1.0)
    (gradient,) = torch.autograd.grad(loss, x)
    if kind == "sharpness":
        away = (x + flatness.radius * gradient / gradient.norm()).detach().requires_grad_(True)
        (there,) = torch.autograd.grad(loss_of(away)[0], away)
        gradient = gradient + flatness.weight * (there - gradient)
    return gradient, kept


def plainly(value, train, parents, ipc, seed=3):
    """One batch after the other through all steps, with torch's own optimiser and operations."""
    low, high = (
        torch.tensor([(level - m) / s for m, s in zip(train.mean, train.std, strict=True)]).view(-1, 1, 1)
        for level in (0.0, 1.0)
    )
    archs, most = value.observers.archs, value.batches.images
    networks = [load_teacher(parents[f"observer_{arch}"], train, CPU)[0] for arch in archs]
    files = [(parents[f"statistics_{arch}"], parents[f"observer_{arch}"]) for arch in archs]
    known = [load_statistics(*both, train, CPU) for both in files]
    start = numbered_images(train, train.classes, 0, ipc, value, seed).flatten(0, 1)
    found = []
    for number, labels in enumerate(torch.arange(10).repeat_interleave(ipc).split(most)):
        x = start[number * most :][: len(labels)].clone().requires_grad_(True)
        optimizer = torch.optim.Adam([x], lr=value.optimizer.lr, betas=(0.5, 0.9))
        running, mean = {arch: {} for arch in archs}, x.detach().clone()
        for step in range(value.steps):
            with torch.no_grad():
                x.clamp_(low, high)
            rate = 0.5 * (1 + np.cos(np.pi * step / value.steps)) * value.optimizer.lr
            optimizer.param_groups[0]["lr"] = rate
            viewing, skipping = (
                seeds.generator(seed, purpose, "class_by_class", number, step)
                for purpose in ("view", "skipped")
            )
            look = views.draw(value.view, train.size, step, value.steps, viewing)
            which = step % len(archs)
            chances = torch.rand(len(known[which]), generator=skipping)
            left_out = {at for at, chance in enumerate(chances) if chance < value.statistics.skipped}
            before = running[archs[which]]
            loss_of = PlainLoss(value, networks[which], known[which], labels, look, left_out, before)
            gradient, kept = plain_gradient(loss_of, x, mean, value.flatness)
            before.update(kept)
            decay = getattr(value.flatness, "decay", None) or 0.0
            mean = decay * mean + (1 - decay) * x.detach()
            x.grad = gradient
            optimizer.step()
        found.append(x.detach().clamp(low, high))
    return torch.cat(found).view(10, ipc, *start.shape[1:])


@pytest.mark.parametrize(
    "changes",
    [
        {"flatness": None},
        {"statistics": {"classes": 0.75, "from_zero": True, "first": 3.0, "skipped": 0.4}, "flatness": None},
        {"flatness": {"name": "logits", "weight": 5.0, "decay": 0.5, "temperature": 2.0}},
        {"flatness": {"name": "statistics", "weight": 0.05, "decay": 0.5}},
        {"flatness": {"name": "sharpness", "radius": 0.5, "weight": 0.5}},
        {"flatness": None, "spread": {"weight": 0.5}, "statistics": {"classes": 0.0, "running": 0.0}},
        {"flatness": None, "statistics": {"classes": 0.75, "by_class": True}},
    ],
)
def test_images_are_those_of_a_plain_loop_over_batches(changes, train, parents):
    value = recipe(**changes)
    ours, theirs = run(value, train, parents).images, plainly(value, train, parents, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=5e-4)
    start = numbered_images(train, train.classes, 0, 2, value, 3)
    assert (ours - start).abs().mean() > 20 * (ours - theirs).abs().mean()


@pytest.mark.parametrize("name", ["edc", "g_vbsm"])
def test_a_run_that_stops_anywhere_goes_on_to_the_same_images(name, train, parents, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    value = recipe(name, snapshots=2, statistics={"skipped": 0.3})
    whole = run(value, train, parents)
    _, stopped = until_done(lambda: run(value, train, parents, checkpoint=Stopping(tmp_path / "part", "key")))
    assert torch.equal(stopped.images, whole.images) and stopped.history == whole.history


def test_images_made_apart_are_those_made_together(train, parents):
    value = recipe(batches={"order": "of_each_class"})
    assert value.splits_by(True) == "images"
    whole = run(value, train, parents, ipc=3).images
    parts = [run(value, train, parents, ipc=count, first=first).images for first, count in ((0, 1), (1, 2))]
    assert torch.equal(torch.cat(parts, 1), whole)


def test_every_part_of_the_loss_is_told_and_makes_it_up(train, parents):
    value = recipe(spread={}, prior={"tv_l1": 0.1, "tv_l2": 0.01, "l2": 0.02}, steps=3)
    for row in run(value, train, parents).history:
        parts = row["classification"] + value.statistics.weight * row["statistics"]
        parts += row["flatness"] + row["spread"] + row["prior"]
        assert row["loss"] == approx(parts, rel=1e-4) and row["prior"] > 0 and row["spread"] > 0


BY_CLASS = {4: {}, 40: {"by_class": True}}


def planted(train):
    """The digits under bright or dark: of a class an even number lies above grey, of one an odd one below."""
    lift = torch.where(train.labels % 2 == 0, 180, 0).to(torch.uint8)
    return replace(train, images=(train.images // 4) + lift[:, None, None, None], data_sha256="f" * 64)


def test_the_statistics_of_classes_find_a_planted_mean_that_those_of_all_cannot(train, tmp_path):
    """EDC's Forms (1) and (2): images of a batch of one class get the brightness of that class, or of all."""
    images = planted(train)
    observer = teach(tmp_path, images, "convnet")
    files = {"observer_convnet": observer}
    files["statistics_convnet"] = gathered(tmp_path / "statistics", images, observer, "convnet")
    wanted = torch.stack([images.of_class(label).mean() for label in images.classes])
    found = {}
    # Of all classes together where these are compared one by one, as eq. (5) prints it
    for share, together in ((0.0, 4), (1.0, 4), (1.0, 40)):
        value = recipe(
            init="noise",
            observers={"protocol": "edc_observer", "archs": ["convnet"]},
            statistics={"classes": share, "weight": 100.0, "running": 0.0} | BY_CLASS[together],
            batches={"images": together, "order": "class_by_class"},
            flatness=None,
            view={},
            steps=150,
            clip=False,
        )
        found[share, together] = run(value, images, files, ipc=4).images.mean((1, 2, 3, 4))
    for together in (4, 40):
        torch.testing.assert_close(found[1.0, together], wanted, rtol=0.1, atol=0.15)
    apart, of_all = wanted[::2].mean() - wanted[1::2].mean(), found[0.0, 4]
    assert apart > 1 and (of_all[::2].mean() - of_all[1::2].mean()).abs() < 0.2 * apart


def test_running_means_belong_to_a_batch(train, parents):
    """The images of the first batch are what they are without the others."""
    value = recipe(steps=4)
    both = run(value, train, parents).images.flatten(0, 1)[:6]
    site = Site(train, (0, 1, 2), "resnet18_bn", ARCHS["resnet18_bn"], 3, CPU)
    order = Order(value, 2, {name: parents[name] for name in value.parents()}, NOWHERE)
    assert torch.equal(engines.engine("statistics")(site, [order])[0].images.flatten(0, 1), both)


def test_images_start_from_the_easiest_patches_for_the_first_observer(train, parents):
    patches = {"candidates": 12, "crops": 2, "factor": 2}
    value = recipe(patches=patches, steps=1, optimizer={"lr": 1e-6}, view={})
    network = load_teacher(parents["observer_resnet18_bn"], train, CPU)[0]
    shared = {"network": network, "seed": 3, "device": CPU}
    wanted = images_of_patches(value.patches, train, train.classes, ipc=2, **shared)
    assert (run(value, train, parents).images - wanted).abs().max() < 1e-4
    assert value.splits_by(False) is None and value.images_needed(2) == 8
    single = recipe(patches=patches | {"factor": 1}, batches={"order": "of_each_class"})
    assert single.splits_by(False) == "images"
    whole = run(single, train, parents, ipc=3).images
    assert torch.equal(run(single, train, parents, ipc=2, first=1).images, whole[:, 1:])


def test_flatness_and_spread_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    assert logit_flatness(logits, logits, 4.0).item() == approx(0.0, abs=1e-7)
    uniform = torch.zeros(2, 2)
    first = torch.tensor([0.5, 0.5]).log() - (logits[0] / 2).log_softmax(0)
    second = torch.tensor([0.5, 0.5]).log() - (logits[1] / 2).log_softmax(0)
    wanted = (0.5 * first.sum() + 0.5 * second.sum()) / 4
    assert logit_flatness(logits, uniform, 2.0).item() == approx(wanted.item())
    alike = torch.ones(3, 1, 2, 2)
    unlike = torch.zeros(3, 1, 2, 2)
    unlike.view(3, 4)[range(3), range(3)] = 2.0  # as long as the others, at right angles
    labels = torch.zeros(3, dtype=torch.long)
    assert spectral_spread(unlike, labels, 4.0).item() == approx(0.0, abs=1e-6)
    assert spectral_spread(alike, labels, 4.0) > 0.1
    twice = torch.cat([alike, alike]), torch.cat([labels, labels + 1])
    assert spectral_spread(*twice, 4.0).item() == approx(2 * spectral_spread(alike, labels, 4.0).item())
    assert spectral_spread(torch.ones(2, 1, 64, 64), labels[:2], 4.0).isfinite()


def test_a_shift_leaves_grey_behind():
    images = torch.arange(1.0, 17.0).view(1, 1, 4, 4)
    down = views.seen(images, views.Look(shifted=(1, -1)))[0, 0]
    assert down[0].tolist() == [0.0] * 4 and down[:, 3].tolist() == [0.0] * 4
    assert down[1:, :3].tolist() == images[0, 0, :3, 1:].tolist()
    drawn = {views.draw(View(shift=1), 8, 0, 1, seeds.generator(0, at)).shifted for at in range(100)}
    assert drawn == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"statistics": {"classes": 1.5}}, "statistics: classes: must lie in"),
        ({"statistics": {"running": 1.0}}, "statistics: running: must lie in"),
        ({"statistics": {"running": 0.0, "from_zero": True}}, "from_zero: without `running`"),
        ({"statistics": {"convolutions": False, "skipped": 0.4}}, "skipped: without `convolutions`"),
        ({"statistics": {"classes": 0.0, "exchanged": True}}, "exchanged: without `classes`"),
        ({"statistics": {"classes": 0.0, "by_class": True}}, "by_class: without `classes`"),
        ({"flatness": {"name": "logits", "decay": 1.0}}, "flatness: decay"),
        ({"flatness": {"name": "sharpness", "decay": 0.5}}, "decay"),
        ({"flatness": {"name": "statistics", "temperature": 4.0}}, "temperature"),
        ({"flatness": {"name": "sharpness", "radius": 0.0}}, "radius: must be above 0"),
        ({"prior": {}}, "prior: all its weights are 0"),
        ({"prior": {"l2": -1.0}}, "prior: l2"),
        ({"spread": {}, "batches": {"order": "of_each_class"}}, "spread: a batch holds one image of a class"),
        ({"patches": {}, "init": "noise"}, "init: the images start from `patches`"),
        ({"patches": {}, "decode": {"factor": 2}}, "patches: are of full size"),
        ({"view": {"shift": -1}}, "view: shift"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, told):
    with pytest.raises(UserError, match=told):
        recipe(**changes)


def test_too_few_candidates_for_the_start_are_refused(train, parents):
    with pytest.raises(UserError, match="candidates: at ipc 2 a class is made from 8 images"):
        run(recipe(patches={"candidates": 4, "factor": 2}), train, parents)


def test_settings_of_the_statistics_enter_the_key():
    maker = plan.Maker(catalogue.scale("quick"))

    def cell(**change):
        return maker.synthetic("digits16", "edc", "convnet", 1, 0, change)

    keys = {cell().key}
    for change in (
        {"statistics": {"classes": 0.25}},
        {"statistics": {"exchanged": True}},
        {"statistics": {"from_zero": True}},
        {"statistics": {"by_class": True}},
        {"flatness": {"name": "logits", "weight": 0.5}},
        {"flatness": {"name": "sharpness"}},
        {"spread": {}},
        {"prior": {"l2": 0.1}},
        {"patches": {}},
        {"view": {"shift": 1}},
    ):
        keys.add(cell(**change).key)
    assert len(keys) == 11
    observers, others = cell(), cell(observers={"archs": ["convnetw32"]})
    assert (len(observers.parents), len(others.parents)) == (4, 2)
    assert json.loads(others.parents["statistics_convnetw32"].settings).keys() == {"protocol", "strategy"}
