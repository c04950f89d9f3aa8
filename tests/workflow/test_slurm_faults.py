"""Whatever happens to a job or to the head on a real SLURM, the same command goes on and ends with the files
of the unbroken run.

`CONDENSE_FAULT_ROUNDS` asks for more rounds of random faults than the one of every day, `CONDENSE_FAULT_SEED`
for others.
"""

import os
import random
import shutil
import signal
import time
from datetime import datetime

import pytest
from fault_helpers import (
    OFTEN,
    SEED,
    TABLE,
    at_work,
    ended,
    jobs,
    leftovers,
    logs,
    results_of,
    rounds,
    send,
    wait_for,
)
from project_helpers import copy_project, head, snakemake, write_scale
from slurm_helpers import PROFILES, asked, cluster_project, job_facts, run, steps

from hang_helpers import HUNG

pytestmark = [pytest.mark.workflow, pytest.mark.slow]
COMMAND = (TABLE, "--config", "scale=tiny")
SCALE = {
    "methods": ["dm"],
    "classes_per_job": 5,
    "recipes": {"matching": {"steps": 600, "batch_real": 16}},
    "resources": {"synthesize": {"threads": 1, "mem_mb": 5000, "runtime": 60}},
}
# What comes after the shards is one job of SLURM
TAIL = ("--groups", "gather=pages", "evaluate=pages", "table=pages")
SHARDS = ("0-4", "5-9")
HEADS = []  # that were started and may still run
# Memory and time of the attempts at a shard: estimated, and twice that
FIRST, SECOND = ("2000M", "00:10:00"), ("4000M", "00:20:00")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A project whose table was made locally without a fault, and what it made."""
    root = copy_project(tmp_path_factory.mktemp("unbroken") / "project")
    write_scale(root, **SCALE)
    snakemake(root, *COMMAND)
    return root, results_of(root)


@pytest.fixture
def project(slurm, unbroken, tmp_path):
    """A project of the same scale for SLURM, with data and nothing else made."""
    root = cluster_project(tmp_path / "project", SCALE)
    shutil.copytree(unbroken[0] / "results" / "data", root / "results" / "data")
    yield root
    for running in HEADS:
        running.kill()
        running.wait()
    HEADS.clear()
    if in_queue(slurm, root):
        run("scancel", *in_queue(slurm, root), environment=slurm)
    for pid in at_work(root):  # a node that fails leaves processes behind where SLURM has no cgroups
        send(pid, signal.SIGKILL)


def started(slurm, root):
    HEADS.append(head(root, *COMMAND, *TAIL, *PROFILES, **slurm, **OFTEN))
    return HEADS[-1]


def in_queue(slurm, root):
    """The numbers of the jobs of a project that wait or run."""
    rows = [
        line.split("|")
        for line in run("squeue", "--noheader", "--format=%i|%Z", environment=slurm).splitlines()
    ]
    return [number for number, folder in rows if folder == str(root)]


def jobs_of(slurm, root, shard):
    """What SLURM knows of the jobs that make a shard, the last one last."""
    return next(
        (facts for comment, facts in job_facts(slurm, root).items() if comment.endswith(f"_{shard}")), []
    )


def change(slurm, what, *words):
    run("scontrol", "update", what, *words, environment=slurm)


def down(slurm):
    """The node fails and is back at once; its jobs go back into the queue."""
    (node,) = run("sinfo", "--noheader", "--format=%n", environment=slurm).split()
    change(slurm, f"NodeName={node}", "State=DOWN", "Reason=test")


def hurry(slurm, root):
    """SLURM lets a job that it put back into the queue wait for two minutes, in which its processes end;
    seconds do here.

    A job that it starts while the step of before still ends on the node is held for good, so what carries its
    number is waited for.
    """
    for facts in [facts for found in job_facts(slurm, root).values() for facts in found]:
        if facts["JobState"] == "PENDING" and facts["Reason"] == "BeginTime":
            ahead = datetime.fromisoformat(facts["EligibleTime"]) - datetime.now()
            number, shard = facts["JobId"], facts["Comment"].rsplit("_", 1)[-1]
            if ahead.total_seconds() > 15 and not steps(number) and not jobs(root, "synthesize", shard):
                change(slurm, f"JobId={number}", "StartTime=now+4")
    return True


def held(slurm, root, running, shard, attempt=1):
    """Stops the process that makes a shard in SLURM job number `attempt`, once it has left a checkpoint; what
    SLURM knows of it."""

    def works():
        log = next(root.glob(f"results/logs/synthesize/*-{shard}.log"), None)
        resumed = attempt == 1 or (log and "resumed from step" in log.read_text())
        saved = jobs(root, "synthesize", shard) and any(
            root.glob(f"results/shards/**/classes{shard}.safetensors.resume")
        )
        sent = jobs_of(slurm, root, shard)
        return saved and resumed and len(sent) == attempt and sent[-1]["JobState"] == "RUNNING"

    wait_for(root, works, running, f"job {attempt} of {shard}")
    for pid in jobs(root, "synthesize", shard):
        send(pid, signal.SIGSTOP)
    return jobs_of(slurm, root, shard)[-1]


def states(slurm, root, shard):
    return [(facts["JobState"], *asked(facts)[:2]) for facts in jobs_of(slurm, root, shard)]


def test_jobs_and_heads_that_die_in_every_way_are_followed_by_ones_that_go_on(slurm, unbroken, project):
    a, b = SHARDS
    running = started(slurm, project)
    job = held(slurm, project, running, b)
    change(slurm, f"JobId={job['JobId']}", "TimeLimit=0")  # which SLURM sees within half a minute
    held(slurm, project, running, a)
    for pid in jobs(project, "synthesize", a):
        send(pid, signal.SIGKILL)
    followed = [held(slurm, project, running, shard, 2)["JobId"] for shard in SHARDS]
    assert states(slurm, project, a) == [("FAILED", *FIRST), ("RUNNING", *SECOND)]
    assert states(slurm, project, b) == [("TIMEOUT", "2000M", "00:00:00"), ("RUNNING", *SECOND)]

    running.kill()
    running.wait()
    running = started(slurm, project)
    wait_for(
        project,
        lambda: (project / "said.txt").read_text().count("follows SLURM job") == 2,
        running,
        "following",
    )
    assert "SLURM jobs that an earlier head left: 2 followed, 0 stopped" in (project / "said.txt").read_text()
    for pid in jobs(project, "synthesize", b):
        send(pid, signal.SIGCONT)
    wait_for(
        project,
        lambda: "(20%) done" in (project / "said.txt").read_text(),
        running,
        "end of a job of the first head",
    )
    assert sorted(in_queue(slurm, project)) == followed[:1] and states(slurm, project, b)[-1] == (
        "COMPLETED",
        *SECOND,
    )

    os.killpg(running.pid, signal.SIGINT)
    assert "What was finished stays" in ended(running) and running.returncode != 0
    assert (
        in_queue(slurm, project) == []
        and jobs(project) == []
        and list(project.glob(".snakemake/locks/*")) == []
    )
    assert states(slurm, project, a)[-1] == ("CANCELLED", *SECOND) and list(
        project.glob("results/shards/**/*.resume")
    )

    running = started(slurm, project)
    job = held(slurm, project, running, a, 3)
    run("scancel", job["JobId"], environment=slurm)
    held(slurm, project, running, a, 4)
    down(slurm)
    wait_for(
        project,
        lambda: hurry(slurm, project) and jobs_of(slurm, project, a)[-1]["JobState"] == "RUNNING",
        running,
        "restart",
    )
    said = ended(running)
    assert running.returncode == 0, said + logs(project)
    assert "earlier head" not in said
    assert states(slurm, project, a)[2:] == [("CANCELLED", *FIRST), ("COMPLETED", *SECOND)]
    assert jobs_of(slurm, project, a)[-1]["Restarts"] == "1" and len(jobs_of(slurm, project, b)) == 2
    clean(slurm, unbroken, project)


def clean(slurm, unbroken, project):
    assert results_of(project) == unbroken[1]
    assert leftovers(project) == [] and in_queue(slurm, project) == [] and jobs(project) == []


FAULTS = {
    "job killed": lambda slurm, number, pid, running: send(pid, signal.SIGKILL),
    "job cancelled": lambda slurm, number, pid, running: run("scancel", number, environment=slurm),
    "job requeued": lambda slurm, number, pid, running: run("scontrol", "requeue", number, environment=slurm),
    "node down": lambda slurm, number, pid, running: down(slurm),
    "head killed": lambda slurm, number, pid, running: running.kill(),
    "head interrupted": lambda slurm, number, pid, running: os.killpg(running.pid, signal.SIGINT),
}


def faults_of(number):
    """Which faults a round injects: each kind comes round, in an order that the seed decides."""
    kinds = list(FAULTS)
    random.Random(SEED).shuffle(kinds)
    return [kinds[(3 * number + place) % len(kinds)] for place in range(3)]


def followed_up(slurm, root, running, at_a_job=False):
    """Waits until a head ends, or until a shard is being made."""
    deadline = time.monotonic() + HUNG
    while running.poll() is None and not (at_a_job and jobs(root, "synthesize")):
        assert time.monotonic() < deadline, (root / "said.txt").read_text()
        hurry(slurm, root)
        time.sleep(0.3)


@pytest.mark.parametrize("number", rounds(1))
def test_a_run_with_random_faults_ends_as_the_unbroken_one(slurm, unbroken, project, number):
    rng, told = random.Random(SEED * 1000 + number), []
    running = started(slurm, project)
    for kind in faults_of(number):
        if running.poll() is not None:
            running = started(slurm, project)
        followed_up(slurm, project, running, at_a_job=True)
        time.sleep(rng.uniform(0, 3))
        working = [
            facts["JobId"]
            for shard in SHARDS
            for facts in jobs_of(slurm, project, shard)
            if facts["JobState"] == "RUNNING"
        ]
        processes = jobs(project, "synthesize")
        if running.poll() is None and working and processes:
            told.append(kind)
            FAULTS[kind](slurm, rng.choice(working), rng.choice(processes), running)
        if kind.startswith("head"):
            ended(running)
    for _ in range(3):
        followed_up(slurm, project, running)
        if running.returncode == 0:
            break
        running = started(slurm, project)
    assert running.returncode == 0, f"{told}: {ended(running)}\n{logs(project)}"
    assert told
    clean(slurm, unbroken, project)
