"""The head waits while SLURM does not answer, says so, and goes on; jobs that SLURM forgot are judged by what
they made."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from fault_helpers import OFTEN, TABLE, ended, jobs, results_of, send, wait_for
from project_helpers import copy_project, head, snakemake, write_scale
from slurm_helpers import PROFILES, cluster_project

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
COMMAND = (TABLE, "--config", "scale=tiny")
SCALE = {
    "methods": ["dm"],
    "recipes": {"matching": {"steps": 400, "batch_real": 16}},
    "resources": {"synthesize": {"threads": 1, "mem_mb": 700, "runtime": 7}},
}
TAIL = ("--groups", "gather=pages", "evaluate=pages", "table=pages")
SOON = """
from condense.machine import slurm as _slurm
_slurm.FORGOTTEN, _slurm.POLL, _slurm.PATIENCE = 4.0, 0.5, 15
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A project whose table was made on this machine without SLURM."""
    root = copy_project(tmp_path_factory.mktemp("unbroken") / "project")
    write_scale(root, **SCALE)
    snakemake(root, *COMMAND)
    return root


@pytest.fixture
def project(slurm, unbroken, tmp_path):
    """The head of a project for SLURM with the data made; it knows what an unbroken run makes of it."""
    root = cluster_project(tmp_path / "project", SCALE)
    with open(root / "Snakefile", "a", encoding="utf-8") as file:
        file.write(SOON)
    shutil.copytree(unbroken / "results" / "data", root / "results" / "data")
    running = head(root, *COMMAND, *TAIL, *PROFILES, **slurm, **OFTEN)
    running.wanted = results_of(unbroken)
    yield running
    running.kill()
    running.wait()
    subprocess.run(["scancel", "--user", str(os.getuid())], env=os.environ | slurm, capture_output=True)


class Controller:
    """The controller of the SLURM that the tests started."""

    def __init__(self, slurm):
        self.folder = Path(slurm["SLURM_CONF"]).parent
        self.pid = int((self.folder / "run" / "slurmctld.pid").read_text())

    def stop(self):
        send(self.pid, signal.SIGKILL)
        for _ in range(100):
            if (
                not Path(f"/proc/{self.pid}").exists()
                or "Z" in Path(f"/proc/{self.pid}/stat").read_text().split()[2]
            ):
                return
            time.sleep(0.1)

    def start(self, *options):
        with open(self.folder / "log" / "slurmctld.out", "a") as out:
            command = ["slurmctld", "-D", "-i", *options, "-f", str(self.folder / "slurm.conf")]
            environment = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
            started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env=environment,
            )
        (self.folder / "run" / "slurmctld.pid").write_text(f"{started.pid}\n")


def said(running):
    return (running.root / "said.txt").read_text(encoding="utf-8")


def working(running):
    """Waits until a shard is being made by a job that SLURM started."""
    wait_for(running.root, lambda: jobs(running.root, "synthesize"), running, "job that condenses")


def test_a_controller_that_is_away_is_waited_for(slurm, project):
    controller = Controller(slurm)
    working(project)
    controller.stop()
    try:
        wait_for(
            project.root,
            lambda: "SLURM does not answer; waiting" in said(project),
            project,
            "word of the silence",
        )
        time.sleep(3)
        assert project.poll() is None
    finally:
        controller.start()
    assert "SLURM answers again after" in ended(project), said(project)
    assert project.returncode == 0 and results_of(project.root) == project.wanted


def test_jobs_that_slurm_forgot_are_judged_by_their_files(slurm, project):
    """A controller that starts without its state knows no job; what had been made counts, and the rest is
    sent again."""
    controller = Controller(slurm)
    working(project)
    controller.stop()
    controller.start("-c")
    told = ended(project)
    assert "SLURM no longer knows job" in told, told
    assert project.returncode == 0, told
    assert results_of(project.root) == project.wanted


def test_a_job_that_slurm_holds_is_told_and_goes_on_when_released(slurm, project):
    working(project)
    number = subprocess.run(
        ["squeue", "--noheader", "--states=R", "--format=%i"],
        env=os.environ | slurm,
        capture_output=True,
        text=True,
    )
    (job, *_) = number.stdout.split()
    subprocess.run(["scontrol", "requeuehold", job], env=os.environ | slurm, check=True)
    hint = f"`scontrol release {job}` lets it go on"
    wait_for(project.root, lambda: hint in said(project), project, "word of the hold")
    subprocess.run(["scontrol", "release", job], env=os.environ | slurm, check=True)
    project.terminate()


def test_what_slurm_refuses_is_said(slurm, tmp_path):
    root = cluster_project(tmp_path / "project", {"methods": ["random"]})
    wrong = ("--default-resources", "slurm_partition=nowhere", "mem_mb=100", "runtime=5", "--retries", "0")
    told = snakemake(root, *COMMAND, *PROFILES, *wrong, fails=True, **slurm)
    assert (
        "FAILED: data, which makes results/data/digits/" in told
        and "invalid partition specified: nowhere" in told
    ), told
