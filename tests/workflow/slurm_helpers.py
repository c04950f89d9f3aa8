"""What the tests of the cluster profile share: its command line, and what SLURM knows of the jobs."""

import os
import subprocess
from pathlib import Path

from project_helpers import PROJECT, copy_project, write_scale

from hang_helpers import HUNG

SCRIPTS = PROJECT / "workflow" / "scripts"
PROFILES = ("--profile", "workflow/profiles/slurm", "--profile", str(PROJECT / "tests/workflow/slurm"))


# The executor looks for news ever more rarely, up to three minutes apart; tests cannot wait that long.
OFTEN_LOOKED = """
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

often = property(lambda executor: 0.5, lambda executor, seconds: None)
RemoteExecutor.next_seconds_between_status_checks = often
"""


def cluster_project(root, scale):
    """A copy of the project for a SLURM that answers at once."""
    copy_project(root)
    write_scale(root, **scale)
    with open(root / "Snakefile", "a", encoding="utf-8") as file:
        file.write(OFTEN_LOOKED)
    return root


def run(*command, cwd=None, environment=None, timeout=HUNG):
    """What a command said, on both streams; its status is asserted."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def job_facts(environment, root):
    """Comment (rule and wildcards) -> what SLURM knows of the jobs of a project with it, in the order of
    their numbers."""
    found = {}
    lines = run("scontrol", "--oneliner", "show", "job", environment=environment).splitlines()
    every = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    for facts in sorted(
        (facts for facts in every if facts.get("WorkDir") == str(root)), key=lambda facts: int(facts["JobId"])
    ):
        found.setdefault(facts["Comment"], []).append(facts)
    return found


def steps(number):
    """The processes with which SLURM looks after a job on the node, its batch script among them."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if place.read_bytes().startswith(f"slurmstepd: [{number}.".encode()):
                found.append(int(place.parent.name))
        except OSError:
            continue  # it has just ended
    return found


def asked(facts):
    return facts["MinMemoryNode"], facts["TimeLimit"], facts.get("TresPerJob", "")
