"""Networks of all epochs of a training: their bank, how steps draw them, and TGDD by a plain loop."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from interruption_helpers import until_done
from matching_helpers import ARCH, CPU, HERE, NOWHERE, recipe

from condense import jobs, models, plan, specs
from condense.config import UserError
from condense.engines.matching import Matching
from condense.engines.starts import initial_images
from condense.engines.streams import RealStream
from condense.files.artifacts import file_sha256
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.networks.finished import NetworkBank
from condense.networks.sources import network_source
from condense.specs import catalogue

EPOCHS, COUNT = 3, 2
pytestmark = pytest.mark.usefixtures("one_thread")


def protocol_of(epochs):
    """With one rate throughout, so that a shorter training is the beginning of a longer one."""
    changes = (
        "test",
        {"epochs": epochs, "precision": "fp32", "cutmix": 0.0, "schedule": {"kind": "constant"}},
    )
    return plan.changed_protocol("ncfm_networks", changes)


def made(path, digits, networks, epochs=EPOCHS):
    job = jobs.ParentJob(path, digits / "train.safetensors", **ARCH, seed=0, key="b", machine=HERE)
    jobs.make_trained_bank(job, networks=networks, protocol=protocol_of(epochs), strategy="none")
    return path


@pytest.fixture(scope="module")
def settings():
    return specs.TrajectoryNetworks("trajectory", "ncfm_networks", count=COUNT, ahead=1)


@pytest.fixture(scope="module")
def bank(digits, settings, tmp_path_factory, one_thread):
    return made(tmp_path_factory.mktemp("bank") / "bank.safetensors", digits, settings)


def equal(state, other):
    return all(torch.equal(state[name], other[name]) for name in state)


def test_a_bank_holds_what_shorter_trainings_end_with(bank, train, digits, tmp_path):
    whole = NetworkBank(bank, train, **ARCH)
    assert (len(whole), whole.epochs) == (COUNT * EPOCHS, EPOCHS)
    for epochs in (1, 2, 3):
        ends = specs.TrainedNetworks("trained", "ncfm_networks", count=COUNT)
        shorter = NetworkBank(made(tmp_path / f"{epochs}.safetensors", digits, ends, epochs), train, **ARCH)
        for number in range(COUNT):
            assert equal(whole.network(number * EPOCHS + epochs - 1), shorter.network(number))


def test_a_bank_of_trajectories_killed_anywhere_ends_the_same(bank, digits, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("CONDENSE_CHECKPOINT_SECONDS", "0")
    save, saves = Checkpoint.save, []

    def dies(self, tensors, state):
        save(self, tensors, state)
        saves.append(state)
        if len(saves) % 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", dies)
    until_done(lambda: made(tmp_path / "bank.safetensors", digits, settings))
    assert {"epoch": 0} in saves and {"done": EPOCHS} in saves, "in a training and between two"
    assert file_sha256(tmp_path / "bank.safetensors") == file_sha256(bank)


def source_of(settings, bank, train, seed=5):
    network = models.build(ARCH["arch"], channels=1, size=8, classes=10, **ARCH["options"])
    return network_source(settings, network.requires_grad_(False), train, **ARCH, seed=seed, bank=bank)


def test_every_step_has_a_network_and_one_some_epochs_further_on(bank, train, settings):
    held, source, met = NetworkBank(bank, train, **ARCH), source_of(settings, bank, train), Counter()
    known = []
    for number in range(COUNT):
        first = models.build(ARCH["arch"], channels=1, size=8, classes=10, **ARCH["options"])
        models.reinitialise(first, seeds.stream(0, "trained", number))
        known.append(
            [first.state_dict(), *(held.network(number * EPOCHS + epoch) for epoch in range(EPOCHS))]
        )
    for step in range(40):
        source.at(step)
        number, first, last = source.drawn(step)
        assert equal(source.network.state_dict(), known[number][first])
        assert equal(source.trained.state_dict(), known[number][last])
        assert not source.network.training and not source.trained.training
        met[number, first, last] += 1
    pairs = {(first, last) for _, first, last in met}
    assert pairs == {(0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3)}
    assert {number for number, _, _ in met} == set(range(COUNT))


def test_epochs_are_drawn_evenly(bank, train, settings):
    source = source_of(settings, bank, train, seed=1)
    drawn = [source.drawn(step) for step in range(8000)]
    for place, kinds in ((0, COUNT), (1, EPOCHS + 1)):
        shares = Counter(draw[place] for draw in drawn)
        assert len(shares) == kinds and all(abs(n / 8000 - 1 / kinds) < 0.02 for n in shares.values())
    assert all(last - first in (0, 1) and last <= EPOCHS for _, first, last in drawn)


def test_the_bank_of_the_other_kind_is_refused(bank, train, digits, settings, tmp_path):
    ends = specs.TrainedNetworks("trained", "ncfm_networks", count=COUNT)
    with pytest.raises(UserError, match="has the networks of 3 epochs .* the last ones"):
        source_of(ends, bank, train)
    with pytest.raises(UserError, match="the last ones"):
        source_of(specs.SubspaceNetworks("subspace", "ncfm_networks", count=COUNT), bank, train)
    with pytest.raises(UserError, match="asks for those of all epochs"):
        source_of(settings, made(tmp_path / "ends.safetensors", digits, ends, 1), train)
    with pytest.raises(UserError, match="has 6 networks, but 9 are asked for"):
        source_of(specs.TrajectoryNetworks("trajectory", "ncfm_networks", count=3), bank, train)


def test_tgdd_equals_a_plain_loop(bank, train):
    """Of one class: the squared distance of means under the network of the step, and alpha times the
    cross-entropy under the one further on."""
    label, steps = 3, 3
    value = recipe(
        "tgdd",
        networks={"count": COUNT},
        steps=steps,
        init="real",
        decode=None,
        augment={"siamese": "none", "mode": "one"},
        optimised="normalised",
        clip=False,
        optimizer={"lr": 0.01, "class_turns": False},
    )
    stream = RealStream(value, train, (label,), **ARCH, seed=0, device=CPU, bank=bank)
    run = Matching(value, stream, ipc=4, critic=None, checkpoint=NOWHERE)
    for step in range(steps):
        run.advance(stream.at(step))
    found = run.images[0]
    source = source_of(value.networks, bank, train, seed=0)
    own = train.of_class(label)
    images = initial_images(train, (label,), 4, "real", 0)[0].requires_grad_(True)
    optimizer = torch.optim.SGD([images], lr=0.01, momentum=0.5)
    for step in range(steps):
        source.at(step)
        order = torch.randperm(len(own), generator=seeds.generator(0, "real-batch", label, step))[:16]
        apart = source.network.embed(own[order]).mean(0) - source.network.embed(images).mean(0)
        guess = F.cross_entropy(source.trained(images), torch.full((4,), label))
        optimizer.zero_grad()
        (apart.square().sum() + 2.5 * guess).backward()
        optimizer.step()
    torch.testing.assert_close(found, images.detach(), rtol=1e-4, atol=1e-4)


def test_its_rate_and_its_weight_follow_the_images():
    base = catalogue.recipe("tgdd")
    chosen = {ipc: catalogue.resolve(base, "cifar10", "flip", ipc, []) for ipc in (1, 10, 50, 100)}
    assert [value.optimizer.lr for value in chosen.values()] == [0.01, 0.1, 0.5, 1.0]
    assert [value.terms[1].weight for value in chosen.values()] == [2.5, 2.5, 0.5, 0.5]
    assert (base.networks.count, base.networks.ahead, base.networks.epochs) == (5, 6, None)


def test_the_bank_is_another_one_than_that_of_the_ends():
    maker = plan.Maker(catalogue.scale("quick"))
    ours, other = (
        maker.synthetic("digits", name, "convnet", 1, 0).parents["bank"] for name in ("tgdd", "dance")
    )
    assert ours.kind == "trajectory_bank" and ours.key != other.key and ours.path != other.path
    epochs = ours.protocol.epochs
    size = ours.work().bytes_out / (other.work().bytes_out / other.networks.count)
    assert size == pytest.approx(ours.networks.count * epochs)
