"""Drafts: who writes one holds it, what a killed process leaves of one goes, and the bytes of tensors are
those of the library."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from condense.config import UserError
from condense.data.mapped import map_tensors
from condense.files.artifacts import (
    canonical,
    content_sha256,
    layout,
    read_tensors,
    sealed,
    write_json,
    write_tensors,
)
from condense.files.checkpoints import Checkpoint
from condense.machine import drafts
from condense.networks.trained import Finished

WRITER = """
import sys, time
from pathlib import Path
from condense.machine import drafts
with getattr(drafts, sys.argv[1])(Path(sys.argv[2])) as draft:
    print(draft, flush=True)
    time.sleep(900)
"""


OFTEN = """
import sys
from pathlib import Path
from condense.machine import drafts
path = Path(sys.argv[1])
for _ in range(300):
    drafts.require_place(path)
    with drafts.whole(path) as draft:
        draft.write_bytes(b"whole")
    with drafts.scratch(path.with_name("folder")) as draft:
        (draft / "file").write_bytes(b"whole")
"""


def writer(path, kind="whole"):
    """A process that writes a draft of `path`, and where the draft lies."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, str(path)], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def killed(path, kind="whole"):
    process, draft = writer(path, kind)
    process.kill()
    process.communicate()
    assert os.path.exists(draft)
    return draft


def test_who_writes_next_removes_what_a_killed_process_left_of_that_file(tmp_path):
    gone, stays = killed(tmp_path / "a.json"), killed(tmp_path / "b.json")
    write_json(tmp_path / "a.json", 1)
    assert not os.path.exists(gone) and os.path.exists(stays)
    drafts.require_place(tmp_path / "b.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_draft_of_a_living_process_stays(tmp_path):
    process, draft = writer(tmp_path / "a.json")
    write_json(tmp_path / "a.json", 1)
    drafts.require_place(tmp_path / "a.json")
    drafts.remove_dead_below(tmp_path.parent)
    assert os.path.exists(draft) and not drafts.is_dead(tmp_path / draft)
    process.kill()
    process.communicate()
    assert drafts.is_dead(tmp_path / draft)


def test_who_writes_at_the_same_time_loses_no_draft_to_another(tmp_path):
    command = [sys.executable, "-c", OFTEN, str(tmp_path / "a.json")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, said
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_room_is_made_before_the_work_of_drafts_of_its_checkpoints_too(tmp_path):
    killed(tmp_path / "a.resume")
    killed(tmp_path / "a.resume.network3")
    other = killed(tmp_path / "ab.resume")
    drafts.require_place(tmp_path / "a")
    assert [str(path) for path in tmp_path.iterdir()] == [other]


@pytest.mark.parametrize("kind", ["whole_folder", "scratch"])
def test_folders_that_are_drafts_go_too(kind, tmp_path):
    draft = killed(tmp_path / "png", kind)
    (tmp_path / draft / "a").mkdir()
    (tmp_path / draft / "a" / "0.png").touch()
    with drafts.whole_folder(tmp_path / "png") as folder:
        (folder / "1.png").touch()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "png",
        "png/1.png",
    ]


def test_an_interruption_leaves_nothing(tmp_path):
    process, draft = writer(tmp_path / "a.json")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_permissions_are_those_of_other_files_of_the_user(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "a", {"a": np.zeros(3)}, {"kind": "test"})
        (tmp_path / "b").write_text("")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


KINDS = "uint64 int64 float64 float32 uint32 int32 float16 uint16 int16 int8 uint8 bool".split()


def test_tensors_are_written_as_the_library_writes_them(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        f"{kind}-{number}": rng.integers(0, 2, (number, 3)).astype(kind)
        for kind in KINDS
        for number in (0, 1, 2)
    }
    tensors |= {"name of \u00e4": np.arange(5), 'quoted "': np.zeros((2, 0, 3), np.float32)}
    for some in (tensors, {}, {"a": tensors["bool-1"]}):
        write_tensors(tmp_path / "a", some, {"kind": "test", "names": ["\u732b", 'a"b']})
        shapes = {name: (str(tensor.dtype), tensor.shape) for name, tensor in some.items()}
        note = sealed({"kind": "test", "names": ["\u732b", 'a"b']}, content_sha256(some))
        head, _ = layout(shapes, note)
        written = (tmp_path / "a").read_bytes()
        assert written == save(some, metadata={"condense": canonical(note)}) and written.startswith(head)
        assert all(np.array_equal(value, some[name]) for name, value in load_file(tmp_path / "a").items())


def test_a_checkpoint_that_something_else_computed_is_left_aside(tmp_path, caplog):
    caplog.set_level("INFO")
    compiled = Checkpoint(tmp_path / "x.resume", "key", "compiled kernels")
    compiled.part(3).write({}, {"done": 1})
    compiled.write({}, {"done": 2})
    assert (
        compiled.load(Finished)[1].done == 2
        and compiled.part(3).load(Finished)[1].done == 1
        and not caplog.records
    )
    plain = Checkpoint(tmp_path / "x.resume", "key", "torch's operations")
    assert plain.load(Finished) is None and plain.part(3).load(Finished) is None
    assert (
        caplog.text.count(
            "was computed by compiled kernels, and this process computes by torch's operations; beginning "
            "anew"
        )
        == 2
    )
    assert Checkpoint(tmp_path / "x.resume", "other", "compiled kernels").load(Finished) is None
    assert "belongs to other settings; beginning anew" in caplog.text


def test_a_path_in_another_encoding_than_the_systems(tmp_path):
    """As "caf\\xe9" of a disk that was written elsewhere: the library takes names in UTF-8 alone."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    write_tensors(
        folder / "a.safetensors", {"a": np.arange(5)}, {"kind": "test", "class_names": [folder.name]}
    )
    tensors, header = read_tensors(folder / "a.safetensors", "test")
    mapped, _ = map_tensors(folder / "a.safetensors", "test")
    assert tensors["a"].tolist() == mapped["a"].tolist() == [0, 1, 2, 3, 4] and header["class_names"] == [
        folder.name
    ]
    assert [path.name for path in folder.iterdir()] == ["a.safetensors"]


def test_a_fault_of_what_is_read_is_not_told_of_the_output(tmp_path):
    with pytest.raises(FileNotFoundError, match="source"), drafts.whole(tmp_path / "out"):
        (tmp_path / "elsewhere" / "source").read_bytes()
    with (
        pytest.raises(UserError, match="/proc/none/out: cannot be written: No such file"),
        drafts.whole(Path("/proc/none/out")),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_or_a_link_that_leads_nowhere_in_the_place_of_a_folder_is_told(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "good").symlink_to(tmp_path)
    drafts.require_folders(str(tmp_path / "absent"), str(tmp_path / "good"))
    for name, sentence in {
        "file": "a folder is needed here",
        "link": "is a link to nowhere, which is not there",
    }.items():
        with pytest.raises(UserError, match=sentence):
            drafts.require_folders(str(tmp_path / name))
