"""Types hold: `mypy` reads the package as `pyproject.toml` says."""

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from test_layers import modules

ROOT = Path(__file__).parents[2]


def test_no_error_is_passed_over():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert [
        entry["module"]
        for entry in settings["overrides"]
        if set(entry) - {"module", "ignore_missing_imports"}
    ] == []
    assert [
        name for name, path in modules().items() if "type: " + "ignore" in path.read_text(encoding="utf-8")
    ] == []


@pytest.mark.slow
def test_types_hold(tmp_path):
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed: it comes with the extra 'test'")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--cache-dir",
        str(tmp_path),
        "--no-error-summary",
        "--config-file",
        "pyproject.toml",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
