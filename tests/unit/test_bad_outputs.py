"""Outputs that cannot be written: no place for them, no leave to write, a full disk."""

import errno
import os

import numpy as np
import pytest
from bad_input_helpers import evaluation, recipe, refused, synthesis
from safetensors import SafetensorError

from condense import artifacts
from condense.checkpoints import Checkpoint
from condense.config import UserError


@pytest.mark.parametrize("out", ["folder", "file/below.safetensors", "x" * 300, "x" * 240])
def test_no_place_for_the_output_is_told_before_the_work(out, digits, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    long = ("--recipe", recipe(steps=10**9))
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
    """Every draft leads to /dev/full, on which the system refuses to write; safetensors, which goes around it, says so in its words."""
    draft = artifacts._draft

    def save_file(*arguments, **more):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def linked(path):
        link = draft(path)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("/dev/full")
        return link

    monkeypatch.setattr(artifacts, "_draft", linked)
    monkeypatch.setattr("safetensors.numpy.save_file", save_file)
    monkeypatch.setattr("condense.jobs.machine.require_place", lambda path: None)


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
    tensors, state = checkpoint.load()
    assert state == {"done": 1} and tensors["a"].tolist() == [0, 1, 2] and len(list(tmp_path.iterdir())) == 1
