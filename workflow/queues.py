"""How a head of the workflow follows what an earlier one left in SLURM's queue, and waits while SLURM does
not answer."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from condense.machine import slurm


@contextmanager
def followed_queue(workflow: Any) -> Iterator[None]:
    """Inside, the executor follows what a dead head left in SLURM's queue; afterwards nothing of this folder
    is there."""
    from snakemake.exceptions import WorkflowError

    plugin, folder = workflow.executor_plugin, Path(workflow.workdir_init)
    if plugin is None or plugin.name != "slurm":
        yield
        return
    refuse_what_slurm_cannot_name(workflow)
    alone = (
        []
        if workflow.executor_settings.array_jobs
        else [job for job in workflow.dag.needrun_jobs() if not job.group]
    )
    wanted = {slurm.comment(job.rule.name, job.wildcards) for job in alone}
    try:
        followed, surplus = slurm.divided(slurm.queue(folder), wanted)
        if followed or surplus:
            _say(f"SLURM jobs that an earlier head left: {len(followed)} followed, {len(surplus)} stopped")
        slurm.stop(surplus, folder)
        plugin.executor = follower(plugin.executor, followed)
        try:
            yield
        finally:
            # After Ctrl-C the executor has cancelled the jobs that it knew of; one may just have been on its
            # way.
            for job in slurm.stop(slurm.queue(folder), folder):
                _say(f"SLURM job {job.number} was cancelled and is still there")
    except slurm.SlurmSilent as error:
        raise WorkflowError(f"{error}; the same command goes on once SLURM answers") from None


class Following:
    """What changes in the executor of the SLURM plugin, before which `follower` puts it.

    Its jobs are at first those `followed`, by their comments `left` until each is asked for. While SLURM does
    not answer it waits, where the plugin would forget its jobs, also where SLURM falls silent between two
    questions of one round (`told` are the jobs that the plugin answered for in this round). It names jobs
    that SLURM holds, for which the plugin would wait without a word. A job that SLURM no longer knows is
    judged by the files it was to make, where the plugin would wait for it for ever.
    """

    followed: list[slurm.Job]
    left: dict[str, slurm.Job]
    silence: slurm.Silence
    absences: slurm.Absences
    holds: slurm.Holds
    told: set[str]

    def __post_init__(self, *arguments: Any, **named: Any) -> None:
        super().__post_init__(*arguments, **named)
        if self.followed:
            self.run_uuid = self.followed[0].head  # the name by which it asks for its jobs

    def run_job(self, job: Any) -> None:
        from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

        earlier = None if job.is_group() else self.left.pop(slurm.comment(job.rule.name, job.wildcards), None)
        if earlier is None:
            while self.wait and not slurm.answers():
                self.silence.goes_on()
                time.sleep(slurm.POLL)
            if self.wait:  # else the head is ending
                super().run_job(job)
            return
        log = (
            self.slurm_logdir
            / f"rule_{job.name}"
            / "_".join(job.wildcards).replace("/", "_")
            / f"{earlier.number}.log"
        )
        self.logger.info(f"Job {job.jobid} follows SLURM job {earlier.number} (log: {log}).")
        aux = {"slurm_logfile": log}
        self._report_job_submission_threadsafe(SubmittedJobInfo(job, external_jobid=earlier.number, aux=aux))

    async def check_active_jobs(self, active_jobs: list[Any]) -> Any:
        known = await asyncio.to_thread(slurm.known, self.run_uuid) if active_jobs else {}
        if known is None:
            self.silence.goes_on()
            for job in active_jobs:
                yield job
            return
        self.silence.ends()
        numbers = [job.external_jobid for job in active_jobs]
        self.holds.look(numbers, known)
        lost = self.absences.lost(numbers, known)
        asked = [job for job in active_jobs if job.external_jobid not in lost]
        self.told.clear()
        async for job in super().check_active_jobs(asked):
            self.told.add(job.external_jobid)
            yield job
        for job in asked:
            if job.external_jobid not in self.told:
                yield job
        for job in [job for job in active_jobs if job.external_jobid in lost]:
            self.judge_lost(job)

    def report_job_success(self, info: Any) -> None:
        self.told.add(info.external_jobid)
        super().report_job_success(info)

    def report_job_error(self, info: Any, msg: str | None = None, **more: Any) -> None:
        self.told.add(info.external_jobid)
        super().report_job_error(info, msg=msg, **more)

    def judge_lost(self, info: Any) -> None:
        """A job that SLURM knows nothing of has ended; its files are whole or absent."""
        outputs = (
            list(info.job.output)
            if not info.job.is_group()
            else [path for job in info.job.jobs for path in job.output]
        )
        if all(Path(path).exists() for path in outputs):
            _say(f"SLURM no longer knows job {info.external_jobid}; what it was to make is there")
            self.report_job_success(info)
        else:
            message = f"SLURM no longer knows job {info.external_jobid}, and what it was to make is not there"
            self.report_job_error(info, msg=message, aux_logs=[str(info.aux.get("slurm_logfile"))])

    async def sleep(self) -> None:
        """As long as the plugin wants, but no longer than it takes to notice that the head ends."""
        end = time.monotonic() + (self.next_seconds_between_status_checks or 0)
        while self.wait and time.monotonic() < end:
            await asyncio.sleep(min(1.0, max(end - time.monotonic(), 0.01)))


def follower(executor: type, followed: list[slurm.Job]) -> type:
    """The class `executor` of the SLURM plugin, changed as `Following` says."""
    jobs = followed

    class Follower(Following, executor):
        # Of the class, since the thread of an executor starts before it is ready.
        followed, left = jobs, {job.comment: job for job in jobs}
        silence, absences, holds = slurm.Silence(_say), slurm.Absences(), slurm.Holds(_say)
        told: set[str] = set()

    return Follower


def refuse_what_slurm_cannot_name(workflow: Any) -> None:
    """Raises WorkflowError for a path that the plugin's call of sbatch, in which a shell replaces things
    twice, would change."""
    from snakemake.exceptions import WorkflowError

    for path in (sys.executable, workflow.workdir_init, workflow.main_snakefile):
        if re.search(r"""["'$`\\!]""", str(path)):
            raise WorkflowError(
                f"{path}: no job can be sent to SLURM by a path with quotes, dollar signs, backslashes or "
                "exclamation marks; move the checkout, or work in another folder"
            )


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
