"""The workflow and its helpers in folders with awkward names."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from project_helpers import PROJECT, copy_project, snakemake, write_scale
from slurm_helpers import SCRIPTS

from hang_helpers import HUNG

sys.path.insert(0, str(PROJECT / "workflow"))
pytestmark = pytest.mark.workflow
NO_SLURM = 69  # how slurm-up ends where there is none
AWKWARD = 'it\'s "a" $HOME; `folder` ü'


def test_a_workflow_runs_in_a_folder_with_an_awkward_name(tmp_path):
    project = copy_project(tmp_path / AWKWARD)
    write_scale(project, methods=["random"])
    snakemake(project, "results/tables/cpdm/table1.csv", "--config", "scale=tiny")
    assert (project / "results" / "tables" / "cpdm" / "table1.csv").is_file()


def test_a_slurm_starts_in_a_folder_with_an_awkward_name(tmp_path):
    folder = tmp_path / AWKWARD
    started = subprocess.run([SCRIPTS / "slurm-up", folder], capture_output=True, text=True, timeout=HUNG)
    if started.returncode == NO_SLURM:
        pytest.skip(started.stderr.strip())
    try:
        assert started.returncode == 0, started.stderr
        call = [
            "bash",
            "-c",
            f'{started.stdout}\nsrun --quiet --time=1 printenv SLURM_JOB_ID; echo "$SLURM_CONF"',
        ]
        number, configuration = subprocess.run(
            call, capture_output=True, text=True, timeout=HUNG
        ).stdout.split()
        assert number.isdigit() and Path(configuration).read_text(encoding="utf-8").startswith(
            "ClusterName=trial"
        )
    finally:
        subprocess.run([SCRIPTS / "slurm-down", folder], check=True, timeout=HUNG)
    assert not folder.exists() and not Path(configuration).parent.parent.exists()


@pytest.fixture
def interventions():
    import interventions
    import snakemake.api  # noqa: F401  first, since its modules import each other

    return interventions


def test_jobs_of_a_cluster_call_an_interpreter_whose_path_has_spaces(interventions, monkeypatch):
    from snakemake_executor_plugin_slurm_jobstep import Executor
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    for executor in (RemoteExecutor, Executor):
        monkeypatch.setattr(executor, "get_python_executable", executor.get_python_executable)
    interventions.quoted_interpreter(None, None)
    interventions.quoted_interpreter(None, None)  # parsed twice in one process, it is quoted once
    monkeypatch.setattr(sys, "executable", "/with space/python")
    assert Executor.get_python_executable(None) == "'/with space/python'"


@pytest.fixture
def queues(interventions):
    import queues

    return queues


@pytest.mark.parametrize("name", ["it's", 'a "b"', "$HOME", "back\\slash", "`x`"])
def test_a_path_that_slurm_cannot_be_told_is_refused(name, queues):
    from snakemake.exceptions import WorkflowError

    workflow = SimpleNamespace(workdir_init=f"/home/{name}/condense", main_snakefile="/home/x/Snakefile")
    with pytest.raises(WorkflowError, match="no job can be sent to SLURM by a path with"):
        queues.refuse_what_slurm_cannot_name(workflow)


def test_ordinary_paths_and_spaces_are_not_refused(queues, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/home/me/my project ü/.venv/bin/python")
    workflow = SimpleNamespace(
        workdir_init="/home/me/my project ü", main_snakefile="/home/me/my project ü/Snakefile"
    )
    queues.refuse_what_slurm_cannot_name(workflow)


def test_without_the_package_itself_the_workflow_says_how_to_install_it(tmp_path):
    """As in an environment of conda's for which the second command was forgotten."""
    project = copy_project(tmp_path / "project")
    alone = tmp_path / "bin"
    alone.mkdir()
    (alone / "python").symlink_to(sys.executable)
    code = (
        f"import sys; sys.executable = {str(alone / 'python')!r}; sys.argv = ['snakemake', '-n']; from "
        "snakemake.cli import main; main()"
    )
    environment = os.environ | {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HUNG,
    )
    command = f"{alone / 'python'} -m pip install --no-deps --no-build-isolation -e {project}"
    assert done.returncode == 1 and f"run `{command}`" in done.stdout + done.stderr
