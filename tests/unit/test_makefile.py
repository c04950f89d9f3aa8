"""The Makefile in folders with awkward names: its lines are run, by programs that only write down how they
were called."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
AWKWARD = ["with spaces", 'it\'s "quoted"', "costs $HOME and $(date)", "Prüfung; 画像 & `more`"]
# `-m venv` makes a .venv of copies of this program.
PROGRAM = """#!/bin/sh
printf '%s\\n' "$0" "$PWD" "${VIRTUAL_ENV-}" "${PATH%%:*}" >>"$SAID"
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin"
  for name in python uv snakemake ruff dvc condense mlflow; do cp "$0" "$3/bin/$name"; done
fi
"""


class Call(NamedTuple):
    """How a program was called."""

    program: str
    folder: str
    virtual_env: str
    first_of_path: str


@pytest.fixture(params=AWKWARD)
def folder(request, tmp_path):
    """A checkout of what `make` needs, in a folder with an awkward name, and an interpreter in another such
    folder."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    checkout = tmp_path / request.param / "condense"
    (checkout / "workflow").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "workflow" / "scripts", checkout / "workflow" / "scripts")
    for path in (tmp_path / request.param / "python", checkout / "tests" / "workflow" / "slurm" / "quick"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PROGRAM, encoding="utf-8")
        path.chmod(0o755)
    return checkout


def make(folder, *words):
    """What `make` does there: how each program was called."""
    said = folder.parent / "said"
    # For make, then the shell
    python = str(folder.parent / "python").replace("$", "$$").replace("`", r"\`").replace('"', r"\"")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | {
        "SAID": str(said)
    }
    call = ["make", *words, f"PYTHON={python}" if "$" not in python else "PYTHON=python3.of.the.test"]
    if "$" in python:  # as a program of the PATH, for which make and the shell need no quoting
        shutil.copy(folder.parent / "python", folder.parent / "python3.of.the.test")
        environment["PATH"] = f"{folder.parent}:{environment['PATH']}"
    done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = said.read_text(encoding="utf-8").splitlines()
    return [Call(*lines[place : place + 4]) for place in range(0, len(lines), 4)]


def test_the_environment_is_made_inside_the_folder(folder):
    calls = make(folder, "env")
    assert (folder / ".venv" / ".ready").is_file() and {call.folder for call in calls} == {str(folder)}
    packages = [call for call in calls if Path(call.program).name == "uv"]
    assert len(packages) >= 2 and {call.virtual_env for call in packages} == {str(folder / ".venv")}
    assert make(folder, "env") == calls  # nothing more to do


def test_torch_for_another_cuda_is_put_on_top_of_the_lock(folder):
    plain = make(folder, "env")
    again = make(folder, "env", "CUDA=cu126")
    assert (
        len(again) == len(plain) + 1
        and again[-1].program.endswith("uv")
        and again[-1].virtual_env == str(folder / ".venv")
    )
    # It stays until another one is asked for
    assert make(folder, "env", "CUDA=cu126") == again == make(folder, "env")
    make(folder, "env", "CUDA=lock")
    assert [path.name for path in (folder / ".venv").glob(".torch-*")] == [".torch-lock"]
    dry = subprocess.run(
        ["make", "-n", "env", "CUDA=cu128"], cwd=folder, capture_output=True, text=True
    ).stdout
    assert '--torch-backend="cu128"' in dry and "://" not in dry


def test_what_is_no_cuda_is_refused(folder):
    make(folder, "env")
    done = subprocess.run(["make", "env", "CUDA=12.6"], cwd=folder, capture_output=True, text=True)
    assert (
        done.returncode == 2
        and "cu126, cu128" in done.stdout
        and not list((folder / ".venv").glob(".torch-*"))
    )


@pytest.mark.parametrize("target", ["tables", "test", "test-quick", "lint", "bench", "ui", "lock"])
def test_every_target_calls_its_program(target, folder):
    program = make(folder, target)[-1].program
    assert program.startswith(".venv/bin/") and (folder / program).is_file()


def test_programs_that_call_others_find_those_of_the_environment(folder):
    called = make(folder, "test-slurm")[-1]
    assert called.program.endswith("slurm/quick") and called.first_of_path == str(folder / ".venv" / "bin")


def test_a_folder_that_no_path_can_name_is_refused(tmp_path):
    folder = tmp_path / "10:30"
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    done = subprocess.run(["make", "env"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2 and "has a colon" in done.stdout and "move the checkout" in done.stdout
    assert not (folder / ".venv").exists()
