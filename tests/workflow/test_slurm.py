"""A real SLURM of one node, started for these tests: a few cells go through the cluster profile and end as they do locally."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

pytestmark = pytest.mark.workflow
PROJECT = Path(__file__).resolve().parents[2]
SCRIPTS = PROJECT / "workflow" / "scripts"
PROFILES = ["--profile", "workflow/profiles/slurm", "--profile", str(PROJECT / "tests/workflow/slurm")]
TABLE = "results/tables/cpdm/table1.csv"
MISSING = 69  # how slurm-up ends where there is no SLURM
SCALE = {
    "name": "shards",
    "title": "a test",
    "n_sets": 1,
    "n_networks": 1,
    "datasets": {"cifar10": ["digits"]},
    "ipc": [1],
    "methods": ["dm"],
    "classes_per_job": 5,
    "recipes": {"matching": {"steps": 3, "batch_real": 8}},
    "protocols": {"dc": {"epochs": 1}},
    "architectures": {"convnet": {"depth": 2, "width": 8}},
    "only_tables": True,
    "tables": {"cpdm/table1": {}},
    "resources": {
        "synthesize": {"threads": 1, "gpu": 1, "mem_mb": 700, "runtime": 7},
        "evaluate": {"threads": 1, "mem_mb": 600, "runtime": 6},
        "report": {"threads": 1, "mem_mb": 500, "runtime": 5},
    },
}
# Read by the shell of every job: notes which GPU it was given, and lets the first attempt at gathering fail.
IN_EVERY_JOB = """
if [ -n "${SLURM_JOB_ID:-}" ]; then
  echo "${CUDA_VISIBLE_DEVICES-none}" >"$NOTES/$SLURM_JOB_ID"
  case "${BASH_EXECUTION_STRING-}" in *"condense gather"*) mkdir "$NOTES/failed" 2>/dev/null && exit 1 ;; esac
fi
"""


def run(*command, cwd=None, environment=None, timeout=200):
    """What a command said, on both streams; its status is asserted."""
    done = subprocess.run(command, cwd=cwd, env=os.environ | (environment or {}), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """The environment in which the commands of a freshly started SLURM work."""
    folder = tmp_path_factory.mktemp("slurm")
    command = [SCRIPTS / "slurm-up", folder]
    started = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"GPUS": "2", "CPUS": "4"})
    if started.returncode == MISSING:
        pytest.skip(started.stderr.strip())
    try:
        assert started.returncode == 0, started.stderr
        yield {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    finally:
        run(SCRIPTS / "slurm-down", folder)
    assert not folder.exists()


def project(root):
    root.mkdir()
    shutil.copy(PROJECT / "Snakefile", root)
    for folder in ("workflow", "params"):
        shutil.copytree(PROJECT / folder, root / folder)
    (root / "profiles").symlink_to("workflow/profiles")
    (root / "params" / "scales" / "shards.yaml").write_text(yaml.safe_dump(SCALE), encoding="utf-8")
    return root


def snakemake(root, *arguments, environment=None):
    command = [sys.executable, "-m", "snakemake", TABLE, "--config", "scale=shards", *arguments]
    return run(*command, cwd=root, environment={"OMP_NUM_THREADS": "1"} | (environment or {}))


def job_facts(environment):
    """Comment (rule and wildcards) -> what SLURM knows of the jobs with it, in the order of their numbers."""
    found = {}
    for line in sorted(run("scontrol", "--oneliner", "show", "job", environment=environment).splitlines()):
        facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
        found.setdefault(facts.get("Comment", ""), []).append(facts)
    return found


@pytest.fixture(scope="module")
def made(slurm, tmp_path_factory):
    """Two copies of the project in which the table was made, one locally and one by SLURM, from the same prepared data."""
    folder = tmp_path_factory.mktemp("projects")
    local, cluster = project(folder / "local"), project(folder / "cluster")
    snakemake(local, "--cores", "2")
    shutil.copytree(local / "results" / "data", cluster / "results" / "data")
    notes = folder / "notes"
    notes.mkdir()
    (folder / "in_every_job").write_text(IN_EVERY_JOB)
    environment = slurm | {"NOTES": str(notes), "BASH_ENV": str(folder / "in_every_job")}
    said = snakemake(cluster, *PROFILES, environment=environment)
    gpus = {path.name: path.read_text().strip() for path in notes.iterdir() if path.is_file()}
    return SimpleNamespace(local=local, cluster=cluster, said=said, jobs=job_facts(slurm), gpus=gpus)


def jobs_of(made, rule):
    return [facts for comment, jobs in sorted(made.jobs.items()) if comment.startswith(f"rule_{rule}") for facts in jobs]


def asked(facts):
    return facts["MinMemoryNode"], facts["TimeLimit"], facts.get("TresPerJob", "")


def test_shards_are_jobs_of_their_own_with_the_gpu_memory_and_time_of_the_rule(made):
    shards = jobs_of(made, "synthesize")
    assert [asked(facts) for facts in shards] == [("700M", "00:07:00", "gres:gpu:1")] * 2
    assert sorted(made.gpus[facts["JobId"]] for facts in shards) == ["0", "1"], "at once, each on a GPU of its own"
    assert [asked(facts) for facts in jobs_of(made, "evaluate")] == [("600M", "00:06:00", "")]


def test_a_failed_job_is_sent_again_as_a_new_job_with_more_memory_and_time(made):
    first, second = jobs_of(made, "gather")
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED") and first["JobId"] != second["JobId"]
    assert [asked(facts) for facts in (first, second)] == [("500M", "00:05:00", ""), ("1000M", "00:10:00", "")]


def test_the_numbers_are_those_of_a_local_run(made):
    def numbers(root):
        found = {path.relative_to(root): json.loads(path.read_text()) for path in root.glob("results/metrics/**/*.json")}
        return {path: json.dumps({name: value for name, value in facts.items() if name != "run"}) for path, facts in found.items()}

    def sets(root):
        return [path.read_bytes() for path in root.glob("results/synthetic/**/synthetic.safetensors")]

    assert len(numbers(made.local)) == 1 and numbers(made.cluster) == numbers(made.local)
    assert len(sets(made.local)) == 1 and sets(made.cluster) == sets(made.local)
    assert (made.cluster / TABLE).read_bytes() == (made.local / TABLE).read_bytes()


def test_the_log_of_every_job_lies_in_one_place_and_says_what_failed(made):
    logs = made.cluster / "results" / "logs" / "slurm"
    rules = {path.relative_to(logs).parts[0] for path in logs.rglob("*.log")}
    assert rules == {"rule_synthesize", "rule_gather", "rule_evaluate", "group_pages_table"}
    numbers = [facts["JobId"] for rule in ("synthesize", "gather", "evaluate", "pages") for facts in jobs_of(made, rule)]
    assert len(numbers) == 6 and sorted(path.stem for path in logs.rglob("*.log")) == sorted(numbers)
    failed = next(logs.rglob(f"{jobs_of(made, 'gather')[0]['JobId']}.log"))
    assert "Error in rule gather" in failed.read_text()


@pytest.mark.parametrize("script", ["slurm-up", "slurm-down"])
def test_without_a_folder_the_scripts_say_what_they_need(script):
    done = subprocess.run([SCRIPTS / script], capture_output=True, text=True)
    assert done.returncode == 2 and "one argument is needed" in done.stderr
