"""Whatever dies at whatever moment, the same command goes on and ends with the files of the unbroken run,
byte for byte.

`CONDENSE_FAULT_ROUNDS` asks for more rounds of random faults than the three of every day,
`CONDENSE_FAULT_SEED` for others.
"""

import os
import random
import resource
import shutil
import signal
import subprocess
import time

import pytest
from fault_helpers import (
    OFTEN,
    SEED,
    TABLE,
    ended,
    jobs,
    leftovers,
    limit,
    logs,
    out_of_memory,
    over_its_time,
    results_of,
    rounds,
    send,
    wait_for,
)
from project_helpers import copy_project, head, snakemake, write_scale

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
COMMAND = (TABLE, "--config", "scale=tiny", "--quiet", "host")
SCALE = {
    "methods": ["dm", "cpdm"],
    "n_networks": 2,
    "recipes": {"matching": {"steps": 200, "batch_real": 16}},
    "protocols": {"dc": {"epochs": 40}, "critic": {"epochs": 15}},
    "classes_per_job": 5,
    "sets_per_job": 2,
    "networks_per_job": {"convnet": 1},
    # The most: a first attempt asks for what is estimated
    "resources": {"synthesize": {"mem_mb": 5000, "runtime": 60}},
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A project whose table was made without a fault, what it made, and the seconds that it took."""
    root = copy_project(tmp_path_factory.mktemp("unbroken") / "project")
    write_scale(root, **SCALE)
    began = time.monotonic()
    snakemake(root, *COMMAND)
    assert leftovers(root) == []
    return root, results_of(root), time.monotonic() - began


@pytest.fixture
def project(unbroken, tmp_path):
    """A project of the same scale with data and teacher and nothing else made."""
    root = copy_project(tmp_path / "project")
    write_scale(root, **SCALE)
    for kind in ("data", "teachers"):  # most of what is made anew takes longer to start than to be made
        shutil.copytree(unbroken[0] / "results" / kind, root / "results" / kind)
    yield root
    for pid in jobs(root):  # of a head that was killed
        send(pid, signal.SIGKILL)


JOB_FAULTS = {
    "job killed": lambda pid: send(pid, signal.SIGKILL),
    "job stopped": lambda pid: send(pid, signal.SIGTERM),
    "out of memory": out_of_memory,
    "over its time": over_its_time,
    "no room for a file": lambda pid: limit(pid, resource.RLIMIT_FSIZE, 2000),
}
HEAD_FAULTS = {
    "head killed": lambda running: running.kill(),
    "head and jobs killed": lambda running: os.killpg(running.pid, signal.SIGKILL),
    "head stopped": lambda running: running.terminate(),
    "head interrupted": lambda running: os.killpg(running.pid, signal.SIGINT),
}


def injected(root, running, kind, rng):
    """Does `kind` of fault now, or to a job as soon as there is one; False if the run was over before."""
    if running.poll() is None and kind in HEAD_FAULTS:
        HEAD_FAULTS[kind](running)
        return True
    while running.poll() is None:
        working = jobs(root)
        if working:
            JOB_FAULTS[kind](rng.choice(working))
            return True
        time.sleep(0.01)
    return False


def started(root):
    return head(root, *COMMAND, **OFTEN)


def faults_of(number):
    """Which faults a round injects: each kind comes round, in an order that the seed decides."""
    kinds = [*JOB_FAULTS, *HEAD_FAULTS]
    random.Random(SEED).shuffle(kinds)
    return [kinds[(3 * number + place) % len(kinds)] for place in range(3)]


@pytest.mark.parametrize("number", rounds(1))
def test_a_run_with_random_faults_ends_as_the_unbroken_one(unbroken, project, number):
    rng, told = random.Random(SEED * 1000 + number), []
    running = started(project)
    for kind in faults_of(number):
        time.sleep(rng.uniform(0, unbroken[2] / 3))
        if running.poll() is not None:
            running = started(project)
            time.sleep(rng.uniform(2, 5))
        told.append((kind, injected(project, running, kind, rng)))
        if kind in HEAD_FAULTS:
            ended(running)
    for _ in range(3):
        said = ended(running)
        if running.returncode == 0:
            break
        running = started(project)
    assert running.returncode == 0, f"{told}: {said}\n{logs(project)}"
    assert any(done for _, done in told), told
    assert results_of(project) == unbroken[1], told
    assert leftovers(project) == [], told
    assert snakemake(project, *COMMAND, "-n").count("Nothing to be done") == 1


def test_a_killed_job_is_retried_with_more_and_a_killed_head_is_followed_by_one_that_goes_on(
    unbroken, project
):
    running = started(project)
    saved = "results/shards/digits/dm/**/*.resume"
    wait_for(
        project, lambda: len(list(project.glob(saved))) == 2, running, "checkpoint of each of the two shards"
    )
    working = jobs(project, "synthesize")
    for pid in working:
        send(pid, signal.SIGSTOP)  # they would be done before another head has started
    said = snakemake(project, *COMMAND, fails=True)
    assert f"another head works in this folder (process {running.pid} on" in said and "Traceback" not in said
    assert running.poll() is None, "the first head does not mind"
    send(working[0], signal.SIGKILL)
    for pid in working[1:]:
        send(pid, signal.SIGCONT)
    wait_for(project, lambda: "mem_mb=4000" in (project / "said.txt").read_text(), running, "second attempt")
    said = (project / "said.txt").read_text()
    assert "mem_mb=2000," in said and "runtime=10" in said and "runtime=20" in said
    wait_for(project, lambda: "resumed from step" in logs(project), running, "attempt that goes on")
    wait_for(project, lambda: jobs(project, "synthesize"), running, "job")
    running.kill()
    running.wait()
    orphans = jobs(project)
    running = started(project)
    said = ended(running)
    assert running.returncode == 0, said
    assert orphans and not set(orphans) & set(jobs(project))
    assert results_of(project) == unbroken[1] and leftovers(project) == []


def mounted(folder, size):
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return (
        os.geteuid() == 0
        and shutil.which("mount")
        and subprocess.run(command, capture_output=True).returncode == 0
    )


def test_a_full_disk_stops_the_run_with_a_message_and_no_damage(unbroken, tmp_path):
    root = copy_project(tmp_path / "project")
    write_scale(root, **SCALE)
    if not mounted(root / "results", "24m"):
        pytest.skip("a small disk cannot be mounted here")
    try:
        for kind in ("data", "teachers"):
            shutil.copytree(unbroken[0] / "results" / kind, root / "results" / kind)
        running = started(root)
        wait_for(root, lambda: list(root.glob("results/shards/**/*.resume")), running, "checkpoint")
        filler = root / "results" / "filler"
        with open(filler, "wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(b"x" * 4096)
        said = ended(running)
        assert (
            running.returncode != 0
            and "results: the disk is full (0 MB left)" in said
            and "free some space" in said
        )
        filler.unlink()
        running = started(root)
        said = ended(running)
        assert running.returncode == 0, said
        assert results_of(root) == unbroken[1] and leftovers(root) == []
    finally:
        subprocess.run(["umount", "-l", str(root / "results")], check=True)
