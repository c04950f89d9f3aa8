"""Queues and banks of networks: a schedule worked by hand, a queue trained step by step, and files that must not be used."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bad_input_helpers import NET, recipe, refused, run, synthesis
from safetensors.numpy import save_file

from condense import models, seeds, specs
from condense.artifacts import canonical, file_sha256, read_header, read_tensors
from condense.checkpoints import Checkpoint
from condense.config import UserError, read
from condense.data.dataset import load
from condense.engines.matching import Matching
from condense.engines.streams import RealStream
from condense.networks import bank as banks
from condense.networks import parts
from condense.networks import schedule as plans
from condense.networks.parts import part_path
from condense.networks.queue import queue_stream

ARCH = {"arch": "convnet", "options": {"depth": 1, "width": 4}}
CPU = torch.device("cpu")
STEPS = 50
SMALL = specs.QueueNetworks("queue", start=2, push_every=7, largest=5, train_steps=2, batch=16, accuracy_over=20)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(digits):
    return load(digits / "train.safetensors")


def make(path, data, max_bytes=10**9, settings=SMALL, arch=ARCH, **changes):
    asked = {"seed": 3, "steps": STEPS, "key": "k", "device": CPU} | changes
    banks.make_queue_bank(path, data, settings, **arch, **asked, max_bytes=max_bytes)
    return path


def opened(path, data, settings=SMALL, seed=3, arch=ARCH):
    return banks.open_queue_bank(path, data, settings, **arch, seed=seed, device=CPU)


@pytest.fixture(scope="module")
def dense(data, tmp_path_factory):
    return make(tmp_path_factory.mktemp("dense") / "bank.safetensors", data)


@pytest.fixture(scope="module", params=["all", "some", "none"])
def bank(request, data, tmp_path_factory):
    """Banks that keep all sampled states, some of them, and none."""
    size = {"all": 10**9, "some": 100_000, "none": 0}[request.param]
    return make(tmp_path_factory.mktemp(request.param) / "bank.safetensors", data, size)


def copied(sampled):
    return sampled.number, sampled.accuracy, {name: value.clone() for name, value in sampled.network.state_dict().items()}


def assert_same(found, wanted):
    assert found[:2] == wanted[:2]
    for name, value in wanted[2].items():
        assert torch.equal(found[2][name], value), name


@pytest.fixture(scope="module")
def by_hand(data):
    """The queue as its authors' loop runs it, with torch.optim: (number, accuracy, state) of the sampled network at every step."""
    images = data.normalise(data.images)

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
        found.append((sampled["number"], accuracy, {name: value.clone() for name, value in sampled["network"].state_dict().items()}))
        left = list(held)
        for place in range(2):
            one = left.pop(seeds.stream(3, "queue", "trained", step, place) % len(left))
            generator = seeds.generator(3, "queue", "batches", one["number"], one["age"])
            for _ in range(2):
                chosen = torch.randperm(len(images), generator=generator)[:16]
                logits = one["network"](images[chosen])
                one["optimizer"].zero_grad()
                F.cross_entropy(logits, data.labels[chosen]).backward()
                one["optimizer"].step()
                one["right"] += int((logits.argmax(1) == data.labels[chosen]).sum())
                one["seen"] += 16
            one["age"] += 1
    return found


def test_pushes_and_pops_of_the_official_queue():
    """Three networks, one more at steps 0, 30, 60, ...; the hundredth is held from step 2880 on, and the next push takes out the first."""
    plan = plans.schedule(specs.QueueNetworks("queue"), 0, 3001)
    assert [plan[step].queue for step in (0, 29, 30, 2879, 2880, 2909, 2910, 2940)] == [
        *(range(0, 4), range(0, 4), range(0, 5), range(0, 99), range(0, 100), range(0, 100), range(1, 101), range(2, 102))
    ]


def test_a_schedule_worked_by_hand(monkeypatch):
    """With draws that always take the first: the oldest network is sampled, and the two oldest are trained."""
    monkeypatch.setattr(plans, "stream", lambda *name: 0)
    settings = specs.QueueNetworks("queue", start=1, push_every=3, largest=3, trained=2, accuracy_over=4)
    found = [(turn.queue, turn.sampled, turn.age, turn.counted, turn.trained) for turn in plans.schedule(settings, 0, 10)]
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
    assert all(turn.trained == (turn.sampled,) and turn.queue == range(max(0, step - 3), step + 1) for step, turn in enumerate(plan))


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


def test_a_queue_as_it_goes_is_that_of_the_loop_written_out(data, by_hand):
    stream = queue_stream(SMALL, data, **ARCH, seed=3, device=CPU)
    for step, wanted in enumerate(by_hand):
        assert_same(copied(stream.at(step)), wanted)
    assert stream.trainings < 2 * STEPS  # trainings after which a network is not sampled any more are left out
    assert 0.0 in {wanted[1] for wanted in by_hand} and max(wanted[1] for wanted in by_hand) > 20


def test_a_bank_gives_what_the_queue_gives(bank, data, by_hand):
    stream = opened(bank, data)
    for step, wanted in enumerate(by_hand):
        assert_same(copied(stream.at(step)), wanted)
    spacing = read_header(bank)["spacing"]
    assert stream.exact and (stream.trainings == 0) == (spacing == 1)


def test_any_order_of_steps_gives_the_same(bank, data, by_hand):
    order = torch.randperm(STEPS, generator=torch.Generator().manual_seed(0)).tolist()
    stream = opened(bank, data)
    for step in [*order, *range(10, 20), 3]:
        assert_same(copied(stream.at(step)), by_hand[step])
    spacing = read_header(bank)["spacing"]
    for step in order[:10]:
        fresh = opened(bank, data)
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
def test_running_statistics_and_dropout_are_repeated_too(arch, data, tmp_path):
    path = make(tmp_path / "bank.safetensors", data, 60_000, arch=arch, steps=20)
    assert read_header(path)["spacing"] > 1 and read_header(path)["parts"]
    one, other = opened(path, data, arch=arch), queue_stream(SMALL, data, **arch, seed=3, device=CPU)
    for step in (19, 4, 11, 12):
        assert_same(copied(one.at(step)), copied(other.at(step)))
    assert one.exact and one.trainings


def folder(path):
    return {file.name: file_sha256(file) for file in sorted(path.parent.rglob("*")) if file.is_file() and not file.name.endswith(".json")}


def test_reading_changes_nothing_and_maps_the_file(dense, data):
    before = folder(dense)
    first, second = opened(dense, data), opened(dense, data)
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
def test_a_bank_stays_below_its_size(limit, data, tmp_path, monkeypatch):
    monkeypatch.setattr("condense.networks.parts.PART_BYTES", 30_000)  # so that there are several parts
    path = make(tmp_path / "bank.safetensors", data, limit)
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
def test_a_bank_made_with_interruptions_has_the_same_bytes(limit, data, tmp_path, monkeypatch):
    monkeypatch.setattr("condense.networks.parts.PART_BYTES", 30_000)
    (tmp_path / "whole").mkdir()
    whole = make(tmp_path / "whole" / "bank.safetensors", data, limit)
    monkeypatch.setattr(banks, "Checkpoint", Stopping)
    path, interruptions = tmp_path / "cut" / "bank.safetensors", 0
    while not path.exists():
        try:
            make(path, data, limit)
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions == (STEPS - 1) // 3
    assert folder(path) == folder(whole)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 4}, ["seed 3", "4 is asked for"]),
        ({"settings": replace(SMALL, batch=8)}, ["networks", '"batch":8']),
        ({"arch": ARCH | {"arch": "convnet_nonorm"}}, ["convnet", "convnet_nonorm"]),
        ({"arch": ARCH | {"options": {"depth": 1, "width": 8}}}, ["options", '"width":8']),
    ],
)
def test_a_bank_of_something_else_is_refused(changes, words, dense, data):
    with pytest.raises(UserError) as caught:
        opened(dense, data, **changes)
    for word in (str(dense), *words):
        assert word in str(caught.value)


def test_a_bank_of_other_images_is_refused(dense, data):
    with pytest.raises(UserError, match="data_sha256"):
        opened(dense, replace(data, data_sha256="0" * 64))


def test_steps_beyond_a_bank_are_refused(dense, data):
    with pytest.raises(UserError, match=r"holds 50 steps, but step 51 .* --steps"):
        opened(dense, data).at(STEPS)


def test_small_states_make_no_part_whose_header_is_too_large():
    small, large = {"network.bias": torch.zeros(1)}, {"network.weight": torch.zeros(10**6)}
    assert parts.states_a_part(small) * (len("network.bias") + 128) <= parts.HEADER_BYTES
    assert parts.states_a_part(large) == parts.PART_BYTES // parts.size_of(large) == 16


def test_a_part_with_states_of_other_networks_is_refused(dense, data):
    stream = opened(dense, data)
    number, age = next(iter(stream.store.place))
    state = stream.store.state(number, age)
    with pytest.raises(UserError, match="classifier.bias.* of another shape"):
        stream.hold(number, age, state | {"network.classifier.bias": torch.zeros(3)})


def test_recipes_without_a_queue_keep_their_keys():
    assert asdict(matched_to({"kind": "random"}).networks) == {"kind": "random"}


def spoil(path, how):
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[:-1])
    elif how == "gone":
        path.unlink()
    else:
        content[-10] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "gone", "bit"])
@pytest.mark.parametrize("what", ["bank", "part"])
def test_a_damaged_bank_is_refused_by_name(how, what, data, tmp_path):
    path = make(tmp_path / "bank.safetensors", data, steps=8)
    spoilt = path if what == "bank" else part_path(path, 0)
    spoil(spoilt, how)
    with pytest.raises(UserError) as caught:
        stream = opened(path, data)
        for step in range(8):
            stream.at(step)
    assert str(spoilt) in str(caught.value)


def test_the_part_of_another_bank_is_refused(data, tmp_path):
    path = make(tmp_path / "bank.safetensors", data, steps=8)
    other = make(tmp_path / "other.safetensors", data, steps=8, seed=9)
    part_path(path, 0).write_bytes(part_path(other, 0).read_bytes())
    with pytest.raises(UserError, match="belongs to another bank"):
        opened(path, data)


def test_a_bank_whose_queue_was_drawn_otherwise_is_refused(dense, data, tmp_path):
    tensors, header = read_tensors(dense)
    tensors["sampled"] = tensors["sampled"][::-1].copy()
    banks.write_tensors(tmp_path / "bank.safetensors", tensors, header)
    with pytest.raises(UserError, match="another|otherwise"):
        opened(tmp_path / "bank.safetensors", data)


def test_a_replay_that_is_not_exact_is_told_once(data, tmp_path, caplog):
    path = make(tmp_path / "bank.safetensors", data, 0)
    tensors, header = read_tensors(path)
    tensors["right"] = tensors["right"] + 1
    banks.write_tensors(path, tensors, header)
    stream = opened(path, data)
    for step in range(STEPS):
        stream.at(step)
    assert [record.message.count("not repeated to the last bit") for record in caplog.records] == [1]


def test_a_diverging_queue_is_an_error_that_says_what_to_lower(data, tmp_path):
    wild = replace(SMALL, optimizer=specs.Optimizer(lr=1e30))
    with pytest.raises(UserError, match=r"network \d+ of the queue: the loss is .*nan.* lower its learning rate"):
        make(tmp_path / "bank.safetensors", data, settings=wild)


def test_finished_networks_are_given_back_mapped(data, tmp_path):
    networks = [models.build(ARCH["arch"], channels=1, size=8, classes=10, **ARCH["options"]) for _ in range(5)]
    path = tmp_path / "observers.safetensors"
    banks.write_networks(path, [network.state_dict() for network in networks], banks.origin(data, seed=0, **ARCH), "k")
    found = banks.NetworkBank(path, data, **ARCH)
    assert len(found) == 5
    for number in (4, 0, 2, 1, 3):
        state = found.network(number)
        assert state.keys() == networks[number].state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in networks[number].state_dict().items())
    assert str(part_path(path, 0)) in Path("/proc/self/maps").read_text()
    with pytest.raises(UserError, match="no network 5"):
        found.network(5)
    with pytest.raises(UserError, match="options"):
        banks.NetworkBank(path, data, arch="convnet", options={"depth": 1})
    with pytest.raises(UserError, match="at least one"):
        banks.write_networks(path, [], banks.origin(data, seed=0, **ARCH), "k")
    with pytest.raises(UserError, match="no such file"):
        banks.NetworkBank(path, data, **ARCH)


def test_a_bank_of_the_other_kind_is_refused(dense, data, tmp_path):
    with pytest.raises(UserError, match="holds a queue"):
        banks.NetworkBank(dense, data, **ARCH)
    save_file({}, tmp_path / "strange.safetensors")
    with pytest.raises(UserError, match="damaged"):
        opened(tmp_path / "strange.safetensors", data)


def matched_to(networks):
    return read(specs.Recipe, json.loads(recipe(networks=networks, steps=12, precision="fp32")), "test")


def test_matching_with_a_bank_is_matching_with_the_queue(dense, data, by_hand):
    """Also in shards: the queue is trained on all classes, whichever are condensed."""
    queued, images = matched_to(asdict(SMALL)), {}
    for classes in (data.classes, (2, 3)):
        for bank in (None, dense):
            stream = RealStream(queued, data, classes, **ARCH, seed=3, device=CPU, bank=bank)
            images[len(classes), bank] = Matching(queued, stream, ipc=1, critic=None, checkpoint=Checkpoint(None, "")).run().images
            assert stream.at(9).accuracy == by_hand[9][1] and not stream.network.training
    assert torch.equal(images[10, None], images[10, dense]) and torch.equal(images[2, None], images[2, dense])
    torch.testing.assert_close(images[2, None], images[10, None][2:4], rtol=1e-4, atol=1e-5)
    assert RealStream(matched_to({"kind": "random"}), data, (0,), **ARCH, seed=3, device=CPU).at(0).accuracy is None


def test_the_command_makes_a_bank_that_a_set_uses(digits, tmp_path):
    networks = canonical({"kind": "queue", "train_steps": 1, "batch": 8})
    train, out = ("--data", digits / "train.safetensors"), tmp_path / "bank.safetensors"
    status, told = run("bank", *train, "--networks", networks, "--steps", 4, *NET, "--out", out)
    assert status == 0, told
    assert read_header(out, "bank")["networks"]["push_every"] == 30
    asked = ("--recipe", recipe(networks={"kind": "queue", "train_steps": 1, "batch": 8}, steps=4), "--ipc", 1, *NET)
    for name, more in (("with", ("--bank", out)), ("without", ())):
        status, told = run("synthesize", *train, *asked, *more, "--out", tmp_path / name / "shard.safetensors")
        assert status == 0, told
    assert file_sha256(tmp_path / "with" / "shard.safetensors") == file_sha256(tmp_path / "without" / "shard.safetensors")
    assert run("inspect", out)[0] == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--networks", '{"kind": "queue", "push_evry": 3}'), ["--networks", "'push_evry'", "did you mean 'push_every'?"]),
        (("--networks", '{"kind": "queu"}'), ["'queu'", "did you mean 'queue'?"]),
        (("--networks", "idm"), ["--networks", "'idm'"]),
        (("--networks", '{"kind": "queue", "start": 200}'), ["start", "100"]),
        (("--networks", '{"kind": "queue", "trained": "both"}'), ["trained"]),
        (("--networks", '{"kind": "queue", "train_steps": 0}'), ["train_steps"]),
        (("--steps", 0), ["--steps"]),
        (("--max-mb", -1), ["--max-mb"]),
        (("--arch", "convnett"), ["'convnett'"]),
    ],
)
def test_senseless_banks(more, words, digits, tmp_path):
    asked = ("--data", digits / "train.safetensors", "--steps", 2, *NET, "--out", tmp_path / "bank.safetensors")
    message = refused("bank", *asked, *more)
    for word in words:
        assert word in message, message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        ({"kind": "queue", "larges": 3}, ["'larges'", "did you mean 'largest'?"]),
        ({"kind": "que"}, ["networks: kind", "'que'", "did you mean 'queue'?"]),
        ({"kind": "random", "start": 3}, ["'start'"]),
        ({"kind": 3}, ["'3'", "queue, random"]),
    ],
)
def test_recipes_with_senseless_networks(networks, words, digits, tmp_path):
    message = refused(*synthesis(digits, tmp_path / "shard.safetensors", "--recipe", recipe(networks=networks)))
    for word in words:
        assert word in message, message


def test_a_bank_for_networks_drawn_at_random_is_refused(dense, digits, tmp_path):
    assert "--bank" in refused(*synthesis(digits, tmp_path / "shard.safetensors", "--bank", dense))
