"""Which jobs in SLURM's queue a head follows, and how it stops the others; the commands are stand-ins."""

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from condense.machine import slurm
from condense.machine.slurm import Job

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow"))
import queues  # noqa: E402  it lies beside the rules

ONE, TWO = "0f0a1b2c-1111-4222-8333-444455556666", "ffffffff-1111-4222-8333-444455556666"
FOLDER = Path("/home/me/project")


def test_only_jobs_of_heads_of_the_folder_count():
    lines = [
        f"12|{ONE}|/home/me/project|rule_synthesize_wildcards_digits_0-4",
        f"13|lab_{TWO}|/home/me/project|rule_evaluate_wildcards_a|b",
        f"14_[2-9]|{ONE}|/home/me/project|rule_synthesize_wildcards_digits_5-9",
        f"15|{ONE}|/home/me/project/results|rule_gather",
        "16|bash|/home/me/project|",
        "a warning",
    ]
    assert slurm.parsed("\n".join(lines), FOLDER) == [
        Job("12", ONE, "rule_synthesize_wildcards_digits_0-4"),
        Job("13", f"lab_{TWO}", "rule_evaluate_wildcards_a|b"),
        Job("14_[2-9]", ONE, "rule_synthesize_wildcards_digits_5-9"),
    ]


def test_followed_are_wanted_jobs_of_one_head_one_for_each_comment_and_no_tasks_of_arrays():
    a, b, c = "rule_x_wildcards_a", "rule_x_wildcards_b", "rule_x_wildcards_c"
    twice, array, other = Job("3", ONE, a), Job("4_1", ONE, c), Job("5", TWO, c)
    jobs = [Job("1", ONE, a), Job("2", ONE, b), twice, array, other, Job("6", ONE, "rule_y")]
    followed, others = slurm.divided(jobs, {a, b, c})
    assert (
        {job.comment for job in followed} == {a, b}
        and {job.head for job in followed} == {ONE}
        and len(followed) == 2
    )
    assert sorted(followed + others) == sorted(jobs)
    assert slurm.divided(jobs, set()) == ([], jobs) and slurm.divided([], {a}) == ([], [])


def test_a_comment_is_that_of_the_executor():
    from snakemake_executor_plugin_slurm.utils import get_job_wildcards

    class WithWildcards:
        wildcards = ["digits/x", "0-4"]

    assert (
        slurm.comment("x", WithWildcards.wildcards) == f"rule_x_wildcards_{get_job_wildcards(WithWildcards)}"
    )
    assert slurm.comment("table", []) == "rule_table"


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A `squeue` that lists a file, and a `scancel` that notes what it was told and empties that file unless
    told otherwise."""
    for name, text in {
        "squeue": f"cat {tmp_path}/queue",
        "scancel": f'echo "$@" >{tmp_path}/told; test -e {tmp_path}/stuck || : >{tmp_path}/queue',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "queue").write_text(
        f"7|{ONE}|{FOLDER}|rule_a\n8_[1-3]|{ONE}|{FOLDER}|rule_b\n8_0|{ONE}|{FOLDER}|rule_b\n"
    )
    return tmp_path


def test_stopped_jobs_are_waited_for_and_arrays_stopped_as_a_whole(commands):
    assert slurm.stop(slurm.queue(FOLDER), FOLDER, poll=0) == []
    assert (commands / "told").read_text() == "7 8\n"


def test_what_does_not_go_is_named_after_a_while(commands):
    (commands / "stuck").touch()
    jobs = slurm.queue(FOLDER)
    assert slurm.stop(jobs[:1], FOLDER, seconds=0, poll=0) == jobs[:1]


def test_without_jobs_nothing_is_asked_and_a_silent_slurm_is_an_error(commands):
    assert slurm.stop([], FOLDER) == [] and not (commands / "told").exists()
    (commands / "squeue").write_text("#!/bin/sh\necho unable to contact slurm controller >&2\nexit 1\n")
    with pytest.raises(slurm.SlurmSilent, match="`squeue` failed: unable to contact slurm controller"):
        slurm.queue(FOLDER)


class Plugin:
    """Stands for the executor of the plugin: forgets what it asked for when SLURM falls silent meanwhile."""

    run_uuid = ONE

    def __init__(self, silent):
        self.silent, self.ended, self.failed = silent, [], []

    def report_job_success(self, info):
        self.ended.append(info.external_jobid)

    def report_job_error(self, info, msg=None, aux_logs=None):
        self.failed.append(info.external_jobid)

    async def check_active_jobs(self, jobs):
        for place, job in enumerate(jobs if not self.silent else []):
            if place == 0:
                self.report_job_success(job)
            elif place == 1:
                self.report_job_error(job, msg="failed", aux_logs=[])
            else:
                yield job


@pytest.mark.parametrize(("silent", "left"), [(False, ["9", "10"]), (True, ["7", "8", "9", "10"])])
def test_jobs_that_the_plugin_forgets_in_a_silence_are_asked_for_again(commands, silent, left):
    (commands / "queue").write_text("".join(f"{number}|RUNNING|None\n" for number in (7, 8, 9, 10)))
    head = queues.follower(Plugin, [])(silent)
    jobs = [SimpleNamespace(external_jobid=number) for number in ("7", "8", "9", "10")]

    async def still_active():
        return [job.external_jobid async for job in head.check_active_jobs(jobs)]

    assert asyncio.run(still_active()) == left
    assert (head.ended, head.failed) == (([], []) if silent else (["7"], ["8"]))
