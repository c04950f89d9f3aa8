"""Damaged files: they are refused by name, or they read as they were; nothing else ever comes out of them."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bad_input_helpers import evaluation, fixed, refused, run, synthesis
from hypothesis import given, settings
from hypothesis import strategies as st

from condense.config import UserError
from condense.data.dataset import load
from condense.engines.progressed import Progressed
from condense.evaluate.synthetic import load_synthetic
from condense.files.artifacts import canonical, read_header, read_json, read_tensors
from condense.files.checkpoints import Checkpoint
from condense.networks.pretrain import load_teacher


@st.composite
def damaged(draw, data):
    """Bytes of a file that was cut short, overwritten in a bit or a block, lengthened, or that never was one
    of ours."""
    kind = draw(
        st.sampled_from(
            ["cut", "flip", "flip", "flip", "header", "header", "header", "length", "longer", "hole", "junk"]
        )
    )
    (length,) = np.frombuffer(data[:8], "<u8").tolist()
    if kind == "cut":
        return data[: draw(st.integers(0, len(data) - 1) | st.integers(0, min(len(data) - 1, 8 + length)))]
    if kind == "length":
        return draw(st.binary(min_size=8, max_size=8)) + data[8:]
    if kind == "longer":
        return data + draw(st.binary(min_size=1, max_size=9))
    if kind == "junk":
        return draw(
            st.binary(max_size=200)
            | st.builds(lambda text: len(text).to_bytes(8, "little") + text, st.binary(max_size=80))
        )
    spoilt = bytearray(data)
    end = 8 + length if kind == "header" else len(data)
    if kind == "hole":
        start = draw(st.integers(0, len(data) - 1))
        spoilt[start : start + 4096] = bytes(len(spoilt[start : start + 4096]))
        return bytes(spoilt)
    spoilt[draw(st.integers(0, end - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(spoilt)


def same(read, true):
    """Whether tensors or values that were read are the true ones; a header may have got entries that nobody
    asks for."""
    if isinstance(true, dict):
        return all(key in read and same(read[key], value) for key, value in true.items())
    if isinstance(true, (tuple, list)):
        return len(read) == len(true) and all(same(*pair) for pair in zip(read, true, strict=True))
    if isinstance(true, (np.ndarray, torch.Tensor)):
        return read.dtype == true.dtype and np.array_equal(np.asarray(read), np.asarray(true))
    return read == true


READERS = {
    "dataset": lambda path: [vars(load(path)), read_tensors(path, "dataset")],
    "teacher": lambda path: [read_header(path, "teacher"), read_tensors(path, "teacher")],
    "shard": lambda path: [read_tensors(path, "shard")],
    "synthetic": lambda path: [vars(load_synthetic(path)), read_header(path)],
    "checkpoint": lambda path: [Checkpoint(path, "key").load(Progressed)],
}


@pytest.mark.parametrize("kind", READERS)
def test_damaged_artifacts_are_refused_by_name_or_read_as_they_were(kind, made, tmp_path):
    original = getattr(made, kind).read_bytes()
    true = READERS[kind](getattr(made, kind))
    path, refusals = tmp_path / "file.safetensors", []

    @fixed
    @given(damaged(original))
    def check(data):
        path.write_bytes(data)
        try:
            found = READERS[kind](path)
        except UserError as error:
            assert str(path) in str(error)
            refusals.append(str(error))
        else:
            assert same(found, true)

    check()
    assert len(refusals) > 30


@pytest.mark.parametrize("kind", READERS)
def test_every_entry_of_a_header_is_guarded(kind, made, tmp_path):
    """Each entry in turn removed or changed, with the JSON still whole."""
    data = getattr(made, kind).read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    layout = json.loads(data[8:end])
    note = json.loads(layout["__metadata__"]["condense"])
    path = tmp_path / "file.safetensors"
    for key in note.keys() - {"header_sha256"}:
        for other in (
            {**note, key: [note[key]]},
            {name: value for name, value in note.items() if name != key},
        ):
            text = json.dumps({**layout, "__metadata__": {"condense": canonical(other)}}).encode()
            path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
            with pytest.raises(UserError, match="file.safetensors"):
                read_header(path, kind)


def test_a_teacher_of_other_images(made, tmp_path):
    images = load(made.dataset)
    assert load_teacher(made.teacher, images, torch.device("cpu"))
    other = SimpleNamespace(**vars(images) | {"data_sha256": "0" * 64})
    with pytest.raises(UserError, match="teacher.safetensors"):
        load_teacher(made.teacher, other, torch.device("cpu"))


@fixed
@given(data=st.data())
def test_damaged_json(made, tmp_path_factory, data):
    original = made.metrics.read_text()
    place = data.draw(st.integers(0, len(original)))
    path = made.folder / "damaged.json"
    rest = original[place:] if data.draw(st.booleans()) else ""
    path.write_bytes(original[:place].encode() + data.draw(st.binary(max_size=5)) + rest.encode())
    try:
        read_json(path)
    except UserError as error:
        assert str(path) in str(error)


def test_verbs_name_the_damaged_file(made, tmp_path):
    synthetic, shard = made.synthetic.read_bytes(), made.shard.read_bytes()
    path = tmp_path / "file.safetensors"
    shutil.copy(made.shard.with_name("shard.run.json"), tmp_path / "file.run.json")
    train = ("--data", made.digits / "train.safetensors")

    @settings(fixed, max_examples=25)
    @given(st.data())
    def check(data):
        path.write_bytes(data.draw(damaged(synthetic)))
        status, told = run(*evaluation(path, made.digits, tmp_path / "metrics.json"))
        assert status == 0 or str(path) in refused(
            *evaluation(path, made.digits, tmp_path / "metrics.json")
        ), told
        status, told = run("inspect", path)
        assert status == 0 or str(path) in refused("inspect", path), told
        path.write_bytes(data.draw(damaged(shard)))
        argv = ("gather", "--shards", path, *train, "--out", tmp_path / "set.safetensors")
        status, told = run(*argv)
        assert status == 0 or str(path) in refused(*argv), told

    check()


@pytest.mark.parametrize(
    "facts", ["", "[]", "{}", '{"seconds": "x", "peak_memory_bytes": 1}', '{"seconds": 1']
)
def test_gather_names_a_damaged_record_of_a_shard(facts, made, tmp_path):
    shutil.copy(made.shard, tmp_path / "file.safetensors")
    (tmp_path / "file.run.json").write_text(facts)
    argv = (
        "gather",
        "--shards",
        tmp_path / "file.safetensors",
        "--data",
        made.dataset,
        "--out",
        tmp_path / "set.safetensors",
    )
    assert str(tmp_path / "file.run.json") in refused(*argv)
    assert not (tmp_path / "set.safetensors").exists()


def test_a_damaged_checkpoint_is_named_not_used(made, tmp_path):
    out = tmp_path / "shard.safetensors"
    (tmp_path / "shard.safetensors.resume").write_bytes(made.checkpoint.read_bytes()[:-1])
    assert "shard.safetensors.resume" in refused(*synthesis(made.digits, out))


def test_gather_names_the_shard_of_another_set(made, tmp_path):
    first, second = tmp_path / "0-4.safetensors", tmp_path / "5-9.safetensors"
    for path, classes, key in ((first, "0-4", "a"), (second, "5-9", "b")):
        assert run(*synthesis(made.digits, path, "--classes", classes, "--key", key))[0] == 0
    for order in ((first, second), (second, first)):
        message = refused(
            "gather", "--shards", *order, "--data", made.dataset, "--out", tmp_path / "set.safetensors"
        )
        assert f"{second}: belongs to the set b" in message
    assert not (tmp_path / "set.safetensors").exists()
