"""Banks of networks: what is refused, what is damaged, and the command that makes them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bad_input_helpers import NET, recipe, refused, run, synthesis
from queue_helpers import ARCH, SMALL, STEPS, make, opened
from safetensors.numpy import save_file

from condense import models, specs
from condense.command import show
from condense.config import UserError
from condense.files.artifacts import canonical, file_sha256, read_header, read_tensors
from condense.networks import bank as banks
from condense.networks import finished, parts
from condense.networks.origin import origin
from condense.networks.parts import part_path

pytestmark = pytest.mark.usefixtures("one_thread")


def test_steps_beyond_a_bank_are_refused(dense, train):
    with pytest.raises(UserError, match=r"holds 50 steps, but step 51 .* --steps"):
        opened(dense, train).at(STEPS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 4}, ["seed 3", "4 is asked for"]),
        ({"settings": replace(SMALL, batch=8)}, ["networks", '"batch":8']),
        ({"arch": ARCH | {"arch": "convnet_nonorm"}}, ["convnet", "convnet_nonorm"]),
        ({"arch": ARCH | {"options": {"depth": 1, "width": 8}}}, ["options", '"width":8']),
    ],
)
def test_a_bank_of_something_else_is_refused(changes, words, dense, train):
    with pytest.raises(UserError) as caught:
        opened(dense, train, **changes)
    for word in (str(dense), *words):
        assert word in str(caught.value)


def test_a_bank_of_other_images_is_refused(dense, train):
    with pytest.raises(UserError, match="data_sha256"):
        opened(dense, replace(train, data_sha256="0" * 64))


def test_small_states_make_no_part_whose_header_is_too_large():
    small, large = {"network.bias": torch.zeros(1)}, {"network.weight": torch.zeros(10**6)}
    assert parts.states_a_part(small) * (len("network.bias") + 128) <= parts.HEADER_BYTES
    assert parts.states_a_part(large) == parts.PART_BYTES // parts.size_of(large) == 16


def test_a_part_with_states_of_other_networks_is_refused(dense, train):
    stream = opened(dense, train)
    number, age = next(iter(stream.store.index))
    state = stream.store.state(number, age)
    with pytest.raises(UserError, match="classifier.bias.* of another shape"):
        stream.hold(number, age, state | {"network.classifier.bias": torch.zeros(3)})


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
def test_a_damaged_bank_is_refused_by_name(how, what, train, tmp_path):
    """By who reads it, and by `condense inspect`."""
    path = make(tmp_path / "bank.safetensors", train, steps=8)
    spoilt = path if what == "bank" else part_path(path, 0)
    assert "of the tensors, and the files that belong to it" in show.describe(path)
    spoil(spoilt, how)
    with pytest.raises(UserError) as caught:
        stream = opened(path, train)
        for step in range(8):
            stream.at(step)
    with pytest.raises(UserError) as told:
        show.describe(path)
    assert str(spoilt) in str(caught.value) and str(spoilt) in str(told.value)


def test_the_part_of_another_bank_is_refused(train, tmp_path):
    path = make(tmp_path / "bank.safetensors", train, steps=8)
    other = make(tmp_path / "other.safetensors", train, steps=8, seed=9)
    part_path(path, 0).write_bytes(part_path(other, 0).read_bytes())
    with pytest.raises(UserError, match="belongs to another bank"):
        opened(path, train)


def test_a_bank_that_is_older_than_a_setting_with_a_default_is_opened(dense, train, tmp_path):
    """Its header does not name the setting; one that was made otherwise is refused."""
    tensors, header = read_tensors(dense)
    queue = {name: value for name, value in header["networks"].items() if name != "optimizer"}
    banks.write_tensors(tmp_path / "bank.safetensors", tensors, {**header, "networks": queue, "parts": []})
    with pytest.raises(UserError, match="0 parts for"):  # it is what was asked for
        opened(tmp_path / "bank.safetensors", train)
    faster = replace(SMALL, optimizer=replace(SMALL.optimizer, lr=0.5))
    with pytest.raises(UserError, match="was made with networks .* is asked for"):
        opened(tmp_path / "bank.safetensors", train, faster)


def test_a_bank_whose_queue_was_drawn_otherwise_is_refused(dense, train, tmp_path):
    tensors, header = read_tensors(dense)
    tensors["sampled"] = tensors["sampled"][::-1].copy()
    banks.write_tensors(tmp_path / "bank.safetensors", tensors, header)
    with pytest.raises(UserError, match="another|otherwise"):
        opened(tmp_path / "bank.safetensors", train)


def test_a_replay_that_is_not_exact_is_told_once(train, tmp_path, caplog):
    path = make(tmp_path / "bank.safetensors", train, 0)
    tensors, header = read_tensors(path)
    tensors["right"] = tensors["right"] + 1
    banks.write_tensors(path, tensors, header)
    stream = opened(path, train)
    for step in range(STEPS):
        stream.at(step)
    assert [record.message.count("not repeated to the last bit") for record in caplog.records] == [1]


def test_a_diverging_queue_is_an_error_that_says_what_to_lower(train, tmp_path):
    wild = replace(SMALL, optimizer=specs.NetworkSGD(lr=1e30))
    with pytest.raises(
        UserError, match=r"network \d+ of the queue: the loss is .*nan.* lower its learning rate"
    ):
        make(tmp_path / "bank.safetensors", train, settings=wild)


def test_finished_networks_are_given_back_mapped(train, tmp_path):
    networks = [
        models.build(ARCH["arch"], channels=1, size=8, classes=10, **ARCH["options"]) for _ in range(5)
    ]
    path = tmp_path / "observers.safetensors"
    finished.write_networks(
        path, [network.state_dict() for network in networks], origin(train, seed=0, **ARCH), "k"
    )
    found = finished.NetworkBank(path, train, **ARCH)
    assert len(found) == 5
    for number in (4, 0, 2, 1, 3):
        state = found.network(number)
        assert state.keys() == networks[number].state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in networks[number].state_dict().items())
    assert str(part_path(path, 0)) in Path("/proc/self/maps").read_text()
    with pytest.raises(UserError, match="no network 5"):
        found.network(5)
    with pytest.raises(UserError, match="options"):
        finished.NetworkBank(path, train, arch="convnet", options={"depth": 1})
    with pytest.raises(UserError, match="at least one"):
        finished.write_networks(path, [], origin(train, seed=0, **ARCH), "k")
    with pytest.raises(UserError, match="no such file"):
        finished.NetworkBank(path, train, **ARCH)


def test_a_bank_of_the_other_kind_is_refused(dense, train, tmp_path):
    with pytest.raises(UserError, match="holds a queue"):
        finished.NetworkBank(dense, train, **ARCH)
    save_file({}, tmp_path / "strange.safetensors")
    with pytest.raises(UserError, match="damaged"):
        opened(tmp_path / "strange.safetensors", train)


def test_the_command_makes_a_bank_that_a_set_uses(digits, tmp_path):
    networks = canonical({"kind": "queue", "train_steps": 1, "batch": 8})
    train, out = ("--data", digits / "train.safetensors"), tmp_path / "bank.safetensors"
    status, told = run("bank", *train, "--networks", networks, "--steps", 4, *NET, "--out", out)
    assert status == 0, told
    assert read_header(out, "bank")["networks"]["push_every"] == 30
    asked = (
        "--recipe",
        recipe(networks={"kind": "queue", "train_steps": 1, "batch": 8}, steps=4),
        "--ipc",
        1,
        *NET,
    )
    for name, more in (("with", ("--with", f"bank={out}")), ("without", ())):
        status, told = run(
            "synthesize", *train, *asked, *more, "--out", tmp_path / name / "shard.safetensors"
        )
        assert status == 0, told
    assert file_sha256(tmp_path / "with" / "shard.safetensors") == file_sha256(
        tmp_path / "without" / "shard.safetensors"
    )
    assert run("inspect", out)[0] == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ("--networks", '{"kind": "queue", "push_evry": 3}'),
            ["--networks", "'push_evry'", "did you mean 'push_every'?"],
        ),
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
    asked = (
        "--data",
        digits / "train.safetensors",
        "--steps",
        2,
        *NET,
        "--out",
        tmp_path / "bank.safetensors",
    )
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
    message = refused(
        *synthesis(digits, tmp_path / "shard.safetensors", "--recipe", recipe(networks=networks))
    )
    for word in words:
        assert word in message, message


def test_a_bank_for_networks_drawn_at_random_is_refused(dense, digits, tmp_path):
    assert "--with" in refused(*synthesis(digits, tmp_path / "shard.safetensors", "--with", f"bank={dense}"))
