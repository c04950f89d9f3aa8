"""Compiled kernels that are kept for the next process: used only as they were compiled, and only where no
other user can write."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import pytest

from condense import kernels
from condense.kernels import keeping
from condense.kernels import library as library_module
from hang_helpers import HUNG

pytestmark = pytest.mark.skipif(kernels.state() != "compiled", reason=f"kernels: {kernels.state()}")
PROBE = "from condense import kernels; print(kernels.state())"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache folder with compiled kernels, made once; to be copied."""
    folder = tmp_path_factory.mktemp("home") / "cache"
    assert said(folder) == ("compiled", "")
    return folder


@pytest.fixture(name="cache")
def cache_folder(compiled, tmp_path):
    """A cache folder of the test's own, with the library in it."""
    shutil.copytree(compiled, tmp_path / "cache")
    return tmp_path / "cache"


def library(folder):
    (found,) = folder.rglob("*.so")
    return found


@cache
def quick_compiler():
    """A compiler that takes a second, since it does not make its results fast; of one time, as the name of
    the library holds it."""
    compiler = Path(tempfile.mkdtemp()) / "c++"
    compiler.write_text('#!/bin/sh\nexec c++ "$@" -O0\n')
    compiler.chmod(0o755)
    return str(compiler)


def said(folder, **environment):
    """The state of the kernels in a process with this cache folder, and what it told."""
    folder.parent.joinpath("tmp").mkdir(exist_ok=True)
    environment = {
        "XDG_CACHE_HOME": str(folder),
        "TMPDIR": str(folder.parent / "tmp"),
        "CXX": quick_compiler(),
    } | environment
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), done.stderr


def first_folder():
    """The first safe folder, or None, and what is said of those before it."""
    reasons = []
    return next(keeping.private_folders(reasons), None), reasons


def bend(path, how):
    data = path.read_bytes()
    bent = {
        "empty": b"",
        "cut short": data[: len(data) // 2],
        "zeroed": bytes(len(data)),
        "half zeroed": data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
        "one bit": data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
        "without its checksum": data[:-100],
    }
    path.write_bytes(bent[how])


@pytest.mark.parametrize(
    "how", ["empty", "cut short", "zeroed", "half zeroed", "one bit", "without its checksum"]
)
def test_a_damaged_library_is_known_before_it_is_loaded(how, cache):
    assert keeping.kept(library(cache))[0] is not None
    bend(library(cache), how)
    content, why = keeping.kept(library(cache))
    assert content is None and "damaged" in why


def test_it_is_compiled_anew_and_said_so_in_one_line(cache):
    whole, path = library(cache).read_bytes(), library(cache)
    bend(path, "zeroed")
    state, told = said(cache)
    assert (
        state == "compiled" and len(told.splitlines()) == 1 and str(path) in told and "compiling anew" in told
    )
    assert keeping.kept(path)[0] is not None and len(path.read_bytes()) == len(whole)
    assert said(cache) == ("compiled", "")


def test_what_is_no_plain_file_of_ones_own_is_not_read(cache, tmp_path):
    path = library(cache)
    path.chmod(0o620)
    assert keeping.kept(path) == (None, "may be written by other users")
    path.chmod(0o600)
    path.rename(tmp_path / "x.so")
    path.symlink_to(tmp_path / "x.so")
    assert keeping.kept(path)[0] is None
    path.unlink()
    os.mkfifo(path, 0o600)
    assert keeping.kept(path) == (None, "is no plain file")
    path.unlink()
    path.mkdir()
    assert keeping.kept(path)[0] is None
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)
    assert keeping.kept(path) == (None, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_what_belongs_to_another_user_is_not_read(cache, tmp_path, monkeypatch):
    os.chown(library(cache), 1234, -1)
    assert keeping.kept(library(cache)) == (None, "belongs to user 1234")
    os.chown(library(cache), 0, -1)
    os.chown(cache, 1234, -1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, reasons = first_folder()
    assert folder == tmp_path.resolve() / "condense-kernels-0" and reasons == [
        f"{cache.resolve()} belongs to user 1234"
    ]


@pytest.mark.parametrize("level", ["cache", "cache/condense", "cache/condense/kernels"])
@pytest.mark.parametrize("mode", [0o775, 0o777])
def test_no_folder_above_may_be_one_that_others_write_to(level, mode, cache, tmp_path, monkeypatch):
    (tmp_path / level).chmod(mode)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, reasons = first_folder()
    assert (
        folder == tmp_path.resolve() / f"condense-kernels-{os.geteuid()}"
        and folder.stat().st_mode & 0o777 == 0o700
    )
    assert reasons == [f"other users may write to {tmp_path / level}: `chmod go-w` mends that"]


def test_a_link_does_not_hide_such_a_folder(cache, tmp_path, monkeypatch):
    cache.rename(tmp_path / "theirs")
    (tmp_path / "theirs").chmod(0o777)
    (tmp_path / "cache").symlink_to("theirs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, reasons = first_folder()
    assert folder == tmp_path.resolve() / f"condense-kernels-{os.geteuid()}" and "theirs" in reasons[0]


def test_folders_are_made_for_this_user_alone_whatever_the_umask(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a" / "b"))
    before = os.umask(0o002)
    try:
        folder, reasons = first_folder()
    finally:
        os.umask(before)
    assert folder == tmp_path.resolve() / "a/b/condense/kernels" and reasons == []
    assert all(place.stat().st_mode & 0o777 == 0o700 for place in (folder, *folder.parents[:3]))


def test_without_a_safe_folder_torch_does_it(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "_candidates", lambda: iter([tmp_path / "theirs" / "kernels"]))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs").chmod(0o777)
    assert first_folder()[0] is None and list((tmp_path / "theirs").iterdir()) == []
    assert library_module._found.__wrapped__() == (None, "torch (no folder that only this user can write to)")


def test_nothing_is_loaded_from_a_folder_that_others_write_to(cache, tmp_path):
    """Not even what is whole and of one's own: another user could have moved it there."""
    (cache / "condense").chmod(0o775)
    state, told = said(cache)
    assert state == "compiled" and len(told.splitlines()) == 1 and f"write to {cache / 'condense'}" in told
    assert len(list((tmp_path / "tmp").rglob("*.so"))) == 1, "compiled into a folder of its own"
    assert said(cache)[0] == "compiled" and len(list(cache.rglob("*"))) == 3


def test_it_is_loaded_from_memory_and_not_from_a_path(cache):
    """So it works where programs may not be run from the cache, and what is on the disk later does not
    matter."""
    code = "from condense import kernels; kernels.state(); print(open('/proc/self/maps').read())"
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "CXX": quick_compiler()}
    maps = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "memfd:condense-kernels" in maps and str(cache) not in maps


def test_where_the_cache_is_full_they_are_kept_elsewhere(tmp_path):
    """As in a home whose quota is used up: nothing can be written there but names."""
    folder = tmp_path / "cache" / "condense" / "kernels"
    code = "from condense.machine import drafts; begun = drafts._begun\n"
    code += (
        "def full(path, *folder):\n    if not folder and str(path).startswith(sys.argv[1]): raise "
        "OSError(28, 'No space left on device')\n    return begun(path, *folder)\n"
    )
    code = f"import sys; {code}drafts._begun = full; {PROBE}"
    environment = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "TMPDIR": str(tmp_path),
        "CXX": quick_compiler(),
    }
    for lines in (1, 0):
        command = [sys.executable, "-c", code, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert (
            done.stdout.strip() == "compiled"
            and len(done.stderr.splitlines()) == lines
            and ("disk is full" in done.stderr) == lines
        )
    assert list(folder.iterdir()) == [] and len(list(tmp_path.glob("condense-kernels-*/*.so"))) == 1


SLOW = """#!/bin/sh
echo "$$" > "{0}/asked"
sleep 30
"""


def test_a_compiler_ends_with_the_process_that_wants_it(tmp_path):
    """And leaves nothing behind, nor is its end taken for a fault of the compiler."""
    compiler = tmp_path / "c++"
    compiler.write_text(SLOW.format(tmp_path))
    compiler.chmod(0o755)
    code = "from condense.command.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "CXX": str(compiler)}
    argv = [
        "run",
        "digits",
        "--scale",
        "quick",
        "--ipc",
        "1",
        "--steps",
        "2",
        "--epochs",
        "1",
        "--device",
        "cpu",
    ]
    argv += ["--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *argv], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + HUNG
    while not (tmp_path / "asked").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=HUNG)[1]
    assert process.returncode == 130 and "could not compile" not in told
    assert not Path(f"/proc/{(tmp_path / 'asked').read_text().strip()}").exists()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file() or ".part" in path.name] == []
