"""Every change that the workflow makes to Snakemake itself, in one place, with what SLURM needs in
`queues.py`.

Each change names what it needs of Snakemake. Where a release has renamed that, the change is left out, one
line says so and what that costs, and the workflow runs without it: no result depends on these changes.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from failures import FailedJobs, event
from queues import followed_queue

from condense.machine import locks

_LOCK_FILE = Path(".snakemake/condense.lock")


@dataclass(frozen=True)
class Change:
    """One change: what it is for, what it needs of Snakemake ('module:Class.attribute'), and what makes
    it."""

    purpose: str
    without: str  # what the user notices where it is left out
    needs: tuple[str, ...]
    make: Callable[[Any, Any], None]  # given the workflow and the `Head`


@dataclass(frozen=True)
class Head:
    """What the workflow tells the changes: which jobs' outputs are of another scale or lack files, what is
    checked before jobs start."""

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

    Snakemake 9 starts one at every look, each causes another look, and every finished job adds one more:
    after some hundred jobs it runs out of threads (its issue 3804).
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
    """Snakemake asks some ten times a job for the parameters of the same few functions, a tenth of
    planning."""
    from snakemake import common, rules
    from snakemake.resources import Resource

    common.overwrite_function_params(Resource.evaluate, inspect.signature(Resource.evaluate).parameters)
    plain = getattr(common.get_function_params, "plain", common.get_function_params)
    remembered = functools.lru_cache(maxsize=1000)(plain)

    def get_function_params(function: Callable[..., Any]) -> Any:
        return remembered(function) if isinstance(function, FunctionType) else plain(function)

    get_function_params.plain = plain
    common.get_function_params = rules.get_function_params = get_function_params


def made_is_finished(workflow: Any, head: Head) -> None:
    """A file under a key that is there counts as finished, and a table of another scale as forced.

    The key says what a file was made from, so neither times nor changed inputs matter; a table says in the
    file beside it what it was made from. Without this change, jobs whose results are there run, find that
    out, and leave them as they are.
    """
    from snakemake.dag import DAG

    plain = getattr(DAG.update_needrun, "plain", DAG.update_needrun)

    async def update_needrun(dag: Any, *arguments: Any, **named: Any) -> None:
        if not dag.workflow.remote_exec:  # a job of a cluster does what it was sent for
            dag.forcefiles.update(path for job in dag.jobs if head.outdated(job) for path in job.output)
        made = set() if dag.workflow.remote_exec else await _finished_before(dag)
        dag.finished = lambda job: job in made or job in dag._finished
        # Snakemake takes what lies behind a job that is to run for granted, which holds no longer behind one
        # that is finished.
        dag.bfs = lambda direction, *jobs, stop=lambda job: False: DAG.bfs(
            dag, direction, *jobs, stop=lambda job: job in made or stop(job)
        )
        try:
            await plain(dag, *arguments, **named)
        finally:
            del dag.finished, dag.bfs

    update_needrun.plain = plain
    DAG.update_needrun = update_needrun


async def _finished_before(dag: Any) -> set[Any]:
    """Jobs whose keyed results are there, and those that only such jobs would need."""
    made = {
        job for job in dag.jobs if _is_keyed(dag, job) and all([await path.exists() for path in job.output])
    }
    for level in reversed(list(dag.toposorted())):
        for job in level:
            needing = dag.depending[job]
            if needing and job not in dag.targetjobs and _is_keyed(dag, job) and made.issuperset(needing):
                made.add(job)
    return made


def _is_keyed(dag: Any, job: Any) -> bool:
    """Whether a key says what a job makes, and nobody forces it."""
    forced = (job.rule in dag.forcerules and job not in dag.omitforce) or not dag.forcefiles.isdisjoint(
        job.output
    )
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
                    # Goes with the locks, and is made at the start only
                    Path(".snakemake/locks").mkdir(exist_ok=True)
                head.check(list(workflow.dag.needrun_jobs()))
                with plain(persistence), followed_queue(workflow):
                    yield
        except locks.FolderTaken as error:
            raise WorkflowError(str(error)) from None

    PersistenceBase.lock_without_head = plain
    PersistenceBase.lock = contextmanager(lock)


def dry_runs_write_nothing(workflow: Any, head: Head) -> None:
    """Where no job has run yet, a dry run, a summary or a graph keeps what it would note beside the checkout,
    and forgets it."""
    from snakemake.exceptions import WorkflowError
    from snakemake.persistence.file import FilePersistence

    plain = getattr(FilePersistence, "init_in_place", FilePersistence.__init__)

    def init(persistence: Any, *arguments: Any, path: Path | None = None, **named: Any) -> None:
        runs_jobs = workflow.executor_plugin is not None and not workflow.dryrun
        if path is None and not runs_jobs and not Path(".snakemake").exists():
            path = workflow.snakemake_tmp_dir / "persistence"
        try:
            plain(persistence, *arguments, path=path, **named)
        except OSError as error:
            raise WorkflowError(
                f"{error.filename or '.snakemake'}: cannot be written ({error.strerror}), and a run notes "
                "there what it does; `--directory FOLDER` makes another folder the place of its notes and "
                "results"
            ) from None

    FilePersistence.init_in_place = plain
    FilePersistence.__init__ = init


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


def say_what_failed(workflow: Any, head: Head) -> None:
    """Errors of jobs are printed by `FailedJobs`, and no longer with a command of thousands of characters, or
    not at all."""
    from snakemake.logging import logger
    from snakemake.settings.enums import Quietness

    settings = workflow.output_settings
    if (
        Quietness.ALL in (settings.quiet or ())
        or settings.verbose
        or any(isinstance(h, FailedJobs) for h in logger.handlers)
    ):
        return

    def is_other(record: logging.LogRecord) -> bool:
        said = str(record.msg)
        # The last: of an output that was not there before the job, which is no fault.
        needless = said.startswith("RuleException:\nCalledProcessError") or said.endswith("no backup found.")
        return event(record) not in ("JOB_ERROR", "GROUP_ERROR") and not needless

    for handler in logger.handlers:
        handler.addFilter(is_other)
    logger.addHandler(FailedJobs())


def restored_as_old(workflow: Any, head: Head) -> None:
    """What a failed job leaves as it was, such as a table, keeps its time: else it would look younger than
    what it is made from, and nothing would be left to do."""
    from snakemake.persistence.file import FilePersistence

    backup = getattr(FilePersistence.backup_output, "plain", FilePersistence.backup_output)
    restore = getattr(FilePersistence.restore_output, "plain", FilePersistence.restore_output)

    def backup_output(persistence: Any, path: Path) -> None:
        backup(persistence, path)
        _copy_times(path, persistence._get_backup_path(path))

    def restore_output(persistence: Any, path: Path) -> bool:
        saved = persistence._get_backup_path(path)
        times = saved.stat() if saved.exists() else None
        restored = bool(restore(persistence, path))
        if restored and times:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return restored

    backup_output.plain, restore_output.plain = backup, restore
    FilePersistence.backup_output, FilePersistence.restore_output = backup_output, restore_output


def _copy_times(source: Path, target: Path) -> None:
    if source.exists() and target.exists():
        times = source.stat()
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


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
        (
            "snakemake.common:overwrite_function_params",
            "snakemake.common:get_function_params",
            "snakemake.rules:get_function_params",
            "snakemake.resources:Resource.evaluate",
        ),
        signature_once,
    ),
    Change(
        "what is made under its key is finished, a table of another scale is not",
        "finished jobs may run once more and leave their results as they are; after a change of scale give "
        "`--forcerun table figure`",
        tuple(
            f"snakemake.dag:DAG.{name}"
            for name in ("update_needrun", "finished", "bfs", "jobs", "toposorted")
        ),
        made_is_finished,
    ),
    Change(
        "one head a folder",
        "a folder that a killed head left has to be freed with `snakemake --unlock`, and jobs it left in "
        "SLURM's queue are not followed",
        ("snakemake.persistence:PersistenceBase.lock", "snakemake.persistence:PersistenceBase.unlock"),
        one_head,
    ),
    Change(
        "a dry run writes nothing",
        "a dry run makes the folder .snakemake, and fails where it may not",
        (
            "snakemake.persistence.file:FilePersistence.__init__",
            "snakemake.workflow:Workflow.executor_plugin",
            "snakemake.workflow:Workflow.dryrun",
            "snakemake.workflow:Workflow.snakemake_tmp_dir",
        ),
        dry_runs_write_nothing,
    ),
    Change(
        "what a failed job leaves as it was keeps its time",
        "after a table or page could not be made, its older version may pass for the new one: delete it",
        tuple(
            f"snakemake.persistence.file:FilePersistence.{name}"
            for name in ("backup_output", "restore_output", "_get_backup_path")
        ),
        restored_as_old,
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
