"""What the command prints on terminals of little, and how many threads it takes."""

import os
import subprocess
import sys

import pytest
import torch

from condense.config import UserError
from condense.machine import runtime
from condense.machine.terminal import speaking_to

SAY = (
    "from condense.machine.progress import *; from condense.machine.terminal import *; "
    "replace_unprintable(); import sys, logging; "
)
SAY += "logging.basicConfig(stream=sys.stderr); "


def printed(code, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SAY + code], env=environment, capture_output=True, check=True
    )
    return done.stdout, done.stderr


def test_text_of_ascii_only_says_the_same_plainly():
    told = r"text = '91.20 \u00b1 0.50 \u2013 8 \u00d7 8, caf\u00e9, \u732b, \udce9, \U0001f600'; "
    plain = rb"91.20 +- 0.50 - 8 x 8, caf\xe9, \u732b, \udce9, \U0001f600"
    stdout, stderr = printed(
        told + "print(text); print(text, file=sys.stderr); logging.warning(text)", "ascii"
    )
    assert stdout.strip() == plain and stderr.count(plain) == 2


@pytest.mark.parametrize(
    ("encoding", "wanted"),
    [("utf-8", "± \\udce9".encode()), ("latin-1", b"\xb1 \\udce9"), ("cp1252:strict", b"\xb1 \\udce9")],
)
def test_what_an_encoding_has_is_printed_as_it_is(encoding, wanted):
    assert printed(r"print('\u00b1 \udce9')", encoding)[0].strip() == wanted


def test_progress_of_classes_with_any_name():
    code = r"bar = Progress('caf\udce9 \u732b', 2); bar.update(2); bar.close()"
    assert rb"caf\udce9 \u732b: step 2/2" in printed(code, "ascii")[1]
    bars = r"sys.stderr.isatty = lambda: True; " + code
    assert b"caf" in printed(bars, "ascii")[1]


def test_the_whole_command_on_such_a_terminal(tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii:strict", "PYTHONUTF8": "0"}
    for argv in (["list", "tables"], ["list", "methods"], ["inspect", "caf\u00e9\u732b.json"]):
        command = [sys.executable, "-m", "condense.command.cli", *argv]
        done = subprocess.run(command, env=environment, capture_output=True, cwd=tmp_path, check=False)
        assert b"Traceback" not in done.stderr and done.returncode == (2 if argv[0] == "inspect" else 0), (
            done.stderr
        )
    assert rb"no such file" in done.stderr


def test_a_log_that_is_a_pipe_without_a_reader_is_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="a pipe that nobody reads"), speaking_to(pipe):
        pass
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with speaking_to(pipe):
        os.write(1, b"said")
    assert os.read(reader, 100) == b"said"
    os.close(reader)


@pytest.fixture
def threads(monkeypatch):
    """The numbers that torch was given."""
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    monkeypatch.setattr(runtime, "cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    runtime._say_once.cache_clear()
    return given


def test_threads_beyond_the_cores_are_not_started_and_it_is_said_once(threads, caplog):
    for wanted in (999, 999, 10**30, 4, 3, None):
        runtime.set_threads(wanted)
    assert threads == [4, 4, 4, 4, 3, 4]
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"--threads {number}: this process may use 4 cores, so that many threads are used"
        for number in (999, 10**30)
    ]
    for wanted in (0, -1):
        with pytest.raises(UserError, match="--threads"):
            runtime.set_threads(wanted)


@pytest.mark.parametrize(
    ("said", "wanted"), [("2", 2), ("3,1", 3), ("64", 4), ("0", 4), ("", 4), ("many", 4), ("-1", 4)]
)
def test_the_environment_says_how_many_where_the_command_does_not(said, wanted, threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    runtime.set_threads(None)
    runtime.set_threads(3)
    assert threads == [wanted, 3]


GROUPS = [
    ("0::/jobs/7\n", {"jobs/7/cpu.max": "max 100000", "jobs/cpu.max": "250000 100000"}, [2.5]),
    ("0::/jobs/7\n", {"cpu.max": "50000 100000"}, [0.5]),
    ("0::/\n", {"cpu.max": "max 100000"}, []),
    (
        "5:cpu,cpuacct:/docker/x\n1:memory:/docker/x\n0::/\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "150000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        [1.5],
    ),
    ("1:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, []),
    ("0::/../..\n", {"cpu.max": "100000 100000"}, [1.0]),
    ("", {}, []),
]


@pytest.mark.parametrize(("groups", "files", "wanted"), GROUPS)
def test_the_time_of_control_groups(groups, files, wanted, tmp_path):
    (tmp_path / "cgroup").write_text(groups)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text + "\n")
    assert list(runtime._quotas(tmp_path / "cgroup", tmp_path / "fs")) == wanted
    assert list(runtime._quotas(tmp_path / "none", tmp_path / "fs")) == []


def test_cores_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5}, raising=False)
    for quotas, wanted in (([], 4), ([2.5], 3), ([0.1], 1), ([64.0, 2.0], 2)):
        monkeypatch.setattr(runtime, "_quotas", lambda quotas=quotas: quotas)
        assert runtime.cores() == wanted
