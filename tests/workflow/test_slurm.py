"""A real SLURM of one node, started for these tests: a few cells go through the cluster profile and end as
they do locally."""

import shutil
import subprocess
from types import SimpleNamespace

import pytest
from fault_helpers import TABLE, results_of
from project_helpers import copy_project, snakemake, write_scale
from slurm_helpers import PROFILES, SCRIPTS, asked, cluster_project, job_facts

pytestmark = pytest.mark.workflow
SCALE = {
    "methods": ["dm"],
    "classes_per_job": 5,
    "resources": {
        "synthesize": {"threads": 1, "gpu": 1, "mem_mb": 700, "runtime": 7},
        "evaluate": {"threads": 1, "mem_mb": 600, "runtime": 6},
        "report": {"threads": 1, "mem_mb": 1500, "runtime": 15},
    },
}
COMMAND = (TABLE, "--config", "scale=tiny")
# Read by the shell of every job: notes which GPU it was given, and lets the first attempt at gathering fail.
# The GPUs of this SLURM are make-believe, so that jobs which would use one work on the CPU.
IN_EVERY_JOB = """
condense() {
  local words=() word
  for word in "$@"; do [ "$word" = cuda ] && word=cpu; words+=("$word"); done
  command condense "${words[@]}"
}
if [ -n "${SLURM_JOB_ID:-}" ]; then
  echo "${CUDA_VISIBLE_DEVICES-none}" >"$NOTES/$SLURM_JOB_ID"
  case "${BASH_EXECUTION_STRING-}" in
    *" gather --index "*) mkdir "$NOTES/failed" 2>/dev/null && exit 1 ;;
  esac
fi
"""


@pytest.fixture(scope="module")
def made(slurm, tmp_path_factory):
    """Two copies of the project in which the table was made, one locally and one by SLURM, from the same
    prepared data."""
    folder = tmp_path_factory.mktemp("projects")
    local, cluster = copy_project(folder / "local"), cluster_project(folder / "cluster", SCALE)
    write_scale(local, **SCALE)
    snakemake(local, *COMMAND, "device=cpu")
    shutil.copytree(local / "results" / "data", cluster / "results" / "data")
    notes = folder / "notes"
    notes.mkdir()
    (folder / "in_every_job").write_text(IN_EVERY_JOB)
    environment = slurm | {"NOTES": str(notes), "BASH_ENV": str(folder / "in_every_job")}
    said = snakemake(cluster, *COMMAND, *PROFILES, **environment)
    gpus = {path.name: path.read_text().strip() for path in notes.iterdir() if path.is_file()}
    return SimpleNamespace(local=local, cluster=cluster, said=said, jobs=job_facts(slurm, cluster), gpus=gpus)


def jobs_of(made, rule):
    return [
        facts
        for comment, jobs in sorted(made.jobs.items())
        if comment.startswith(f"rule_{rule}")
        for facts in jobs
    ]


def test_shards_are_jobs_of_their_own_with_the_gpu_memory_and_time_of_the_rule(made):
    shards = jobs_of(made, "synthesize")
    assert [asked(facts) for facts in shards] == [("700M", "00:07:00", "gres:gpu:1")] * 2
    assert sorted(made.gpus[facts["JobId"]] for facts in shards) == ["0", "1"], (
        "at once, each on a GPU of its own"
    )
    assert [asked(facts) for facts in jobs_of(made, "evaluate")] == [("600M", "00:06:00", "")]


def test_a_failed_job_is_sent_again_as_a_new_job_with_more_memory_and_time(made):
    first, second = jobs_of(made, "gather")
    assert (first["JobState"], second["JobState"]) == ("FAILED", "COMPLETED") and first["JobId"] != second[
        "JobId"
    ]
    assert [asked(facts) for facts in (first, second)] == [
        ("1000M", "00:10:00", ""),
        ("1500M", "00:15:00", ""),
    ], "up to the scale's limit"


def test_the_numbers_are_those_of_a_local_run(made):
    assert (
        len(list(made.local.glob("results/metrics/**/*.json")))
        == len(list(made.local.glob("results/synthetic/**/*.safetensors")))
        == 1
    )
    assert results_of(made.cluster) == results_of(made.local)


def test_the_log_of_every_job_lies_in_one_place_and_says_what_failed(made):
    logs = made.cluster / "results" / "logs" / "slurm"
    rules = {path.relative_to(logs).parts[0] for path in logs.rglob("*.log")}
    assert rules == {"rule_synthesize", "rule_gather", "rule_evaluate", "group_pages_table"}
    numbers = [
        facts["JobId"]
        for rule in ("synthesize", "gather", "evaluate", "pages")
        for facts in jobs_of(made, rule)
    ]
    assert len(numbers) == 6 and sorted(path.stem for path in logs.rglob("*.log")) == sorted(numbers)
    failed = next(logs.rglob(f"{jobs_of(made, 'gather')[0]['JobId']}.log"))
    assert "FAILED: gather, which makes results/synthetic/" in failed.read_text()


@pytest.mark.parametrize("script", ["slurm-up", "slurm-down"])
def test_without_a_folder_the_scripts_say_what_they_need(script):
    done = subprocess.run([SCRIPTS / script], capture_output=True, text=True)
    assert done.returncode == 2 and "one argument is needed" in done.stderr
