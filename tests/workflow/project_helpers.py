"""A copy of the project with a tiny scale of its own, and a real Snakemake on it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from hang_helpers import HUNG

PROJECT = Path(__file__).resolve().parents[2]
TINY = {
    "name": "tiny",
    "title": "a test",
    "n_sets": 1,
    "n_networks": 1,
    "datasets": {"cifar10": ["digits"]},
    "ipc": [1],
    "methods": ["random", "dm", "cpdm"],
    "recipes": {"matching": {"steps": 3, "batch_real": 8}},
    "protocols": {"dc": {"epochs": 1}, "critic": {"epochs": 1}},
    "architectures": {"convnet": {"depth": 2, "width": 8}},
    "only_tables": True,
    "tables": {"cpdm/table1": {"judges": []}},  # by one judge alone
}


def copy_project(root):
    """`root`, with what a workflow needs of the project in it, and none of its results."""
    root.mkdir(exist_ok=True)
    shutil.copy(PROJECT / "Snakefile", root)
    for folder in ("workflow", "params"):
        shutil.copytree(PROJECT / folder, root / folder)
    (root / "profiles").symlink_to("workflow/profiles")
    return root


def write_scale(root, **changes):
    value = {**TINY, **changes}
    (root / "params" / "scales" / f"{value['name']}.yaml").write_text(yaml.safe_dump(value), encoding="utf-8")


def called(root, arguments, environment):
    """How Snakemake is called in a project: on two cores, unless a profile says where."""
    cores = [] if "--profile" in arguments else ["--cores", "2"]
    if not any(argument.startswith("mlflow=") for argument in arguments):  # tests of other things do without
        where = arguments.index("--config") + 1 if "--config" in arguments else 0
        arguments = (
            [*arguments[:where], "mlflow=off", *arguments[where:]]
            if where
            else [*arguments, "--config", "mlflow=off"]
        )
    command = [sys.executable, "-m", "snakemake", *cores, *arguments]
    return {"args": command, "cwd": root, "env": os.environ | {"OMP_NUM_THREADS": "1"} | environment}


def head(root, *arguments, **environment):
    """A running Snakemake in a process group of its own; both its streams go to `said.txt`."""
    with open(root / "said.txt", "w", encoding="utf-8") as said:
        running = subprocess.Popen(
            **called(root, arguments, environment), stdout=said, stderr=said, start_new_session=True
        )
    running.root = root
    return running


def snakemake(root, *arguments, fails=False, **environment):
    """Status is asserted; what was said, on both streams."""
    done = subprocess.run(
        **called(root, arguments, environment), capture_output=True, text=True, timeout=HUNG
    )
    said = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, said
    return said
