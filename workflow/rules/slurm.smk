# What a head that was killed left in SLURM's queue. The next one follows the jobs that make what it wants, as if it had sent
# them: they keep their node, or their place in the queue. It stops the others, and at its own end whatever is still there.
# Only the head of a folder gets here, so that a job of this folder belongs to no other living head.
from contextlib import contextmanager

from condense import slurm


@contextmanager
def queue_of_slurm():
    """Inside, the executor follows what is in the queue; afterwards nothing of this folder is there."""
    plugin, folder = workflow.executor_plugin, Path(workflow.workdir_init)
    if plugin is None or plugin.name != "slurm":
        yield
        return
    alone = [] if workflow.executor_settings.array_jobs else [job for job in workflow.dag.needrun_jobs() if not job.group]
    wanted = {slurm.comment(job.rule.name, job.wildcards) for job in alone}
    try:
        followed, others = slurm.divided(slurm.queue(folder), wanted)
        if followed or others:
            print(f"SLURM jobs that an earlier head left: {len(followed)} followed, {len(others)} stopped", file=sys.stderr, flush=True)
        slurm.stop(others, folder)
        plugin.executor = follower(plugin.executor, followed)
        try:
            yield
        finally:
            # After Ctrl-C the executor has cancelled the jobs that it knew of; one may just have been on its way.
            for job in slurm.stop(slurm.queue(folder), folder):
                print(f"SLURM job {job.number} was cancelled and is still there", file=sys.stderr, flush=True)
    except slurm.SlurmSilent as error:
        raise WorkflowError(f"{error}; the same command goes on once SLURM answers") from None


def follower(executor, followed):
    """The class `executor` of the plugin, whose jobs are at first those `followed`."""
    from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

    left = {job.comment: job for job in followed}

    class Follower(executor):
        def __post_init__(self, *arguments, **named):
            super().__post_init__(*arguments, **named)
            if followed:
                self.run_uuid = followed[0].head  # the name by which it asks for its jobs

        def run_job(self, job):
            found = None if job.is_group() else left.pop(slurm.comment(job.rule.name, job.wildcards), None)
            if found is None:
                super().run_job(job)
                return
            log = self.slurm_logdir / f"rule_{job.name}" / "_".join(job.wildcards).replace("/", "_") / f"{found.number}.log"
            self.logger.info(f"Job {job.jobid} follows SLURM job {found.number} (log: {log}).")
            self._report_job_submission_threadsafe(SubmittedJobInfo(job, external_jobid=found.number, aux={"slurm_logfile": log}))

    return Follower
