"""Queues of networks and their banks: a schedule worked by hand, and a queue trained step by step."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bad_input_helpers import recipe
from queue_helpers import ARCH, CPU, SMALL, STEPS, make, opened

from condense import models, specs
from condense.config import convert
from condense.engines.matching import Matching
from condense.engines.streams import RealStream
from condense.files.artifacts import file_sha256, read_header
from condense.files.checkpoints import Checkpoint
from condense.machine import seeds
from condense.networks import making
from condense.networks import schedule as plans
from condense.networks.parts import part_path
from condense.networks.queue import queue_stream

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["all", "some", "none"])
def bank(request, train, tmp_path_factory):
    """Banks that keep all sampled states, some of them, and none."""
    size = {"all": 10**9, "some": 100_000, "none": 0}[request.param]
    return make(tmp_path_factory.mktemp(request.param) / "bank.safetensors", train, size)


def copied(sampled):
    return (
        sampled.number,
        sampled.accuracy,
        {name: value.clone() for name, value in sampled.network.state_dict().items()},
    )


def assert_same(found, wanted):
    assert found[:2] == wanted[:2]
    for name, value in wanted[2].items():
        assert torch.equal(found[2][name], value), name


@pytest.fixture(scope="module")
def by_hand(train):
    """The queue as its authors' loop runs it, with torch.optim: (number, accuracy, state) of the sampled
    network at every step."""
    images = train.normalise(train.images)

    def drawn(number):
        torch.manual_seed(seeds.stream(3, "queue", "network", number))
        network = models.build(ARCH["arch"], channels=1, size=8, classes=10, **ARCH["options"])
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        return {"number": number, "network": network, "optimizer": optimizer, "age": 0, "right": 0, "seen": 0}

    held, found = [drawn(0), drawn(1)], []
    for step in range(STEPS):
        if step and step % 20 == 0:
            for one in held:
                one["right"] = one["seen"] = 0
        if step % 7 == 0:
            if len(held) == 5:
                held.pop(0)
            held.append(drawn(2 + step // 7))
        sampled = held[seeds.stream(3, "queue", "sampled", step) % len(held)]
        accuracy = 100.0 * sampled["right"] / sampled["seen"] if sampled["seen"] else 0.0
        found.append(
            (
                sampled["number"],
                accuracy,
                {name: value.clone() for name, value in sampled["network"].state_dict().items()},
            )
        )
        left = list(held)
        for place in range(2):
            one = left.pop(seeds.stream(3, "queue", "trained", step, place) % len(left))
            generator = seeds.generator(3, "queue", "batches", one["number"], one["age"])
            for _ in range(2):
                chosen = torch.randperm(len(images), generator=generator)[:16]
                logits = one["network"](images[chosen])
                one["optimizer"].zero_grad()
                F.cross_entropy(logits, train.labels[chosen]).backward()
                one["optimizer"].step()
                one["right"] += int((logits.argmax(1) == train.labels[chosen]).sum())
                one["seen"] += 16
            one["age"] += 1
    return found


def test_pushes_and_pops_of_the_official_queue():
    """Three networks, one more at steps 0, 30, 60, ...; the hundredth is held from step 2880 on, and the next
    push takes out the first."""
    plan = plans.schedule(specs.QueueNetworks("queue"), 0, 3001)
    assert [plan[step].queue for step in (0, 29, 30, 2879, 2880, 2909, 2910, 2940)] == [
        *(
            range(0, 4),
            range(0, 4),
            range(0, 5),
            range(0, 99),
            range(0, 100),
            range(0, 100),
            range(1, 101),
            range(2, 102),
        )
    ]


def test_a_schedule_worked_by_hand(monkeypatch):
    """With draws that always take the first: the oldest network is sampled, and the two oldest are
    trained."""
    monkeypatch.setattr(plans, "stream", lambda *name: 0)
    settings = specs.QueueNetworks("queue", start=1, push_every=3, largest=3, trained=2, accuracy_over=4)
    found = [
        (turn.queue, turn.sampled, turn.age, turn.counted, turn.trained)
        for turn in plans.schedule(settings, 0, 10)
    ]
    assert found == [
        (range(0, 2), 0, 0, 0, (0, 1)),
        (range(0, 2), 0, 1, 1, (0, 1)),
        (range(0, 2), 0, 2, 2, (0, 1)),
        (range(0, 3), 0, 3, 3, (0, 1)),
        (range(0, 3), 0, 4, 0, (0, 1)),  # accuracies start anew
        (range(0, 3), 0, 5, 1, (0, 1)),
        (range(1, 4), 1, 6, 2, (1, 2)),  # network 0 is taken out; 1 has been trained at every step
        (range(1, 4), 1, 7, 3, (1, 2)),
        (range(1, 4), 1, 8, 0, (1, 2)),
        (range(2, 5), 2, 3, 1, (2, 3)),
    ]


def test_the_printed_algorithm_trains_the_sampled_network_and_pushes_at_every_step():
    settings = specs.QueueNetworks("queue", start=0, push_every=1, largest=4, trained="sampled")
    plan = plans.schedule(settings, 5, 200)
    assert all(
        turn.trained == (turn.sampled,) and turn.queue == range(max(0, step - 3), step + 1)
        for step, turn in enumerate(plan)
    )


def test_networks_are_sampled_and_trained_evenly_and_independently():
    settings = specs.QueueNetworks("queue", start=5, largest=5, push_every=10**6, trained=2)
    plan = plans.schedule(settings, 1, 4000)[1:]
    assert all(len(set(turn.trained)) == 2 for turn in plan)
    rows = np.zeros((5, 5))
    for turn in plan:
        for number in turn.trained:
            rows[turn.sampled - 1, number - 1] += 1
    assert np.abs(rows.sum(1) / 2 - 800).max() < 4 * np.sqrt(4000 * 0.16)  # sampled: 1 in 5
    assert np.abs(rows.sum(0) - 1600).max() < 4 * np.sqrt(4000 * 0.24)  # trained: 2 in 5
    assert np.abs(rows - 320).max() < 4 * np.sqrt(4000 * 0.08)


@pytest.mark.parametrize("spacing", [1, 2, 3, 8, 1000])
def test_kept_states_are_so_close_and_have_momentum_exactly_where_it_is_needed(spacing):
    plan = plans.schedule(replace(SMALL, push_every=30, largest=20), 0, 600)
    kept = plans.kept_states(plan, spacing)
    where = {(one.number, one.age): one.velocity for one in kept}
    sampled = {}
    for turn in plan:
        sampled.setdefault(turn.sampled, []).append(turn.age)
    for number, ages in sampled.items():
        known = [0, *(one.age for one in kept if one.number == number)]
        assert all(second - first >= spacing for first, second in zip(known, known[1:], strict=False))
        needed = set()
        for age in ages:
            base = max(entry for entry in known if entry <= age)
            assert age - base < spacing
            needed |= {base} if base < age else set()
        assert {age for age in known[1:] if where[number, age]} == needed - {0}
    assert spacing != 1 or not any(where.values())


def test_a_queue_as_it_goes_is_that_of_the_loop_written_out(train, by_hand):
    stream = queue_stream(SMALL, train, **ARCH, seed=3, device=CPU)
    for step, wanted in enumerate(by_hand):
        assert_same(copied(stream.at(step)), wanted)
    # Trainings after which a network is not sampled any more are left out
    assert stream.trainings < 2 * STEPS
    assert 0.0 in {wanted[1] for wanted in by_hand} and max(wanted[1] for wanted in by_hand) > 20


def test_a_bank_gives_what_the_queue_gives(bank, train, by_hand):
    stream = opened(bank, train)
    for step, wanted in enumerate(by_hand):
        assert_same(copied(stream.at(step)), wanted)
    spacing = read_header(bank)["spacing"]
    assert stream.exact and (stream.trainings == 0) == (spacing == 1)


def test_any_order_of_steps_gives_the_same(bank, train, by_hand):
    order = torch.randperm(STEPS, generator=torch.Generator().manual_seed(0)).tolist()
    stream = opened(bank, train)
    for step in [*order, *range(10, 20), 3]:
        assert_same(copied(stream.at(step)), by_hand[step])
    spacing = read_header(bank)["spacing"]
    for step in order[:10]:
        fresh = opened(bank, train)
        assert_same(copied(fresh.at(step)), by_hand[step])
        assert fresh.trainings < spacing  # however far the step is


@pytest.mark.parametrize(
    "arch",
    [
        {"arch": "convnet_bn", "options": ARCH["options"]},
        {"arch": "vit", "options": {"patch": 4, "dim": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp": 8}},
    ],
    ids=lambda arch: arch["arch"],
)
def test_running_statistics_and_dropout_are_repeated_too(arch, train, tmp_path):
    path = make(tmp_path / "bank.safetensors", train, 60_000, arch=arch, steps=20)
    assert read_header(path)["spacing"] > 1 and read_header(path)["parts"]
    one, other = opened(path, train, arch=arch), queue_stream(SMALL, train, **arch, seed=3, device=CPU)
    for step in (19, 4, 11, 12):
        assert_same(copied(one.at(step)), copied(other.at(step)))
    assert one.exact and one.trainings


def folder(path):
    return {
        file.name: file_sha256(file)
        for file in sorted(path.parent.rglob("*"))
        if file.is_file() and not file.name.endswith(".json")
    }


def test_reading_changes_nothing_and_maps_the_file(dense, train):
    before = folder(dense)
    first, second = opened(dense, train), opened(dense, train)
    for stream in (first, second):
        sampled = stream.at(STEPS - 1)
        with torch.no_grad():
            for value in sampled.network.state_dict().values():
                value.zero_()
    state = first.store.state(sampled.number, sampled.age)
    assert any(value.abs().sum() > 0 for value in state.values())
    assert str(part_path(dense, 0)) in Path("/proc/self/maps").read_text()
    assert folder(dense) == before


@pytest.mark.parametrize("limit", [0, 20_000, 60_000, 100_000, 10**9])
def test_a_bank_stays_below_its_size(limit, train, tmp_path, monkeypatch):
    monkeypatch.setattr("condense.networks.parts.PART_BYTES", 30_000)  # so that there are several parts
    path = make(tmp_path / "bank.safetensors", train, limit)
    sizes = [part_path(path, number).stat().st_size for number in range(len(read_header(path)["parts"]))]
    assert sum(sizes) <= limit and (len(sizes) > 3 or limit < 10**9)
    assert path.stat().st_size < 4 * 4 * STEPS * 2 + 4096


class Stopping(Checkpoint):
    """Saves at every step, and interrupts at the third, as Ctrl-C does."""

    left = 3

    def due(self):
        return True

    def save(self, tensors, state):
        self.write(tensors, state)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("limit", [10**9, 60_000])
def test_a_bank_made_with_interruptions_has_the_same_bytes(limit, train, tmp_path, monkeypatch):
    monkeypatch.setattr("condense.networks.parts.PART_BYTES", 30_000)
    (tmp_path / "whole").mkdir()
    whole = make(tmp_path / "whole" / "bank.safetensors", train, limit)
    monkeypatch.setattr(making, "Checkpoint", Stopping)
    path, interruptions = tmp_path / "cut" / "bank.safetensors", 0
    while not path.exists():
        try:
            make(path, train, limit)
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions == (STEPS - 1) // 3
    assert folder(path) == folder(whole)


def test_recipes_without_a_queue_keep_their_keys():
    assert asdict(matched_to({"kind": "random"}).networks) == {"kind": "random"}


def matched_to(networks):
    return convert(specs.AnyRecipe, json.loads(recipe(networks=networks, steps=12, precision="fp32")), "test")


def test_matching_with_a_bank_is_matching_with_the_queue(dense, train, by_hand):
    """Also in shards: the queue is trained on all classes, whichever are condensed."""
    queued, images = matched_to(asdict(SMALL)), {}
    for classes in (train.classes, (2, 3)):
        for bank in (None, dense):
            stream = RealStream(queued, train, classes, **ARCH, seed=3, device=CPU, bank=bank)
            images[len(classes), bank] = (
                Matching(queued, stream, ipc=1, critic=None, checkpoint=Checkpoint(None, "")).run().images
            )
            assert stream.at(9).accuracy == by_hand[9][1] and not stream.network.training
    assert torch.equal(images[10, None], images[10, dense]) and torch.equal(images[2, None], images[2, dense])
    torch.testing.assert_close(images[2, None], images[10, None][2:4], rtol=1e-4, atol=1e-5)
    assert (
        RealStream(matched_to({"kind": "random"}), train, (0,), **ARCH, seed=3, device=CPU).at(0).accuracy
        is None
    )
