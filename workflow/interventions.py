"""Every change that the workflow makes to Snakemake itself, in one place.

Each change names what it needs of Snakemake. Where a release has renamed that, the change is left out, one line says so and
what that costs, and the workflow runs without it: no result depends on these changes.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condense import locks, slurm

LAST_LINES = 12  # of the log of a failed job that are shown
LONGEST = 400  # characters of one of these lines
_LOCK_FILE = Path(".snakemake/condense.lock")


@dataclass(frozen=True)
class Change:
    """One change: what it is for, what it needs of Snakemake ('module:Class.attribute'), and what makes it."""

    purpose: str
    without: str  # what the user notices where it is left out
    needs: tuple[str, ...]
    make: Callable[[Any, Any], None]  # given the workflow and the `Head`


@dataclass(frozen=True)
class Head:
    """What the workflow tells the changes: which outputs of a job are of another scale, and what is checked before the first job."""

    outdated: Callable[[Any], bool]
    check: Callable[[list[Any]], None]  # given the jobs that are to run; raises WorkflowError


def make_changes(workflow: Any, head: Head) -> None:
    """Makes every change that this release of Snakemake has a place for; says which ones are left out."""
    for change in CHANGES:
        lost = [name for name in change.needs if not _exists(name)]
        if lost:
            print(f"this Snakemake has no {', '.join(lost)}: {change.without}", file=sys.stderr, flush=True)
        else:
            change.make(workflow, head)


def _exists(name: str) -> bool:
    module, _, attributes = name.partition(":")
    try:
        value = __import__(module, fromlist=["_"])
        for attribute in attributes.split("."):
            value = getattr(value, attribute)
    except (ImportError, AttributeError):
        return False
    return True


def one_timer(workflow: Any, head: Head) -> None:
    """One timer at a time looks at the queue.

    Snakemake 9 starts one at every look, each causes another look, and every finished job adds one more: after some hundred
    jobs it runs out of threads (its issue 3804).
    """
    from snakemake.scheduling.job_scheduler import JobScheduler

    def look_again_later(scheduler: Any, delay: float) -> None:
        now = time.monotonic()
        if now >= getattr(scheduler, "_looks_again_at", now):
            scheduler._looks_again_at = now + delay
            timer = threading.Timer(delay, scheduler._open_jobs.release)
            timer.daemon = True  # nothing waits for it when the workflow ends
            timer.start()

    JobScheduler._schedule_reevalutation = look_again_later


def signature_once(workflow: Any, head: Head) -> None:
    """Snakemake asks some ten times a job for the parameters of a function of its own, a twentieth of planning."""
    from snakemake.common import overwrite_function_params
    from snakemake.resources import Resource

    overwrite_function_params(Resource.evaluate, inspect.signature(Resource.evaluate).parameters)


def made_is_finished(workflow: Any, head: Head) -> None:
    """A file under a key that is there counts as finished, and a table of another scale as forced.

    The key says what a file was made from, so neither times nor changed inputs matter; a table says in the file beside it what
    it was made from. Without this change, jobs whose results are there run, find that out, and leave them as they are.
    """
    from snakemake.dag import DAG

    plain = getattr(DAG.update_needrun, "plain", DAG.update_needrun)

    async def update_needrun(dag: Any, *arguments: Any, **named: Any) -> None:
        if not dag.workflow.remote_exec:  # a job of a cluster does what it was sent for
            dag.forcefiles.update(path for job in dag.jobs if head.outdated(job) for path in job.output)
        made = set() if dag.workflow.remote_exec else await _finished_before(dag)
        dag.finished = lambda job: job in made or job in dag._finished
        # Snakemake takes what lies behind a job that is to run for granted, which holds no longer behind one that is finished.
        dag.bfs = lambda direction, *jobs, stop=lambda job: False: DAG.bfs(dag, direction, *jobs, stop=lambda job: job in made or stop(job))
        try:
            await plain(dag, *arguments, **named)
        finally:
            del dag.finished, dag.bfs

    update_needrun.plain = plain
    DAG.update_needrun = update_needrun


async def _finished_before(dag: Any) -> set[Any]:
    """Jobs whose keyed results are there, and those that only such jobs would need."""
    made = {job for job in dag.jobs if _is_keyed(dag, job) and all([await path.exists() for path in job.output])}
    for level in reversed(list(dag.toposorted())):
        for job in level:
            needing = dag.depending[job]
            if needing and job not in dag.targetjobs and _is_keyed(dag, job) and made.issuperset(needing):
                made.add(job)
    return made


def _is_keyed(dag: Any, job: Any) -> bool:
    """Whether a key says what a job makes, and nobody forces it."""
    forced = (job.rule in dag.forcerules and job not in dag.omitforce) or not dag.forcefiles.isdisjoint(job.output)
    return not forced and bool({"key", "ekey"}.intersection(job.wildcards_dict))


def one_head(workflow: Any, head: Head) -> None:
    """One head a folder. Snakemake's own lock outlives a head that was killed; ours goes with its process.

    It holds where Snakemake locks: not in dry runs, nor in the jobs of a cluster.
    """
    from snakemake.exceptions import WorkflowError
    from snakemake.persistence import PersistenceBase

    plain = getattr(PersistenceBase, "lock_without_head", PersistenceBase.lock)

    def lock(persistence: Any) -> Iterator[None]:
        try:
            with locks.only_head(_LOCK_FILE) as left_behind:
                if left_behind:
                    persistence.unlock()
                    Path(".snakemake/locks").mkdir(exist_ok=True)  # goes with the locks, and is made at the start only
                head.check(list(workflow.dag.needrun_jobs()))
                with plain(persistence), followed_queue(workflow):
                    yield
        except locks.FolderTaken as error:
            raise WorkflowError(str(error)) from None

    PersistenceBase.lock_without_head = plain
    PersistenceBase.lock = contextmanager(lock)


def quoted_interpreter(workflow: Any, head: Head) -> None:
    """The jobs of a cluster call Snakemake by the path of this interpreter, which may have spaces."""
    from snakemake_executor_plugin_slurm_jobstep import Executor
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    for executor in (RemoteExecutor, Executor):
        plain = getattr(executor.get_python_executable, "plain", executor.get_python_executable)

        def get_python_executable(executor: Any, plain: Callable[[Any], str] = plain) -> str:
            return shlex.quote(plain(executor))

        get_python_executable.plain = plain
        executor.get_python_executable = get_python_executable


def refuse_what_slurm_cannot_name(workflow: Any) -> None:
    """Raises WorkflowError for a path that the plugin's call of sbatch, in which a shell replaces things twice, would change."""
    from snakemake.exceptions import WorkflowError

    for path in (sys.executable, workflow.workdir_init, workflow.main_snakefile):
        if re.search(r"""["'$`\\!]""", str(path)):
            raise WorkflowError(
                f"{path}: no job can be sent to SLURM by a path with quotes, dollar signs, backslashes or exclamation marks;"
                " move the checkout, or work in another folder"
            )


class FailedJobs(logging.Handler):
    """Prints of every failed job what it was, what Snakemake or SLURM says of it, and how its log ends, however quiet the rest is."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            failed = getattr(record, "job_error_info", None) or [record.__dict__]
            lines = [line for job in failed for line in told_of(job)]
            lines += told_of_logs(getattr(record, "aux_logs", None) or [])
            print("\n" + "\n".join(lines), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)

    def filter(self, record: logging.LogRecord) -> bool:
        return _event(record) in ("JOB_ERROR", "GROUP_ERROR")


def told_of(job: dict[str, Any]) -> list[str]:
    """The lines on one failed job; `job` holds what Snakemake's log record says of it."""
    outputs = [_plain_path(path) for path in job.get("output") or []]
    lines = [f"FAILED: {job['rule_name']}, which makes {outputs[0] if outputs else 'no file'}"]
    number = (job.get("aux") or {}).get("external_jobid")
    message = str(job.get("rule_msg") or "").partition("For further error details")[0].strip()
    if message:
        lines += [f"  {line.strip()[:LONGEST]}" for line in message.splitlines() if line.strip()]
    elif number:
        lines.append(f"  job {number} of the cluster failed")
    return [*lines, *told_of_logs(job.get("log") or [])]


def told_of_logs(paths: list[Any]) -> list[str]:
    """How each log ends, with its path."""
    lines = []
    for path in map(_plain_path, paths):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            text = []
        ending = [line[:LONGEST] for line in text if line.strip()][-LAST_LINES:]
        lines.append(f"  log: {path}" + ("" if ending else " (nothing in it)"))
        lines += [f"    {line}" for line in ending]
    return lines


def _plain_path(path: object) -> str:
    """A path without the notes that Snakemake adds, such as ' (update)'."""
    return str(path).partition(" (")[0]


def _event(record: logging.LogRecord) -> str:
    return getattr(getattr(record, "event", None), "name", "")


def say_what_failed(workflow: Any, head: Head) -> None:
    """Errors of jobs are printed by `FailedJobs`, and no longer with a command of thousands of characters, or not at all."""
    from snakemake.logging import logger
    from snakemake.settings.enums import Quietness

    settings = workflow.output_settings
    if Quietness.ALL in (settings.quiet or ()) or settings.verbose or any(isinstance(h, FailedJobs) for h in logger.handlers):
        return

    def is_other(record: logging.LogRecord) -> bool:
        said = str(record.msg)
        # The last: of an output that was not there before the job, which is no fault.
        needless = said.startswith("RuleException:\nCalledProcessError") or said.endswith("no backup found.")
        return _event(record) not in ("JOB_ERROR", "GROUP_ERROR") and not needless

    for handler in logger.handlers:
        handler.addFilter(is_other)
    logger.addHandler(FailedJobs())


@contextmanager
def followed_queue(workflow: Any) -> Iterator[None]:
    """Inside, the executor follows what a dead head left in SLURM's queue; afterwards nothing of this folder is there."""
    from snakemake.exceptions import WorkflowError

    plugin, folder = workflow.executor_plugin, Path(workflow.workdir_init)
    if plugin is None or plugin.name != "slurm":
        yield
        return
    refuse_what_slurm_cannot_name(workflow)
    alone = [] if workflow.executor_settings.array_jobs else [job for job in workflow.dag.needrun_jobs() if not job.group]
    wanted = {slurm.comment(job.rule.name, job.wildcards) for job in alone}
    try:
        followed, others = slurm.divided(slurm.queue(folder), wanted)
        if followed or others:
            _say(f"SLURM jobs that an earlier head left: {len(followed)} followed, {len(others)} stopped")
        slurm.stop(others, folder)
        plugin.executor = follower(plugin.executor, followed)
        try:
            yield
        finally:
            # After Ctrl-C the executor has cancelled the jobs that it knew of; one may just have been on its way.
            for job in slurm.stop(slurm.queue(folder), folder):
                _say(f"SLURM job {job.number} was cancelled and is still there")
    except slurm.SlurmSilent as error:
        raise WorkflowError(f"{error}; the same command goes on once SLURM answers") from None


def follower(executor: type, followed: list[slurm.Job]) -> type:
    """The class `executor` of the SLURM plugin, changed in three ways.

    Its jobs are at first those `followed`. While SLURM does not answer it waits, where the plugin would forget its jobs. A job
    that SLURM no longer knows is judged by the files it was to make, where the plugin would wait for it for ever.
    """
    from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

    left = {job.comment: job for job in followed}
    # Not the executor's, whose thread starts before it is ready.
    silence, absences, holds = slurm.Silence(_say), slurm.Absences(), slurm.Holds(_say)

    class Follower(executor):
        def __post_init__(self, *arguments: Any, **named: Any) -> None:
            super().__post_init__(*arguments, **named)
            if followed:
                self.run_uuid = followed[0].head  # the name by which it asks for its jobs

        def run_job(self, job: Any) -> None:
            earlier = None if job.is_group() else left.pop(slurm.comment(job.rule.name, job.wildcards), None)
            if earlier is None:
                while self.wait and not slurm.answers():
                    silence.goes_on()
                    time.sleep(slurm.POLL)
                if self.wait:  # else the head is ending
                    super().run_job(job)
                return
            log = self.slurm_logdir / f"rule_{job.name}" / "_".join(job.wildcards).replace("/", "_") / f"{earlier.number}.log"
            self.logger.info(f"Job {job.jobid} follows SLURM job {earlier.number} (log: {log}).")
            aux = {"slurm_logfile": log}
            self._report_job_submission_threadsafe(SubmittedJobInfo(job, external_jobid=earlier.number, aux=aux))

        async def check_active_jobs(self, active_jobs: list[Any]) -> Any:
            known = await asyncio.to_thread(slurm.known, self.run_uuid) if active_jobs else {}
            if known is None:
                silence.goes_on()
                for job in active_jobs:
                    yield job
                return
            silence.ends()
            numbers = [job.external_jobid for job in active_jobs]
            holds.look(numbers, known)
            lost = absences.lost(numbers, known)
            async for job in super().check_active_jobs([job for job in active_jobs if job.external_jobid not in lost]):
                yield job
            for job in [job for job in active_jobs if job.external_jobid in lost]:
                self.judge_lost(job)

        def judge_lost(self, info: Any) -> None:
            """A job that SLURM knows nothing of has ended; its files are whole or absent."""
            outputs = list(info.job.output) if not info.job.is_group() else [path for job in info.job.jobs for path in job.output]
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

    return Follower


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


CHANGES = (
    Change(
        "one timer looks at the queue",
        "runs of many hundred jobs may end for want of threads",
        ("snakemake.scheduling.job_scheduler:JobScheduler._schedule_reevalutation",),
        one_timer,
    ),
    Change(
        "a function's parameters are asked for once",
        "planning takes a little longer",
        ("snakemake.common:overwrite_function_params", "snakemake.resources:Resource.evaluate"),
        signature_once,
    ),
    Change(
        "what is made under its key is finished, a table of another scale is not",
        "finished jobs may run once more and leave their results as they are; after a change of scale give `--forcerun table figure`",
        tuple(f"snakemake.dag:DAG.{name}" for name in ("update_needrun", "finished", "bfs", "jobs", "toposorted")),
        made_is_finished,
    ),
    Change(
        "one head a folder",
        "a folder that a killed head left has to be freed with `snakemake --unlock`, and jobs it left in SLURM's queue are not followed",
        ("snakemake.persistence:PersistenceBase.lock", "snakemake.persistence:PersistenceBase.unlock"),
        one_head,
    ),
    Change(
        "the interpreter's path is quoted in jobs of a cluster",
        "a checkout in a folder with spaces cannot send jobs to a cluster",
        (
            "snakemake_interface_executor_plugins.executors.remote:RemoteExecutor.get_python_executable",
            "snakemake_executor_plugin_slurm_jobstep:Executor.get_python_executable",
        ),
        quoted_interpreter,
    ),
    Change(
        "what failed is said",
        "errors of jobs stand in their logs alone, in results/logs",
        (
            "snakemake.logging:logger",
            "snakemake.settings.enums:Quietness.ALL",
            "snakemake_interface_logger_plugins.common:LogEvent.JOB_ERROR",
        ),
        say_what_failed,
    ),
)
