"""Gradient matching as an engine: against a plain loop over classes, resumed anywhere, split where it may
be."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from matching_helpers import ARCH, CPU, NOWHERE, recipe
from pytest import approx

from condense import engines, models, plan, specs
from condense.augment import siamese
from condense.config import UserError
from condense.engines.gradient import GradientMatching
from condense.engines.orders import Order, Site
from condense.engines.starts import initial_images
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.specs import catalogue

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = {"steps": 2, "batch_real": 7, "loop": {"outer": 3, "inner": 2}, "batch_network": 8}


def site(train, classes=None, seed=3, arch=ARCH):
    return Site(train, tuple(classes or train.classes), arch["arch"], arch["options"], seed, CPU)


def run(value, train, classes=None, ipc=2, checkpoint=NOWHERE, **settings):
    return engines.engine("gradient")(site(train, classes, **settings), [Order(value, ipc, {}, checkpoint)])[
        0
    ]


def distance_of_rows(real, synthetic):
    """1 - cosine of every row of every tensor with more than one axis, added up."""
    total = 0.0
    for first, second in zip(real, synthetic, strict=True):
        if first.ndim > 1:
            for a, b in zip(first.flatten(1), second.flatten(1), strict=True):
                total = total + 1 - (a @ b) / (a.norm() * b.norm() + 1e-6)
    return total


def network_of(train, seed, number):
    with torch.random.fork_rng(devices=[]):
        network = models.build(
            ARCH["arch"], channels=train.channels, size=train.size, classes=10, **ARCH["options"]
        )
        models.reinitialise(network, seeds.stream(seed, "network", number))
    return network.train()


def real_batch(train, label, count, seed, step):
    lying = train.of_class(label)
    return lying[
        torch.randperm(len(lying), generator=seeds.generator(seed, "real-batch", label, step))[:count]
    ]


def plainly(value, train, ipc, seed):
    """The published algorithm, class by class, with torch alone; without the augmentation of the networks'
    training."""
    images = initial_images(train, train.classes, ipc, value.init, seed).requires_grad_(True)
    labels = torch.arange(10).repeat_interleave(ipc)
    optimizer = torch.optim.SGD([images], lr=value.optimizer.lr, momentum=value.optimizer.momentum)
    losses, step = [], 0
    for number in range(value.steps):
        network = network_of(train, seed, number)
        parameters = list(network.parameters())
        asked = value.network_optimizer
        trained = torch.optim.SGD(parameters, lr=asked.lr, momentum=asked.momentum)
        for outer in range(value.loop.outer):
            loss = 0.0
            for label in range(10):
                draw = siamese.draw(
                    value.augment.siamese, train.size, seeds.generator(seed, "augment", label, step)
                )
                real = siamese.apply(real_batch(train, label, value.batch_real, seed, step), draw)
                wanted = torch.autograd.grad(
                    F.cross_entropy(network(real), torch.full((len(real),), label)), parameters
                )
                made = F.cross_entropy(network(siamese.apply(images[label], draw)), torch.full((ipc,), label))
                made = torch.autograd.grad(made, parameters, create_graph=True)
                loss = loss + distance_of_rows(wanted, made)
            optimizer.zero_grad()
            (gradient,) = torch.autograd.grad(loss, images)
            images.grad = gradient
            optimizer.step()
            losses.append(loss.item())
            if outer + 1 < value.loop.outer:
                for epoch in range(value.loop.inner):
                    order = torch.randperm(
                        10 * ipc, generator=seeds.generator(seed, "gradient", step, "order", epoch)
                    )
                    for chosen in order.split(value.batch_network):
                        trained.zero_grad()
                        F.cross_entropy(
                            network(images.detach().flatten(0, 1)[chosen]), labels[chosen]
                        ).backward()
                        trained.step()
            step += 1
    return images.detach(), losses


@pytest.mark.parametrize(("method", "momentum"), [("dc", 0.0), ("dsa", 0.0), ("dc", 0.9)])
def test_the_engine_does_what_the_published_algorithm_does(method, momentum, train, double):
    """Also where networks keep a momentum from one training to the next, as in an early version of DC's
    code."""
    value = recipe(method, **SMALL, augment_network=False, network_optimizer={"momentum": momentum})
    wanted, losses = plainly(value, train, 2, 3)
    outcome = run(value, train)
    start = initial_images(train, train.classes, 2, value.init, 3)
    assert (outcome.images - wanted).norm() < 1e-9 * (wanted - start).norm()
    assert [row["loss"] for row in outcome.history] == approx(losses, rel=1e-9)


def test_networks_are_trained_under_the_augmentation_of_each_image(train):
    settings = {name: value for name, value in SMALL.items()}
    plain, augmented = (
        run(recipe("dsa", **settings, augment_network=asked), train).images for asked in (False, True)
    )
    assert not torch.equal(plain, augmented)
    once = {**settings, "loop": {"outer": 1}}
    plain, augmented = (
        run(recipe("dsa", **once, augment_network=asked), train).images for asked in (False, True)
    )
    assert torch.equal(plain, augmented), "no network is trained"


class Stopping(Checkpoint):
    """Due after so many steps; the job then stops."""

    after = 0

    def due(self):
        self.after -= 1
        return self.after == 0


@pytest.mark.parametrize(
    ("after", "momentum"), [*((after, 0.0) for after in range(1, 6)), (2, 0.5), (4, 0.5)]
)
def test_a_run_resumed_anywhere_ends_with_the_same_images(after, momentum, train, tmp_path, monkeypatch):
    value = recipe("dsa", **SMALL, snapshots=2, network_optimizer={"momentum": momentum})
    whole = run(value, train)
    stopping = Stopping(tmp_path / "x.resume", "k")
    stopping.after = after

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr("condense.engines.run.stop_if_asked", stop)
    with pytest.raises(KeyboardInterrupt):
        run(value, train, checkpoint=stopping)
    resumed = run(value, train, checkpoint=Checkpoint(tmp_path / "x.resume", "k"))
    assert torch.equal(resumed.images, whole.images) and resumed.history == whole.history
    assert sorted(resumed.snapshots) == [2, 4, 6] and torch.equal(resumed.snapshots[6], whole.images)


def test_a_class_alone_is_as_among_others_where_no_network_is_trained(train):
    value = recipe("dsa", **{**SMALL, "loop": {"outer": 1}, "steps": 4})
    assert value.splits_by(False) == "classes" and value.splits_by(True) is None
    together, alone = run(value, train).images, run(value, train, [4]).images
    torch.testing.assert_close(alone[0], together[4], rtol=1e-4, atol=1e-5)
    assert recipe("dsa", **SMALL).splits_by(False) is None
    assert (
        replace(value, optimizer=replace(value.optimizer, plateau=specs.Plateau())).splits_by(False) is None
    )


def test_batch_norms_use_statistics_of_real_images_of_all_classes(train):
    value, arch = recipe("dsa", **SMALL), {"arch": "convnet_bn", "options": ARCH["options"]}
    made = GradientMatching(value, site(train, arch=arch), ipc=2, checkpoint=NOWHERE)
    made.advance(None)
    norms = [module for module in made.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and all(norm.num_batches_tracked > 0 for norm in norms)
    assert torch.isfinite(run(value, train, arch=arch).images).all()


@pytest.mark.parametrize("name", ["dc", "dsa"])
@pytest.mark.parametrize(
    ("ipc", "outer", "inner"),
    [(1, 1, 1), (10, 10, 50), (20, 20, 25), (30, 30, 20), (40, 40, 15), (50, 50, 10)],
)
def test_the_loops_are_those_of_the_authors(name, ipc, outer, inner):
    value = catalogue.resolve(
        catalogue.recipe(name), "cifar10", plan.data_cell("cifar10").spec.strategy, ipc, []
    )
    assert (value.loop.outer, value.loop.inner) == (outer, inner) and value.number_of_steps == 1000 * outer


def test_images_move_towards_smaller_distances(train):
    value = recipe("dsa", steps=40, batch_real=32, loop={"outer": 1}, optimizer={"lr": 0.5})
    losses = [row["loss"] for row in run(value, train, ipc=1).history]
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])


def test_a_rate_that_is_too_large_is_told(train):
    value = recipe("dsa", **{**SMALL, "steps": 3}, optimizer={"lr": 1e9})
    with pytest.raises(UserError, match="dsa: .* at step .*; lower the learning rate of the images"):
        run(value, train)


def test_every_setting_enters_the_key(train):
    base = recipe("dsa", **SMALL)
    other = {
        "distance": "whole_cosine",
        "loop": replace(base.loop, inner=3),
        "network_optimizer": replace(base.network_optimizer, lr=0.02),
        "batch_network": 9,
        "augment_network": False,
        "precision": "mixed",
    }
    parts = [
        base.computed_part(),
        *(replace(base, **{name: value}).computed_part() for name, value in other.items()),
    ]
    assert all(parts.count(part) == 1 for part in parts)
