"""Locks: one head a folder, one maker a file, and what a dead one leaves."""

import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from condense.config import UserError
from condense.machine import claims, locks
from hang_helpers import HUNG

HOLD = """
import sys, time
from pathlib import Path
from condense.machine import locks
with getattr(locks, sys.argv[1])(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(900)
"""


def holder(kind, path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, kind, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_head_is_told_who_is_there_and_one_that_follows_a_killed_one_knows_it(tmp_path):
    path = tmp_path / ".snakemake" / "lock"
    first = holder("only_head", path)
    with (
        pytest.raises(locks.FolderTaken, match=f"another head works in this folder .process {first.pid} on "),
        locks.only_head(path),
    ):
        pytest.fail("both are in")
    first.kill()
    first.communicate()
    with locks.only_head(path) as left_behind:
        assert left_behind
    with locks.only_head(path) as left_behind:
        assert not left_behind
    with pytest.raises(ZeroDivisionError), locks.only_head(path):
        raise ZeroDivisionError
    with locks.only_head(path) as left_behind:
        assert not left_behind, "an error is an end as it should be"


def test_a_head_that_died_on_another_machine_has_to_be_looked_after(tmp_path):
    path = tmp_path / "lock"
    path.write_text("17\nelsewhere\n2026-01-01 10:00\n")
    for _ in range(2):  # and being told does not change that
        with (
            pytest.raises(locks.FolderTaken, match="process 17 on elsewhere .*`snakemake --unlock`"),
            locks.only_head(path),
        ):
            pytest.fail("it went in")
    path.unlink()
    with locks.only_head(path) as left_behind:
        assert not left_behind


def test_who_makes_a_file_is_asked_to_stop_and_then_followed(tmp_path):
    output = tmp_path / "x.safetensors"
    first = holder("only_maker", output)
    with locks.only_maker(output):
        assert first.wait(timeout=HUNG) == -signal.SIGTERM
        assert (tmp_path / ".x.safetensors.lock").read_text().startswith(f"{os.getpid()}\n")
    first.communicate()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_maker_is_no_hindrance(tmp_path):
    first = holder("only_maker", tmp_path / "x")
    first.kill()
    first.communicate()
    assert [path.name for path in tmp_path.iterdir()] == [".x.lock"]
    with locks.only_maker(tmp_path / "x"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_many_makers_one_at_a_time_is_in(tmp_path):
    script = """
import sys, signal, time
from pathlib import Path
from condense.machine import locks
signal.signal(signal.SIGTERM, lambda *_: None)
with locks.only_maker(Path(sys.argv[1]) / "x", poll=0.002):
    inside = Path(sys.argv[1]) / "inside"
    inside.touch(exist_ok=False)
    time.sleep(0.001)  # out again while others are about to ask it to stop
    inside.unlink()
"""
    crowd = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)]) for _ in range(8)]
    assert [process.wait(timeout=HUNG) for process in crowd] == [0] * 8
    assert list(tmp_path.iterdir()) == []


def test_a_holder_elsewhere_is_waited_for_and_not_signalled(tmp_path):
    first = holder("only_maker", tmp_path / "x")
    name = tmp_path / ".x.lock"
    name.write_text(f"{first.pid}\nelsewhere\n2026-01-01 10:00\n")
    command = [sys.executable, "-c", HOLD, "only_maker", str(tmp_path / "x")]
    waited = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    time.sleep(0.7)
    assert first.poll() is None and waited.poll() is None
    for process in (first, waited):
        process.kill()
        process.communicate()


def linked(path):
    path.symlink_to(path.with_name("made where the link points"))


def to_a_device(path):
    path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    "lay", [os.mkfifo, linked, to_a_device, os.mkdir], ids=["pipe", "link", "link to a device", "folder"]
)
def test_a_lock_that_is_no_plain_file_is_named_and_neither_waited_for_nor_followed(lay, tmp_path):
    lay(tmp_path / ".x.lock")
    before = os.lstat(tmp_path / ".x.lock")
    with (
        pytest.raises(UserError, match="x.lock: a lock is a plain file, but this is a .* remove it"),
        locks.only_maker(tmp_path / "x"),
    ):
        pytest.fail("it went in")
    with (
        pytest.raises(locks.FolderTaken, match="x.lock: a lock is a plain file"),
        locks.only_head(tmp_path / ".x.lock"),
    ):
        pytest.fail("it went in")
    lay(tmp_path / "GPU-a.lock")
    with (
        pytest.raises(UserError, match="GPU-a.lock: a lock is a plain file"),
        claims.claim(["GPU-a"], tmp_path),
    ):
        pytest.fail("it went in")
    assert os.path.samestat(os.lstat(tmp_path / ".x.lock"), before)
    assert {path.name for path in tmp_path.iterdir()} == {".x.lock", "GPU-a.lock"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_locks_of_devices_in_a_folder_that_another_user_rules_are_not_trusted(tmp_path):
    (tmp_path / "devices").mkdir()
    os.chown(tmp_path / "devices", 1234, -1)
    with (
        pytest.raises(UserError, match="devices: .* it is not sticky and belongs to user 1234"),
        claims.claim(["a"], tmp_path / "devices"),
    ):
        pytest.fail("it went in")
    (tmp_path / "devices").chmod(0o1777)  # as whoever of us comes first makes it
    with claims.claim(["a"], tmp_path / "devices") as place:
        assert place == 0
    (tmp_path / "link").symlink_to("devices")
    with pytest.raises(UserError, match="link: .* it is no folder"), claims.claim(["a"], tmp_path / "link"):
        pytest.fail("it went in")


def test_a_lock_of_another_user_is_taken_while_nobody_holds_it(tmp_path):
    (tmp_path / "a.lock").touch(mode=0o444)
    with claims.claim(["a", "b"], tmp_path) as first, claims.claim(["a", "b"], tmp_path) as second:
        assert (first, second) == (0, 1)


@pytest.mark.parametrize("named", ["0", "1", "me"])
def test_no_process_is_stopped_because_a_file_names_it(named, monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda *call: sent.append(call))
    here = [str(os.getpid()) if named == "me" else named, platform.node(), "2026-01-01 10:00"]
    locks._ask(here, os.geteuid())
    locks._ask(["4321", platform.node(), "2026-01-01 10:00"], os.geteuid() + 1)
    locks._ask(["4321", "elsewhere", "2026-01-01 10:00"], os.geteuid())
    assert sent == []
    locks._ask(["4321", platform.node(), "2026-01-01 10:00"], os.geteuid())
    assert sent == [(4321, signal.SIGTERM)]


def test_a_nameless_holder_is_waited_for_and_said_so(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(locks, "_NAMELESS", 0.2)
    first = holder("only_maker", tmp_path / "x")
    os.truncate(tmp_path / ".x.lock", 0)
    monkeypatch.setattr(
        time,
        "sleep",
        lambda seconds, sleep=time.sleep: sleep(seconds) if not caplog.records else first.kill(),
    )
    with locks.only_maker(tmp_path / "x"):
        pass
    first.communicate()
    assert "x: is being made by another job (unknown)" in caplog.text
