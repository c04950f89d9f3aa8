"""Outputs that cannot be written: no place for them, no leave to write, a full disk, something else in their
place."""

import errno
import os
import socket
import stat

import numpy as np
import pytest
from bad_input_helpers import BRIEF, NET, evaluation, recipe, refused, run, synthesis

from condense.config import UserError
from condense.files.artifacts import write_json
from condense.files.checkpoints import Checkpoint
from condense.machine import drafts
from condense.networks.trained import Finished


@pytest.mark.parametrize("out", ["folder", "file/below.safetensors", "x" * 300, "x" * 240])
def test_no_place_for_the_output_is_told_before_the_work(out, digits, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    long = ("--recipe", recipe(steps=10**6))
    assert str(tmp_path / out) in refused(*synthesis(digits, tmp_path / out, *long))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(digits, tmp_path):
    tmp_path.chmod(0o555)
    message = refused(*synthesis(digits, tmp_path / "shard.safetensors"))
    tmp_path.chmod(0o755)
    assert "shard.safetensors: cannot be written" in message


def full_disk_in_the_end(monkeypatch):
    def fsync(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def full_disk_from_the_start(monkeypatch):
    """Every draft leads to /dev/full, on which the system refuses to write."""
    begun = drafts._begun

    def linked(path):
        draft, handle = begun(path)
        draft.unlink()
        draft.symlink_to("/dev/full")
        return draft, handle

    monkeypatch.setattr(drafts, "_begun", linked)


@pytest.mark.parametrize("fill", [full_disk_in_the_end, full_disk_from_the_start])
def test_a_full_disk(fill, made, tmp_path, monkeypatch):
    fill(monkeypatch)
    for argv in (
        synthesis(made.digits, tmp_path / "shard.safetensors"),
        ("gather", "--shards", made.shard, "--data", made.dataset, "--out", tmp_path / "set.safetensors"),
        evaluation(made.synthetic, made.digits, tmp_path / "metrics.json"),
        ("data", "--dataset", "digits", "--out", tmp_path),
    ):
        assert "the disk is full" in refused(*argv)
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_at_a_checkpoint_leaves_the_last_one(made, tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "x.resume", "key")
    checkpoint.save({"a": np.arange(3)}, {"done": 1})
    full_disk_in_the_end(monkeypatch)
    with pytest.raises(UserError, match="disk is full"):
        checkpoint.save({"a": np.arange(4)}, {"done": 2})
    tensors, state = checkpoint.load(Finished)
    assert state == Finished(1) and tensors["a"].tolist() == [0, 1, 2] and len(list(tmp_path.iterdir())) == 1


def device(path):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # as /dev/null


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


SPECIAL = {
    "pipe": os.mkfifo,
    "socket": unix_socket,
    "link to a file": lambda path: path.symlink_to(path.with_name("target")),
    "dangling link": lambda path: path.symlink_to(path.with_name("nothing")),
    "link to a device": lambda path: path.symlink_to("/dev/null"),
    "device": device,
}


def laid(kind, path):
    """Puts something that is no plain file at `path`; what the system says of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        SPECIAL[kind](path)
    except PermissionError:
        pytest.skip(f"a {kind} cannot be made here")
    return os.lstat(path)


def jobs_of(made, out):
    yield "teach", ("teach", "--data", made.dataset, "--protocol", BRIEF, *NET, "--out", out)
    yield "bank", ("bank", "--data", made.dataset, "--steps", 2, *NET, "--out", out)
    yield "synthesize", synthesis(made.digits, out, "--recipe", recipe(steps=10**6))
    yield "gather", ("gather", "--shards", made.shard, "--data", made.dataset, "--out", out)
    yield "evaluate", evaluation(made.synthetic, made.digits, out)
    yield "join", ("join", "--parts", made.metrics, "--out", out)
    yield "export", ("export", made.synthetic, "--to", "npz", "--out", out)
    yield "export", ("export", made.synthetic, "--to", "png", "--out", out)
    yield "summary", ("summary", "--tables", made.folder / "no.csv", "--out", out)


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_plain_file_is_not_replaced(kind, made, tmp_path):
    (tmp_path / "target").write_text("kept")
    out = tmp_path / "out"
    before = laid(kind, out)
    for verb, argv in jobs_of(made, out):
        assert str(out) in refused(*argv) or verb == "summary", verb
        assert os.path.samestat(os.lstat(out), before), verb
    with pytest.raises(UserError, match=str(out)):
        write_json(out, {})
    assert os.path.samestat(os.lstat(out), before) and (tmp_path / "target").read_text() == "kept"
    assert {entry.name for entry in tmp_path.iterdir()} == {"out", "target"}


BESIDE = {
    "teach": ["run.json", "out.resume", ".out.lock"],
    "bank": ["out.run.json", "out.resume", ".out.lock"],
    "synthesize": ["out.run.json", "out.resume", ".out.lock"],
    "gather": ["run.json", "history.jsonl", "grid.png"],
    "evaluate": ["out.resume", ".out.lock"],
}


@pytest.mark.parametrize("kind", ["pipe", "dangling link", "link to a file", "link to a device"])
def test_nor_is_what_lies_in_the_place_of_the_files_beside_an_output(kind, made, tmp_path):
    for verb, argv in jobs_of(made, tmp_path / "out"):
        for name in BESIDE.get(verb, ()):
            (tmp_path / "target").write_text("kept")
            before = laid(kind, tmp_path / name)
            assert str(tmp_path / name) in refused(*argv), verb
            assert (
                os.path.samestat(os.lstat(tmp_path / name), before)
                and (tmp_path / "target").read_text() == "kept"
            )
            assert {entry.name for entry in tmp_path.iterdir()} == {name, "target"}
            (tmp_path / name).unlink()


@pytest.mark.parametrize("name", ["train.safetensors", "test.safetensors", "dataset.json"])
def test_nor_is_what_lies_among_prepared_data(name, tmp_path):
    before = laid("pipe", tmp_path / name)
    assert str(tmp_path / name) in refused("data", "--dataset", "digits", "--out", tmp_path)
    assert os.path.samestat(os.lstat(tmp_path / name), before) and len(list(tmp_path.iterdir())) == 1


def test_a_folder_may_be_a_link(made, tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "here").symlink_to("large")
    status, told = run(
        "gather",
        "--shards",
        made.shard,
        "--data",
        made.dataset,
        "--out",
        tmp_path / "here" / "set.safetensors",
    )
    assert status == 0, told
    assert (tmp_path / "here").is_symlink() and (tmp_path / "large" / "set.safetensors").is_file()


@pytest.mark.parametrize("kind", SPECIAL)
def test_a_run_needs_a_folder(kind, tmp_path):
    (tmp_path / "target").write_text("kept")
    before = laid(kind, tmp_path / "out")
    assert str(tmp_path / "out") in refused(
        "run", "digits", "--out", tmp_path / "out", "--scale", "quick", "--ipc", 1, "--device", "cpu"
    )
    assert (
        os.path.samestat(os.lstat(tmp_path / "out"), before) and (tmp_path / "target").read_text() == "kept"
    )
    assert {entry.name for entry in tmp_path.iterdir()} == {"out", "target"}
