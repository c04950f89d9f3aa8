# What the process that runs the workflow does around the jobs. The changes to Snakemake itself are in
# workflow/interventions.py.
import shutil

import interventions
from condense.machine import gpus
from condense.command import prune
from condense.files.artifacts import read_json

LEAST_FREE = 16 << 20  # bytes; with less, a failed job is taken to have failed for want of space


def is_outdated(job):
    """Whether the table or figure of `job` is there but was made from something else, such as the cells of
    another scale; or whether shards were deleted of which the index that is the output of `job` tells."""
    named = job.wildcards_dict
    group = GROUPS.get((named.get("key"), f"{named.get('of')}{named.get('shard')}"))
    if group:
        return group.incomplete()
    made_from = job.params.get("made_from")
    if not made_from or not Path(job.output.manifest).exists():
        return False
    try:
        return manifest_digest(read_json(job.output.manifest)) != made_from
    except UserError:  # damaged: made again with its table
        return True


def check_before_jobs(jobs):
    """Before the first job: without a GPU on this machine, jobs that ask for one would fail one after
    another."""
    asking = [job for job in jobs if job.resources.get("gpu")]
    plugin = workflow.executor_plugin
    if asking and (plugin is None or plugin.name == "local"):
        reason = gpus.why_none()
        if reason:
            raise WorkflowError(
                f"{len(asking)} of {len(jobs)} jobs ask for a GPU, and no GPU can be used here: {reason}."
                " Give `--config device=cpu` to run"
                " them on the CPU; `condense doctor` says what is here"
            )


interventions.make_changes(workflow, interventions.Head(is_outdated, check_before_jobs))


onsuccess:
    stop_following()
    prune.sweep(Path("results"))


onerror:
    stop_following()
    # A job writes its message to its log, which a full disk does not take.
    free = shutil.disk_usage("results").free if Path("results").is_dir() else LEAST_FREE
    if free < LEAST_FREE:
        print(
            f"results: the disk is full ({free / 1e6:.0f} MB left); nothing was damaged: free some space and run"
            " the same command again",
            file=sys.stderr,
            flush=True,
        )
    print("What was finished stays; the same command goes on from there.", file=sys.stderr, flush=True)
