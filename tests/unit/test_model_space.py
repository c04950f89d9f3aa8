"""Networks near the span of training trajectories, a second network at every step, and barycentres kept from
step to step."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matching_helpers import ARCH, CPU
from torch.nn.utils import parameters_to_vector

from condense import models, plan, specs
from condense.augment import siamese
from condense.config import UserError, convert
from condense.discrepancy.barycentre import wasserstein_barycentre
from condense.engines.matching import Matching
from condense.engines.starts import initial_images
from condense.engines.streams import RealStream
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.networks import subspace
from condense.networks.finished import write_networks
from condense.networks.origin import origin
from condense.specs import catalogue

COUNT = 3
pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(train, seed):
    network = models.build(
        ARCH["arch"], channels=train.channels, size=train.size, classes=len(train.counts), **ARCH["options"]
    )
    models.reinitialise(network.requires_grad_(False), seed)
    return network.eval()


@pytest.fixture(scope="module")
def finished(train):
    """Networks as they might be at the end of a training."""
    return [drawn(train, 100 + number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def bank(train, finished, tmp_path_factory):
    path = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    write_networks(path, [network.state_dict() for network in finished], origin(train, seed=7, **ARCH), "k")
    return path


def recipe(name, **changes):
    changes = {"steps": 4, "batch_real": 16, "precision": "fp32"} | changes
    return catalogue.resolve(
        catalogue.recipe(name), "digits", plan.data_cell("digits").spec.strategy, 1, [("test", changes)]
    )


def stream_of(value, train, bank=None, classes=None, seed=5):
    return RealStream(value, train, tuple(classes or train.classes), **ARCH, seed=seed, device=CPU, bank=bank)


def vector(network):
    return parameters_to_vector(network.parameters()).double()


def residual(point, basis):
    """What a point has off a span, by least squares."""
    weights = np.linalg.lstsq(basis.T.numpy(), point.numpy(), rcond=None)[0]
    return point - torch.from_numpy(weights @ basis.numpy())


def sample(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_span_has_an_orthonormal_basis_of_its_rank():
    points = sample(3, 50)
    basis = subspace.span(torch.cat([points, points[:1] - 2 * points[1:2]]))
    assert basis.shape == (3, 50)
    torch.testing.assert_close(basis @ basis.T, torch.eye(3).double(), atol=1e-12, rtol=0)
    assert residual(points[2], basis).abs().max() < 1e-12


def test_residuals_off_the_span_are_soft_thresholded():
    basis, point = subspace.span(sample(3, 50)), sample(50, seed=1)
    off = residual(point, basis)
    expected = (point - off) + off.sign() * (off.abs() - 0.3).clamp(min=0)
    torch.testing.assert_close(subspace.towards_span(point, basis, 0.3), expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(subspace.towards_span(point, basis, 0.0), point)
    torch.testing.assert_close(subspace.towards_span(point, basis, 1e3), point - off, rtol=1e-10, atol=1e-12)


def test_along_axes_it_is_the_proximal_point():
    """Of t * |residual|_1: no other point near by has less of it and half its squared distance together."""
    basis, point, t = torch.eye(8).double()[:2], sample(8), 0.4

    def objective(other):
        return (other - point).square().sum() / 2 + t * (other - (basis @ other) @ basis).abs().sum()

    found = subspace.towards_span(point, basis, t)
    assert all(objective(found) < objective(found + 1e-2 * sample(8, seed=seed)) for seed in range(1, 200))


def test_every_step_has_a_fresh_draw_brought_towards_the_trajectories(train, bank, finished):
    value = recipe("dm_subspace", networks={"count": 2, "threshold": 0.02})
    stream = stream_of(value, train, bank)
    points = [
        vector(network)
        for number in range(2)
        for network in (drawn(train, seeds.stream(7, "trained", number)), finished[number])
    ]
    basis = torch.stack(points)
    for step in (0, 3):
        side = stream.at(step)
        start = vector(drawn(train, seeds.stream(5, "network", step)))
        off, own = residual(start, basis), vector(side.network)
        expected = (start - off) + off.sign() * (off.abs() - 0.02).clamp(min=0)
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-6)
        assert 0 < (own - start).abs().max() <= 0.02 + 1e-6
    second = vector(stream.at(3).second_network)
    start = vector(drawn(train, seeds.stream(5, "second network", 3)))
    assert 0 < (second - start).abs().max() <= 0.02 + 1e-6


def test_subspace_networks_take_the_bank_of_trained_ones(train, bank):
    cell = plan.Maker(catalogue.scale("quick")).synthetic("digits", "dm_subspace", "convnet", 1, 0)
    assert (
        cell.parents["bank"].networks == specs.TrainedNetworks("trained", "plain_networks", 5)
        and cell.parents["bank"].protocol.name == "plain_networks"
    )
    other = plan.Maker(catalogue.scale("quick")).synthetic(
        "digits", "dm_subspace", "convnet", 1, 0, {"networks": {"threshold": 0.5}}
    )
    assert other.parents == cell.parents and other.key != cell.key
    with pytest.raises(UserError, match="has 3 networks, but 5 are asked for"):
        stream_of(recipe("dm_subspace"), train, bank)
    with pytest.raises(UserError, match="--with bank"):
        stream_of(recipe("dm_subspace"), train)
    for wrong in ({"count": 0}, {"threshold": -1.0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            recipe("dm_subspace", networks=wrong)


def test_the_second_network_is_drawn_when_asked_for_and_changes_nothing_else(train):
    stream = stream_of(recipe("dm_regularised"), train)
    side = stream.at(2)
    before = vector(side.network)
    assert torch.equal(
        vector(side.second_network), vector(drawn(train, seeds.stream(5, "second network", 2)))
    )
    assert torch.equal(vector(side.network), before) and torch.equal(
        before, vector(drawn(train, seeds.stream(5, "network", 2)))
    )
    assert side.second_network is side.second_network
    assert not torch.equal(
        vector(stream.at(3).second_network), vector(drawn(train, seeds.stream(5, "second network", 2)))
    )


@pytest.mark.parametrize("mixed", [False, True])
def test_the_second_of_trained_networks_is_another_one(mixed, train, bank, finished):
    networks = {"kind": "trained", "protocol": "critic", "count": COUNT, "mixed": mixed}
    stream, pairs = stream_of(recipe("dm", networks=networks), train, bank), set()
    ends = [vector(network) for network in finished]
    for step in range(30):
        first = seeds.stream(5, "network", step) % COUNT
        side = stream.at(step)
        found = vector(side.second_network)
        if mixed:
            starts = [vector(drawn(train, seeds.stream(7, "trained", number))) for number in range(COUNT)]
            share = torch.rand((), generator=seeds.generator(5, "second network", step)).item()
            which = [
                torch.allclose(found, share * start + (1 - share) * end, atol=1e-6)
                for start, end in zip(starts, ends, strict=True)
            ]
        else:
            which = [torch.equal(found, end) for end in ends]
        assert sum(which) == 1 and which.index(True) != first
        assert torch.equal(vector(side.trained), ends[first])
        pairs.add((first, which.index(True)))
    assert len(pairs) == COUNT * (COUNT - 1)


@pytest.mark.parametrize(
    "networks", [{"kind": "queue"}, {"kind": "trained", "protocol": "critic", "count": 1}]
)
def test_two_networks_are_not_asked_of_who_gives_one(networks):
    with pytest.raises(UserError, match="compares two networks"):
        recipe("dm_regularised", networks=networks)


def test_terms_that_couple_classes_are_told_in_the_recipe():
    with pytest.raises(UserError, match="couples"):
        recipe("dm_regularised", couples=[])
    cell = plan.Maker(catalogue.scale("quick")).synthetic("digits", "dm_regularised", "convnet", 1, 0)
    assert [str(shard) for shard in cell.shards(2)] == ["classes0-9"]


@pytest.mark.parametrize("changes", [{"count": 2}, {"mixed": True}])
def test_a_barycentre_needs_one_network(changes):
    with pytest.raises(UserError, match="one and the same network"):
        recipe("wmdd", networks=changes)


def class_moments(maps):
    pixels = [one.movedim(1, 0).flatten(1) for one in maps]
    return torch.cat([one.mean(1) for one in pixels]), torch.cat([one.var(1, correction=0) for one in pixels])


def wmdd_by_hand(value, train, network, label, ipc, seed):
    """One class by a plain loop: cross-entropy + way to the atoms + 0.01 of the class statistics, under one
    network."""
    with torch.no_grad():
        real = network.embed(train.of_class(label))
    start = torch.randn(ipc, real.shape[1], generator=seeds.generator(seed, "barycentre", label))
    atoms = wasserstein_barycentre(real, start)[0].float()
    images = initial_images(train, (label,), ipc, "noise", seed)[0].clone().requires_grad_(True)
    optimizer = torch.optim.Adam(
        [images], lr=value.optimizer.lr, betas=(value.optimizer.beta1, value.optimizer.beta2)
    )
    ends = [(level - train.mean[0]) / train.std[0] for level in (0.0, 1.0)]
    for step in range(value.steps):
        images.data.clamp_(*ends)
        order = torch.randperm(len(real), generator=seeds.generator(seed, "real-batch", label, step))[
            : value.batch_real
        ]
        draw = siamese.draw(value.augment.siamese, train.size, seeds.generator(seed, "augment", label, step))
        seen = siamese.apply(images, draw)
        with torch.no_grad():
            goal = class_moments(network.feature_maps(siamese.apply(train.of_class(label, order), draw)))
        own = class_moments(network.feature_maps(seen))
        loss = (
            F.cross_entropy(network(seen), torch.full((ipc,), label)) + (network.embed(seen) - atoms).norm()
        )
        loss = loss + 0.01 * sum((left - right).norm() for left, right in zip(goal, own, strict=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return images.detach()


def test_wmdd_is_a_plain_loop(train, bank, finished):
    value = recipe("wmdd")
    found = (
        Matching(
            value, stream_of(value, train, bank, (2, 7)), ipc=3, critic=None, checkpoint=Checkpoint(None, "")
        )
        .run()
        .images
    )
    for place, label in enumerate((2, 7)):
        expected = wmdd_by_hand(value, train, finished[0], label, 3, 5)
        torch.testing.assert_close(found[place], expected, rtol=1e-2, atol=1e-2)
        assert (expected - initial_images(train, (label,), 3, "noise", 5)[0]).abs().mean() > 0.3


class Stopping(Checkpoint):
    """Saves at every step, and interrupts at the first."""

    def due(self):
        return True

    def write(self, tensors, state):
        super().write(tensors, state)
        raise KeyboardInterrupt


def test_atoms_are_computed_once_and_enter_checkpoints(train, bank, tmp_path, monkeypatch):
    value, calls = recipe("wmdd"), []

    def counted(*samples):
        calls.append(samples)
        return wasserstein_barycentre(*samples)

    monkeypatch.setattr("condense.engines.terms.wasserstein_barycentre", counted)
    classes = (2, 7)
    whole = (
        Matching(
            value, stream_of(value, train, bank, classes), ipc=2, critic=None, checkpoint=Checkpoint(None, "")
        )
        .run()
        .images
    )
    assert len(calls) == len(classes)
    stopped = Matching(
        value,
        stream_of(value, train, bank, classes),
        ipc=2,
        critic=None,
        checkpoint=Stopping(tmp_path / "c", "k"),
    )
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert 0 < stopped.done < value.steps and len(calls) == 2 * len(classes)
    resumed = Matching(
        value,
        stream_of(value, train, bank, classes),
        ipc=2,
        critic=None,
        checkpoint=Checkpoint(tmp_path / "c", "k"),
    )
    assert torch.equal(resumed.run().images, whole) and len(calls) == 2 * len(classes)
    assert torch.equal(resumed.memory["barycentre"]["atoms"], stopped.memory["barycentre"]["atoms"])


def test_settings_without_the_new_networks_keep_their_keys():
    assert convert(specs.AnyRecipe, asdict(catalogue.recipe("dm")), "test") == catalogue.recipe("dm")
    assert "covering" not in catalogue.recipe("k_center").computed_part()
    other = replace(catalogue.recipe("minimum_covering"), covering=specs.Covering(50))
    assert other.computed_part() != catalogue.recipe("minimum_covering").computed_part()
