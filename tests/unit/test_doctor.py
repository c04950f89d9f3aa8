"""What the doctor says of machines that are made up of programs, files and variables."""

import json
import os
import subprocess
import sys
import threading

import pytest
import torch

from condense.command import cli, doctor, services
from condense.command.findings import GOOD, NOTE, PROBLEM, Finding
from condense.machine import gpus
from hang_helpers import HUNG


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts programs of the test alone on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(name, text):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    return write


def only(monkeypatch, **probes):
    monkeypatch.setattr(doctor, "PROBES", probes)


@pytest.mark.parametrize(("mark", "status"), [(GOOD, 0), (NOTE, 0), (PROBLEM, 1)])
def test_the_status_tells_of_problems(mark, status, monkeypatch, capsys):
    only(monkeypatch, x=lambda: iter([Finding(mark, "x", "words")]))
    assert cli.main(["doctor"]) == status
    assert capsys.readouterr().out.split() == [mark, "x", "words"]


def test_a_probe_that_fails_or_hangs_is_a_finding_and_the_others_are_told(monkeypatch):
    def fails():
        raise OSError("broken")

    answer = threading.Event()
    only(
        monkeypatch,
        fails=fails,
        hangs=lambda: answer.wait(HUNG),
        good=lambda: iter([Finding(GOOD, "good", "")]),
    )
    found = doctor.examine(limit=0.5)
    answer.set()
    assert [finding.mark for finding in found] == [PROBLEM, PROBLEM, GOOD]
    assert "broken" in found[0].text and "did not answer within 0.5 s" in found[1].text


def test_a_torch_that_cannot_be_loaded_is_named(monkeypatch):
    failed = subprocess.CompletedProcess([], -11, "", "ImportError: libcudart.so.13: cannot open")
    monkeypatch.setattr(doctor, "called", lambda *command, **_: failed)
    (finding,) = doctor._torch()
    assert finding.mark == PROBLEM and "libcudart.so.13" in finding.text and "`make env`" in finding.text


def test_the_fresh_process_that_loads_torch_says_what_the_doctor_asks(capsys):
    exec(doctor.OUTLOOK, {})
    facts = json.loads(capsys.readouterr().out)
    assert facts["torch"] == torch.__version__ and facts["kernels"] and isinstance(facts["bfloat16"], bool)


def test_a_gpu_that_torch_cannot_use_is_a_problem(monkeypatch):
    monkeypatch.setattr(
        gpus, "why_none", lambda: "the driver 535.1 runs CUDA up to 12.2, and torch is built for CUDA 13.2"
    )
    monkeypatch.setattr(gpus, "way_out", lambda: "use `make env CUDA=cu126`")
    (finding,) = doctor._gpu(False, ["/dev/nvidia0"])
    assert finding.mark == PROBLEM and "12.2" in finding.text and "CUDA=cu126" in finding.text


def test_slurm(program, monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setattr(services, "SLURM_CONF", tmp_path / "slurm.conf")
    assert [finding.mark for finding in services.slurm()] == [GOOD]
    program("sinfo", "echo 'gpu* up 1-00:00:00 gpu:a100:4'")
    assert "sbatch, squeue, scancel not found" in next(services.slurm()).text
    for name in ("sbatch", "squeue", "scancel"):
        program(name, "exit 0")
    assert next(services.slurm()) == Finding(
        GOOD, "slurm", "partitions gpu* (up, at most 1-00:00:00, gpu:a100:4)"
    )
    program("sinfo", "echo 'Unable to contact slurm controller' >&2; exit 1")
    assert next(services.slurm()).mark == NOTE
    (tmp_path / "slurm.conf").touch()
    silent = next(services.slurm())
    assert silent.mark == PROBLEM and "Unable to contact" in silent.text


def test_a_remote_and_a_store_that_are_amiss(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(services, "checkout", lambda: None)
    assert next(services.remote()).mark == NOTE
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = store\n['remote \"store\"']\n    url = ../held\n"
    )
    assert next(services.remote()).mark == PROBLEM
    (tmp_path / "held").mkdir()
    assert next(services.remote()).mark == GOOD
    (tmp_path / "mlflow.db").write_text("something else, no database")
    assert [finding.subject for finding in services.workflow() if finding.mark == PROBLEM] == ["mlflow"]


def test_packages_of_the_workflow_may_be_absent(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(services, "_version", lambda name: "")
    assert {finding.mark for finding in services.workflow()} == {NOTE}


def test_threads_that_are_no_number(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert next(doctor._cores()).mark == PROBLEM


def test_kernels_are_not_compiled_to_say_how_it_is(tmp_path):
    code = "from condense.kernels import library; print(library.outlook())"
    home = {"XDG_CACHE_HOME": str(tmp_path / "c"), "TMPDIR": str(tmp_path), "CONDENSE_KERNELS": "off"}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | home, capture_output=True, text=True)
    assert done.stdout.strip() == "torch (kernels switched off)", done.stderr
