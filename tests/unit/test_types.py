"""Types hold, where they are checked: `mypy` as `pyproject.toml` sets it up."""

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_layers import FLOORS, modules, prefix

ROOT = Path(__file__).parents[2]
ENGINES = FLOORS["engines"]  # the floor up to which every module is checked


def not_yet_right():
    """The modules whose errors are passed over."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    return {name.removeprefix("condense.") for entry in settings["overrides"] if entry.get("ignore_errors") for name in entry["module"]}


def test_errors_are_passed_over_on_the_upper_floors_alone():
    known = {name.removesuffix(".__init__") for name in modules()}
    assert not_yet_right() <= known, "a module that is gone"
    assert {name for name in not_yet_right() if FLOORS[prefix(name)] <= ENGINES} == set()


@pytest.mark.slow
def test_types_hold(tmp_path):
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed: it comes with the extra 'test'")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path), "--no-error-summary", "--config-file", "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
